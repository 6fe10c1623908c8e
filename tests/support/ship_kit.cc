#include "tests/support/ship_kit.h"

#include <fstream>
#include <iterator>
#include <random>

#include "transport/bundle_reader.h"
#include "transport/manifest.h"

namespace hindcast::test {
namespace {

std::vector<uint8_t> random_bytes(std::mt19937& random, size_t n, bool compressible) {
  std::vector<uint8_t> v(n);
  for (auto& b : v) b = static_cast<uint8_t>(compressible && random() % 4 ? 0 : random());
  return v;
}

}  // namespace

MadeSnapshot make_snapshot(const std::string& host, const std::string& incident, uint32_t seed, size_t pt_bytes) {
  std::mt19937 random(seed ^ static_cast<uint32_t>(std::hash<std::string>{}(incident)));
  MadeSnapshot s;
  s.info.host = host;
  s.info.incident = incident;
  s.info.source = "simulated";
  s.info.created_unix_ns = 1700000000000000000u + seed;
  s.info.streams.resize(3);
  for (uint32_t i = 0; i < 3; ++i) {
    StreamInfo& info = s.info.streams[i];
    info.id = i + 1;
    info.kind = i < 2 ? StreamKind::pt : StreamKind::sideband;
    info.cpu = CpuId(i % 2);
    auto bytes = random_bytes(random, i < 2 ? pt_bytes / 2 + random() % 1000 : 3000 + random() % 9000, i == 2);
    constexpr size_t kPsbEvery = 5000;
    for (size_t at = random() % 100; i < 2 && at + 16 <= bytes.size(); at += kPsbEvery)
      for (size_t k = 0; k < 16; ++k) bytes[at + k] = k % 2 ? 0x82 : 2;
    info.bytes = bytes.size();
    s.streams.push_back(std::move(bytes));
  }
  std::mt19937 shared(seed);
  s.images = {random_bytes(shared, 150000, true), random_bytes(random, 500, false)};
  s.info.images = {{1, ImageKind::elf, "00ff", "/usr/bin/thing", s.images[0].size()},
                   {2, ImageKind::memory, "", "//anon", s.images[1].size()}};
  return s;
}

Result<uint64_t> keep(transport::Spool& spool, const MadeSnapshot& s) {
  uint64_t expected = 0;
  for (const auto& b : s.streams) expected += b.size();
  for (const auto& b : s.images) expected += b.size();
  HC_TRY(auto writer, spool.begin(s.info.incident, s.info.host, expected));
  for (size_t i = 0; i < s.images.size(); ++i) HC_TRY_VOID(writer.append_image(s.info.images[i].id, s.images[i]));
  for (size_t i = s.streams.size(); i-- > 0;)
    HC_TRY_VOID(writer.append_stream(s.info.streams[i].id, s.info.streams[i].kind, s.streams[i]));
  return writer.finish(s.info);
}

std::string difference(const std::string& path, const MadeSnapshot& s) {
  auto r = transport::BundleReader::open(path);
  if (!r.ok()) return r.error().text();
  if (!r->damage().empty()) return r->damage()[0].what;
  if (r->snapshot_count() != 1) return "not one snapshot";
  if (transport::manifest_text(r->snapshot(0)) != transport::manifest_text(s.info)) return "another manifest";
  for (size_t i = 0; i < s.streams.size(); ++i) {
    auto bytes = r->read_stream(0, s.info.streams[i].id);
    if (!bytes.ok() || *bytes != s.streams[i]) return "stream " + std::to_string(i) + " differs";
  }
  for (size_t i = 0; i < s.images.size(); ++i) {
    auto bytes = r->read_image(0, s.info.images[i].id);
    if (!bytes.ok() || *bytes != s.images[i]) return "image " + std::to_string(i) + " differs";
  }
  return {};
}

std::vector<uint8_t> bytes_of_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace hindcast::test
