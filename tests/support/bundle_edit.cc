#include "tests/support/bundle_edit.h"

#include "transport/bundle_writer.h"

namespace hindcast::test {
namespace {

template <class R>
auto must(R&& r) {
  if (!r.ok()) {
    std::fprintf(stderr, "%s\n", r.error().text().c_str());
    std::abort();
  }
  if constexpr (requires { std::move(r).value(); }) return std::move(r).value();
}

}  // namespace

std::unique_ptr<MemorySnapshot> read_bundle(const std::string& path) {
  const auto reader = must(transport::BundleReader::open(path));
  auto s = std::make_unique<MemorySnapshot>();
  s->info = reader.snapshot(0);
  for (const StreamInfo& i : s->info.streams) s->source.streams[i.id] = must(reader.read_stream(0, i.id));
  for (const ImageInfo& i : s->info.images) s->source.images[i.id] = must(reader.read_image(0, i.id));
  return s;
}

void write_bundle(MemorySnapshot& snapshot, const std::string& path) {
  static constexpr size_t kPiece = size_t{64} << 10;  // small, so that damage to the file has many chunks to hit
  for (StreamInfo& s : snapshot.info.streams) s.bytes = snapshot.source.streams[s.id].size();
  for (ImageInfo& i : snapshot.info.images) i.bytes = snapshot.source.images[i.id].size();
  auto writer = must(transport::BundleWriter::create(path));
  must(writer.begin_snapshot(snapshot.info));
  const auto pieces = [](const std::vector<uint8_t>& bytes, const auto& append) {
    for (size_t at = 0; at < bytes.size(); at += kPiece)
      must(append(ByteSpan(bytes).subspan(at, std::min(kPiece, bytes.size() - at))));
  };
  for (const ImageInfo& i : snapshot.info.images)
    pieces(snapshot.source.images[i.id], [&](ByteSpan b) { return writer.append_image(i.id, b); });
  for (const bool trace : {false, true})
    for (const StreamInfo& s : snapshot.info.streams)
      if ((s.kind == StreamKind::pt) == trace)
        pieces(snapshot.source.streams[s.id], [&](ByteSpan b) { return writer.append_stream(s.id, b); });
  must(writer.end_snapshot(snapshot.info));
  must(writer.finish());
}

}  // namespace hindcast::test
