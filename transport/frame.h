// One message to and from its frames (wire.proto). Sizes are checked before anything is parsed or decompressed.
#pragma once

#include <hindcast_wire/wire.pb.h>

#include <string>
#include <vector>

#include "hindcast/bundle_format.h"
#include "hindcast/bytes.h"
#include "hindcast/result.h"
#include "transport/chunk_codec.h"

namespace hindcast::transport {

inline constexpr uint32_t kProtocolMajor = 1;
inline constexpr uint32_t kProtocolMinor = 0;
inline constexpr size_t kMaxControlBytes = size_t{256} << 10;           // the first frame
inline constexpr size_t kMaxFrameBytes = bundle::kMaxChunkStoredBytes;  // any frame

/// The first frame.
std::string control_frame(const wire::Envelope& envelope);
/// Its opposite. Errors: too_large; bad_input. An envelope without a known body is no error: a newer version sent it.
Result<wire::Envelope> parse_control(ByteSpan frame);

/// The Payload of a body that has one; nullptr: its message is one frame.
const wire::Payload* payload_of(const wire::Envelope& envelope);

/// What a payload costs of the credit: the memory that its receiver must have.
uint64_t cost_of(const wire::Payload& payload, size_t stored_bytes);

/// The chunk header fields that a payload states, checksummed: what ChunkDecoder takes. `offset` of the raw bytes.
/// Errors: too_large, bad_input: sizes beyond the limits, an offset that would overflow, a frame of another size.
Result<bundle::ChunkHeader> header_of(const wire::Payload& payload, uint64_t offset, size_t stored_bytes);

/// The raw bytes of a payload, checksum verified. Errors: those of header_of and ChunkDecoder.
Result<std::vector<uint8_t>> unpack(const wire::Payload& payload, uint64_t offset, ByteSpan stored,
                                    ChunkDecoder& decoder);

/// Packs raw bytes: fills payload and returns the second frame, lent by the encoder.
ByteSpan pack(ByteSpan raw, ChunkEncoder& encoder, wire::Payload& payload);
/// States bytes that are packed already, in a bundle's chunk.
void describe(const bundle::ChunkHeader& header, wire::Payload& payload);

/// Errors across the wire. Texts from outside are cut to a readable length.
void put_error(const Error& error, wire::Problem& problem);
Error error_of(const wire::Problem& problem);

}  // namespace hindcast::transport
