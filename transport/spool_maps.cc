// Serialises SpoolMaps; rebuilds them from a bundle piece by piece.
#include "transport/spool_maps.h"

#include <algorithm>
#include <cstring>

#include "transport/bundle_reader.h"
#include "transport/chunk_codec.h"

namespace hindcast::transport {
namespace {

constexpr std::string_view kMagic{"HCMAP1\r\n"};
constexpr uint64_t kPiece = uint64_t{4} << 20;

}  // namespace

void sort_maps(SpoolMaps& maps) {
  std::sort(maps.images.begin(), maps.images.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  std::sort(maps.streams.begin(), maps.streams.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

std::vector<uint8_t> spool_maps_bytes(const SpoolMaps& maps) {
  std::vector<uint8_t> out;
  out.reserve(4096);  // also keeps g++ 12 from seeing an overflow that is not there
  ByteWriter w(out);
  w.text(kMagic);
  w.u32(static_cast<uint32_t>(maps.images.size()));
  for (const SpoolMaps::Image& i : maps.images) {
    w.u32(i.id);
    w.bytes(i.content);
  }
  w.u32(static_cast<uint32_t>(maps.streams.size()));
  for (const SpoolMaps::Stream& s : maps.streams) {
    w.u32(s.id);
    w.u32(0);
    w.u64(s.map.mapped_bytes);
    w.u64(s.map.entries.size());
    w.bytes({reinterpret_cast<const uint8_t*>(s.map.entries.data()), s.map.entries.size() * sizeof(PsbEntry)});
  }
  w.u64(checksum_of(out));
  return out;
}

Result<SpoolMaps> parse_spool_maps(ByteSpan bytes) {
  const Error damaged{Errc::corrupt, "a map file of the spool is damaged", {}, {}};
  if (bytes.size() < kMagic.size() + 16 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) return damaged;
  const ByteSpan body = bytes.first(bytes.size() - 8);
  if (ByteReader(bytes.last(8)).u64() != checksum_of(body)) return damaged;
  ByteReader r(body);
  r.skip(kMagic.size());
  SpoolMaps maps;
  const uint32_t images = r.u32();
  if (images > r.left() / 36) return damaged;
  for (uint32_t i = 0; i < images; ++i) {
    SpoolMaps::Image image{r.u32(), {}};
    const ByteSpan content = r.take(image.content.size());
    if (content.size() != image.content.size() || (i > 0 && image.id <= maps.images.back().id)) return damaged;
    std::copy(content.begin(), content.end(), image.content.begin());
    maps.images.push_back(image);
  }
  const uint32_t streams = r.u32();
  if (streams > r.left() / 24) return damaged;
  for (uint32_t i = 0; i < streams; ++i) {
    SpoolMaps::Stream s;
    s.id = r.u32();
    r.skip(4);
    s.map.mapped_bytes = r.u64();
    const uint64_t n = r.u64();
    if (n > PsbScanner::kMaxEntries || n > r.left() / sizeof(PsbEntry) || (i > 0 && s.id <= maps.streams.back().id))
      return damaged;
    s.map.entries.resize(n);
    const ByteSpan entries = r.take(n * sizeof(PsbEntry));
    if (n) std::memcpy(s.map.entries.data(), entries.data(), entries.size());
    for (size_t k = 0; k < n; ++k)
      if (s.map.entries[k].offset >= s.map.mapped_bytes ||
          (k > 0 && s.map.entries[k].offset <= s.map.entries[k - 1].offset))
        return damaged;
    maps.streams.push_back(std::move(s));
  }
  if (r.failed() || r.left() != 0) return damaged;
  return maps;
}

Result<SpoolMaps> maps_of_bundle(const std::string& path) {
  HC_TRY(const BundleReader reader, BundleReader::open(path));
  if (!reader.damage().empty()) return Error{Errc::corrupt, path + ": " + reader.damage()[0].what, {}, {}};
  SpoolMaps maps;
  for (const ImageInfo& image : reader.snapshot(0).images) {
    HC_TRY(const auto bytes, reader.read_image(0, image.id));
    Hasher h;
    h.add(bytes);
    maps.images.push_back({image.id, h.finish()});
  }
  for (const StreamInfo& stream : reader.snapshot(0).streams) {
    if (stream.kind != StreamKind::pt) continue;
    PsbScanner scanner;
    for (uint64_t at = 0; at < stream.bytes;) {
      HC_TRY(const auto piece, reader.read_stream(0, stream.id, at, std::min(kPiece, stream.bytes - at)));
      scanner.feed(piece);
      at += piece.size();
    }
    maps.streams.push_back({stream.id, std::move(scanner).finish()});
  }
  sort_maps(maps);
  return maps;
}

}  // namespace hindcast::transport
