// zstd and XXH3 around one chunk.
#include "transport/chunk_codec.h"

#include <xxhash.h>
#include <zstd.h>

#include <cstring>

namespace hindcast::transport {

uint64_t checksum_of(ByteSpan bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t header_checksum(const bundle::ChunkHeader& header) {
  return XXH3_64bits(&header, offsetof(bundle::ChunkHeader, checksum));
}

struct ChunkEncoder::Impl {
  ZSTD_CCtx* context = nullptr;
  std::vector<uint8_t> buffer;
};

ChunkEncoder::ChunkEncoder() : impl_(std::make_unique<Impl>()) {
  impl_->context = ZSTD_createCCtx();
  HC_CHECK(impl_->context != nullptr);
}
ChunkEncoder::~ChunkEncoder() { ZSTD_freeCCtx(impl_->context); }

ByteSpan ChunkEncoder::encode(ByteSpan raw, bundle::ChunkHeader& header) {
  HC_CHECK(!raw.empty() && raw.size() <= bundle::kMaxChunkRawBytes);
  impl_->buffer.resize(ZSTD_compressBound(raw.size()));
  const size_t n =
      ZSTD_compressCCtx(impl_->context, impl_->buffer.data(), impl_->buffer.size(), raw.data(), raw.size(), kZstdLevel);
  const bool pays = !ZSTD_isError(n) && n < raw.size();
  const ByteSpan stored = pays ? ByteSpan(impl_->buffer).first(n) : raw;
  header.magic = bundle::kChunkMagic;
  header.flags = pays ? bundle::kZstd : 0;
  header.reserved = 0;
  header.raw_bytes = static_cast<uint32_t>(raw.size());
  header.stored_bytes = static_cast<uint32_t>(stored.size());
  header.raw_checksum = checksum_of(raw);
  header.checksum = header_checksum(header);
  return stored;
}

const char* header_problem(const bundle::ChunkHeader& h) {
  if (h.magic != bundle::kChunkMagic) return "no chunk header where one should be";
  if (h.checksum != header_checksum(h)) return "a chunk header whose checksum does not match";
  if (h.raw_bytes == 0 || h.raw_bytes > bundle::kMaxChunkRawBytes) return "a chunk of an impossible size";
  if (h.stored_bytes == 0 || h.stored_bytes > bundle::kMaxChunkStoredBytes)
    return "a chunk of an impossible stored size";
  if (h.offset > UINT64_MAX - h.raw_bytes) return "a chunk at an impossible offset";
  return nullptr;
}

namespace {

Error damaged(const char* why) { return {Errc::corrupt, why, {}, {}}; }

/// The frame's own claims are compared first, so that a bomb costs no more than the limit that the header keeps.
Result<void> check_claims(const bundle::ChunkHeader& header, ByteSpan stored) {
  HC_CHECK(header_problem(header) == nullptr && stored.size() == header.stored_bytes);
  if (header.flags & ~bundle::kKnownChunkFlags)
    return Error{Errc::unsupported,
                 "a chunk is encoded in a way that this version does not know",
                 {},
                 "use a newer version of hindcast"};
  if (header.flags & bundle::kZstd) {
    if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != header.raw_bytes)
      return damaged("a compressed chunk states another size than its header");
    if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
      return damaged("a compressed chunk is not exactly one frame");
  } else if (stored.size() != header.raw_bytes) {
    return damaged("a plain chunk has another size than its header states");
  }
  return {};
}

}  // namespace

struct ChunkDecoder::Impl {
  ZSTD_DCtx* context = nullptr;
};

ChunkDecoder::ChunkDecoder() : impl_(std::make_unique<Impl>()) {
  impl_->context = ZSTD_createDCtx();
  HC_CHECK(impl_->context != nullptr);
}
ChunkDecoder::~ChunkDecoder() { ZSTD_freeDCtx(impl_->context); }

Result<void> ChunkDecoder::decode(const bundle::ChunkHeader& header, ByteSpan stored, std::span<uint8_t> raw) {
  HC_CHECK(raw.size() == header.raw_bytes);
  HC_TRY_VOID(check_claims(header, stored));
  return unpack(header, stored, raw);
}

/// Behind check_claims().
Result<void> ChunkDecoder::unpack(const bundle::ChunkHeader& header, ByteSpan stored, std::span<uint8_t> raw) {
  if (header.flags & bundle::kZstd) {
    const size_t n = ZSTD_decompressDCtx(impl_->context, raw.data(), raw.size(), stored.data(), stored.size());
    if (ZSTD_isError(n) || n != raw.size()) return damaged("a compressed chunk cannot be decompressed");
  } else {
    std::memcpy(raw.data(), stored.data(), raw.size());
  }
  if (checksum_of(raw) != header.raw_checksum) return damaged("a chunk's checksum does not match its bytes");
  return {};
}

Result<std::vector<uint8_t>> ChunkDecoder::decode(const bundle::ChunkHeader& header, ByteSpan stored) {
  HC_TRY_VOID(check_claims(header, stored));
  std::vector<uint8_t> raw(header.raw_bytes);
  HC_TRY_VOID(unpack(header, stored, raw));
  return raw;
}

}  // namespace hindcast::transport
