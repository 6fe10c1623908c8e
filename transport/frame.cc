// Checks and conversions around protobuf and chunk_codec.h.
#include "transport/frame.h"

#include <algorithm>

namespace hindcast::transport {
namespace {

constexpr size_t kMostErrorText = 2000;

std::string cut(const std::string& s) { return s.substr(0, kMostErrorText); }

}  // namespace

std::string control_frame(const wire::Envelope& envelope) {
  std::string s = envelope.SerializeAsString();
  HC_CHECK(s.size() <= kMaxControlBytes);
  return s;
}

Result<wire::Envelope> parse_control(ByteSpan frame) {
  if (frame.size() > kMaxControlBytes)
    return Error{Errc::too_large,
                 "a message's first frame is too long",
                 std::to_string(frame.size()) + " bytes; at most " + std::to_string(kMaxControlBytes),
                 {}};
  wire::Envelope envelope;
  if (!envelope.ParseFromArray(frame.data(), static_cast<int>(frame.size())))
    return Error{Errc::bad_input, "a message's first frame is not an envelope", {}, {}};
  return envelope;
}

const wire::Payload* payload_of(const wire::Envelope& e) {
  switch (e.body_case()) {
    case wire::Envelope::kManifest:
      return e.manifest().has_payload() ? &e.manifest().payload() : nullptr;
    case wire::Envelope::kDirectory:
      return &e.directory().payload();
    case wire::Envelope::kPsbMap:
      return &e.psb_map().payload();
    case wire::Envelope::kChunk:
      return &e.chunk().payload();
    default:
      return nullptr;
  }
}

uint64_t cost_of(const wire::Payload& payload, size_t stored_bytes) {
  constexpr uint64_t kPerMessage = 256;
  return std::max<uint64_t>(payload.raw_bytes(), stored_bytes) + kPerMessage;
}

Result<bundle::ChunkHeader> header_of(const wire::Payload& payload, uint64_t offset, size_t stored_bytes) {
  bundle::ChunkHeader h{};
  h.magic = bundle::kChunkMagic;
  h.flags = payload.zstd() ? bundle::kZstd : 0;
  h.offset = offset;
  h.raw_bytes = payload.raw_bytes();
  h.stored_bytes = static_cast<uint32_t>(std::min<size_t>(stored_bytes, UINT32_MAX));
  h.raw_checksum = payload.checksum();
  h.checksum = header_checksum(h);
  if (const char* problem = header_problem(h))
    return Error{Errc::too_large,
                 std::string("a message has ") + problem,
                 std::to_string(payload.raw_bytes()) + " bytes raw, " + std::to_string(stored_bytes) +
                     " stored, at offset " + std::to_string(offset),
                 {}};
  return h;
}

Result<std::vector<uint8_t>> unpack(const wire::Payload& payload, uint64_t offset, ByteSpan stored,
                                    ChunkDecoder& decoder) {
  HC_TRY(const bundle::ChunkHeader header, header_of(payload, offset, stored.size()));
  return decoder.decode(header, stored);
}

ByteSpan pack(ByteSpan raw, ChunkEncoder& encoder, wire::Payload& payload) {
  bundle::ChunkHeader header{};
  const ByteSpan stored = encoder.encode(raw, header);
  describe(header, payload);
  return stored;
}

void describe(const bundle::ChunkHeader& header, wire::Payload& payload) {
  payload.set_raw_bytes(header.raw_bytes);
  payload.set_checksum(header.raw_checksum);
  payload.set_zstd(header.flags & bundle::kZstd);
}

void put_error(const Error& error, wire::Problem& problem) {
  problem.set_code(static_cast<uint32_t>(error.code));
  problem.set_what(cut(error.what));
  problem.set_found(cut(error.found));
  problem.set_fix(cut(error.fix));
}

Error error_of(const wire::Problem& p) {
  const bool known = p.code() <= static_cast<uint32_t>(Errc::corrupt);
  return {known ? static_cast<Errc>(p.code()) : Errc::bad_input, cut(p.what()), cut(p.found()), cut(p.fix())};
}

}  // namespace hindcast::transport
