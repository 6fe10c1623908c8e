#include "transport/packed_file.h"

#include <cstring>

#include "transport/bundle_bytes.h"
#include "transport/chunk_codec.h"
#include "transport/durable_file.h"
#include "transport/on_all_cpus.h"

namespace hindcast::transport {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kAlone = 4;  // pieces that are not worth a thread

Error damaged(const std::string& path, const char* why) {
  return Error{Errc::corrupt, "cannot read " + path + ": " + why, {}, "remove it: it is made again"};
}

}  // namespace

Result<void> write_packed(const std::string& path, ByteSpan bytes) {
  HC_CHECK(!bytes.empty());
  std::vector<std::vector<uint8_t>> pieces((bytes.size() + kPiece - 1) / kPiece);
  on_all_cpus(pieces.size(), kAlone, [&] {
    return [&, encoder = std::make_unique<ChunkEncoder>()](size_t i) {
      bundle::ChunkHeader header{};
      header.offset = i * kPiece;
      header.snapshot = static_cast<uint32_t>(pieces.size());
      const ByteSpan stored =
          encoder->encode(bytes.subspan(i * kPiece, std::min(kPiece, bytes.size() - i * kPiece)), header);
      ByteWriter out(pieces[i]);
      out.put(header);
      out.bytes(stored);
    };
  });
  std::vector<uint8_t> file;
  for (const auto& piece : pieces) file.insert(file.end(), piece.begin(), piece.end());
  return write_whole(path, file);
}

Result<std::vector<uint8_t>> read_packed(const std::string& path, uint64_t most) {
  HC_TRY(const BundleBytes file, BundleBytes::file(path));
  struct Piece {
    bundle::ChunkHeader header;
    uint64_t at;
  };
  std::vector<Piece> pieces;
  uint64_t raw = 0;
  for (uint64_t at = 0; at < file.size();) {
    Piece piece{{}, at + sizeof(bundle::ChunkHeader)};
    if (!file.read_struct(at, piece.header)) return damaged(path, "it is cut short");
    if (const char* problem = header_problem(piece.header)) return damaged(path, problem);
    if (piece.header.offset != raw) return damaged(path, "its pieces do not follow each other");
    raw += piece.header.raw_bytes;
    if (raw > most)
      return Error{Errc::too_large, "cannot read " + path + ": it is larger than such a file can be",
                   "at most " + std::to_string(most) + " bytes", "remove it: it is made again"};
    at = piece.at + piece.header.stored_bytes;
    if (at > file.size()) return damaged(path, "it is cut short");
    pieces.push_back(piece);
  }
  if (pieces.empty() || pieces.size() != pieces[0].header.snapshot) return damaged(path, "it is cut short");
  std::vector<uint8_t> out(raw);
  std::atomic<bool> whole{true};
  on_all_cpus(pieces.size(), kAlone, [&] {
    return [&, decoder = std::make_unique<ChunkDecoder>()](size_t i) {
      const Piece& piece = pieces[i];
      std::vector<uint8_t> stored(piece.header.stored_bytes);
      const bool is_read = file.read(piece.at, stored);
      const auto bytes = is_read ? decoder->decode(piece.header, stored) : damaged(path, "it cannot be read");
      if (bytes.ok())
        std::memcpy(out.data() + piece.header.offset, bytes->data(), bytes->size());
      else
        whole = false;
    };
  });
  if (!whole) return damaged(path, "its checksums do not match");
  return out;
}

}  // namespace hindcast::transport
