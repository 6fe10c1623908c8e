// A ByteSource over vectors, and corpus traces through the importers.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/decoder.h"
#include "server/import/import.h"
#include "tests/support/corpus.h"
#include "transport/bundle_reader.h"

namespace hindcast::test {

class MemorySource final : public ByteSource {
 public:
  std::map<uint32_t, std::vector<uint8_t>> streams, images;
  std::map<uint32_t, std::vector<uint64_t>> holes;  // of streams

  Result<SharedBytes> stream(uint32_t id) override {
    auto found = find(streams, id);
    if (const auto it = holes.find(id); found.ok() && it != holes.end()) found->holes = it->second;
    return found;
  }
  Result<SharedBytes> image(uint32_t id) override { return find(images, id); }

 private:
  static Result<SharedBytes> find(const std::map<uint32_t, std::vector<uint8_t>>& all, uint32_t id) {
    const auto it = all.find(id);
    if (it == all.end()) return Error{Errc::not_found, "no bytes with id " + std::to_string(id), {}, {}};
    return SharedBytes{nullptr, it->second, {}};
  }
};

struct MemorySnapshot {
  SnapshotInfo info;
  MemorySource source;
};

/// What request says, imported; ends the process with the error when that fails.
inline std::unique_ptr<MemorySnapshot> import_snapshot(const server::ImportRequest& request) {
  const auto must = [](const auto& r) {
    if (r.ok()) return;
    std::fprintf(stderr, "%s\n", r.error().text().c_str());
    std::exit(1);
  };
  char folder[] = "/tmp/hindcast-test-XXXXXX";
  if (!::mkdtemp(folder)) std::exit(1);
  const std::string path = std::string(folder) + "/t.hcb";
  must(server::import_to_bundle(request, path));
  auto reader = transport::BundleReader::open(path);
  must(reader);
  auto s = std::make_unique<MemorySnapshot>();
  s->info = reader->snapshot(0);
  for (const StreamInfo& i : s->info.streams) {
    auto bytes = reader->read_stream(0, i.id);
    must(bytes);
    s->source.streams[i.id] = std::move(bytes).value();
  }
  for (const ImageInfo& i : s->info.images) {
    auto bytes = reader->read_image(0, i.id);
    must(bytes);
    s->source.images[i.id] = std::move(bytes).value();
  }
  std::remove(path.c_str());
  ::rmdir(folder);
  return s;
}

/// A trace of the corpus as the importers read it.
inline std::unique_ptr<MemorySnapshot> corpus_snapshot(const CorpusTrace& t) {
  server::ImportRequest r;
  r.input = t.folder;
  if (t.family != 0) {
    r.cpu.family = t.family;
    r.cpu.model = t.model;
    r.cpu.stepping = t.stepping;
  }
  if (t.expected.contains("nom_freq")) {
    r.cpu.nominal_ratio = t.expected["nom_freq"].get<uint8_t>();
    r.cpu.tsc_ctc_den = t.expected["cpuid_0x15_eax"].get<uint32_t>();
    r.cpu.tsc_ctc_num = t.expected["cpuid_0x15_ebx"].get<uint32_t>();
  }
  return import_snapshot(r);
}

}  // namespace hindcast::test
