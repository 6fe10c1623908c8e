// A spool whose small files were damaged: maps and records of any content beside a good bundle, and a bundle that was
// patched or cut.
//
// Opinions: what parses as maps serialises to the same bytes; opening never loses the bundle; whatever .map and .committed
// hold, the snapshot is shipped with the maps that its bytes give, unless they say the same with a right checksum; a bundle
// that is not whole is told as damaged and never waits.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/fuzz/fuzz_support.h"
#include "tests/support/ship_kit.h"
#include "transport/chunk_codec.h"
#include "transport/spool_maps.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT
namespace fs = std::filesystem;

struct Good {
  std::string folder;
  std::vector<uint8_t> bundle, map, committed;
  Digest digest{};
  Good() {
    std::string name = (fs::temp_directory_path() / "hindcast-spool-fuzz-XXXXXX").string();
    MUST(::mkdtemp(name.data()) != nullptr);
    folder = name;
    {
      auto spool = Spool::open({folder, uint64_t{1} << 30});
      MUST(spool.ok() && test::keep(**spool, test::make_snapshot("h", "i", 1, 8000)).ok());
      auto s = (*spool)->open_snapshot("i");
      MUST(s.ok());
      digest = s->digest;
      MUST((*spool)->mark_committed("i", digest).ok());
    }
    bundle = test::bytes_of_file(folder + "/i.hcb");
    map = test::bytes_of_file(folder + "/i.map");
    committed = test::bytes_of_file(folder + "/i.committed");
  }
  ~Good() { fs::remove_all(folder); }
};

const Good& good() {
  static const Good g;
  return g;
}

void write(const std::string& name, ByteSpan bytes) {
  std::ofstream(good().folder + "/" + name, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static const std::vector<uint8_t> seed = [] {
    std::vector<uint8_t> s{0};
    s.insert(s.end(), good().map.begin(), good().map.end());
    return s;
  }();
  return mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const Good& g = good();
  const unsigned which = data[0] % 4;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (which < 2) {
    if (which == 1 && bytes.size() >= 8) {  // with the checksum put right
      const uint64_t sum = checksum_of(ByteSpan(bytes).first(bytes.size() - 8));
      std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
    }
    const auto maps = parse_spool_maps(bytes);
    if (maps.ok()) {
      // The reserved word is the only thing that a reader skips.
      auto again = parse_spool_maps(spool_maps_bytes(*maps));
      MUST(again.ok() && spool_maps_bytes(*again) == spool_maps_bytes(*maps));
    }
    write("i.hcb", g.bundle);
    write("i.map", bytes);
    write("i.committed", g.committed);
    auto spool = Spool::open({g.folder, uint64_t{1} << 30});
    MUST(spool.ok() && (*spool)->entries().size() == 1 && (*spool)->entries()[0].committed);
    auto s = (*spool)->open_snapshot("i");
    MUST(s.ok() && s->digest == g.digest);
    if (!maps.ok()) MUST(spool_maps_bytes(s->maps) == g.map);
    return 0;
  }
  if (which == 2) {
    write("i.hcb", g.bundle);
    write("i.map", g.map);
    write("i.committed", bytes);
    auto spool = Spool::open({g.folder, uint64_t{1} << 30});
    MUST(spool.ok() && (*spool)->entries().size() == 1);
    // Nobody guesses the record: only one that this snapshot's digest is in counts.
    if ((*spool)->entries()[0].committed)
      MUST(bytes.size() == g.committed.size() && std::equal(g.digest.begin(), g.digest.end(), bytes.begin() + 8));
    return 0;
  }
  // Patches of three bytes: where, where, what; an odd count of bytes cuts the file.
  std::vector<uint8_t> bundle = g.bundle;
  for (size_t i = 0; i + 3 <= bytes.size() && i < 30; i += 3)
    bundle[(bytes[i] | size_t{bytes[i + 1]} << 8) % bundle.size()] = bytes[i + 2];
  if (bytes.size() % 2) bundle.resize(bundle.size() - 1 - bytes[0] * size_t{7} % bundle.size());
  write("i.hcb", bundle);
  write("i.map", g.map);
  fs::remove(g.folder + "/i.committed");
  auto spool = Spool::open({g.folder, uint64_t{1} << 30});
  MUST(spool.ok() && (*spool)->entries().size() == 1);
  MUST((*spool)->waiting().size() + (*spool)->damaged().size() == 1);
  auto s = (*spool)->open_snapshot("i");
  MUST(s.ok() == (*spool)->damaged().empty());
  if (bundle.size() != g.bundle.size()) MUST(!s.ok());
  return 0;
}
