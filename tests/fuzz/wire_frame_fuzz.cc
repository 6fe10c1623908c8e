// Frames from a host that may send anything: the control frame, its payload, and a directory rebuilt from it.
//
// Opinions: what parses also parses from what it serialises to; unpacked bytes have the stated size and pack again to the
// same bytes; a directory without a directory_problem() has chunks one after the other, ends where its trailer says, and
// its digest changes with any entry.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "tests/fuzz/fuzz_support.h"
#include "tests/unit/transport/raw_bundle.h"
#include "transport/directory.h"
#include "transport/frame.h"
#include "transport/names.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT

void check_directory(ByteSpan raw, const wire::Manifest& m) {
  Directory d;
  if (m.file_header().size() == sizeof d.header) std::memcpy(&d.header, m.file_header().data(), sizeof d.header);
  if (m.trailer().size() == sizeof d.trailer) std::memcpy(&d.trailer, m.trailer().data(), sizeof d.trailer);
  d.chunks.resize(raw.size() / sizeof(bundle::IndexEntry));
  if (!d.chunks.empty()) std::memcpy(d.chunks.data(), raw.data(), d.chunks.size() * sizeof(bundle::IndexEntry));
  // The checksums that mutated parts would need: a liar can compute them too.
  for (auto& e : d.chunks) e.header.checksum = header_checksum(e.header);
  d.header.checksum = checksum_of(struct_bytes(d.header).first(offsetof(bundle::FileHeader, checksum)));
  d.trailer.checksum = checksum_of(struct_bytes(d.trailer).first(offsetof(bundle::Trailer, checksum)));
  if (!directory_problem(d).empty()) return;
  uint64_t at = sizeof d.header;
  for (const auto& e : d.chunks) {
    MUST(e.file_offset == at && e.header.raw_bytes <= bundle::kMaxChunkRawBytes);
    at += sizeof e.header + e.header.stored_bytes;
  }
  MUST(at + sizeof d.trailer == d.trailer.file_bytes);
  const Digest digest = d.digest();
  d.chunks[0].header.raw_checksum ^= 1;
  MUST(d.digest() != digest);
}

/// A manifest, then one small directory that is right, as the input's bytes: control frame length, control, payload.
const std::vector<uint8_t>& seed_input() {
  static const std::vector<uint8_t> seed = [] {
    wire::Envelope e;
    e.set_session(1);
    wire::Manifest& m = *e.mutable_manifest();
    m.mutable_snapshot()->set_host("h");
    m.mutable_snapshot()->set_incident("i");
    m.set_digest(std::string(32, 'd'));
    RawBundle b;
    b.stream(0, 1, 0, "some trace").image(0, 2, 0, "some code").manifest(0, "{}").end();
    const auto d = read_directory(BundleBytes(b.bytes()));
    MUST(d.ok());
    m.set_file_header(&d->header, sizeof d->header);
    m.set_trailer(&d->trailer, sizeof d->trailer);
    m.set_chunks(static_cast<uint32_t>(d->chunks.size()));
    const ByteSpan raw{reinterpret_cast<const uint8_t*>(d->chunks.data()),
                       d->chunks.size() * sizeof(bundle::IndexEntry)};
    // Plain, so that mutations reach the entries.
    m.mutable_payload()->set_raw_bytes(static_cast<uint32_t>(raw.size()));
    m.mutable_payload()->set_checksum(checksum_of(raw));
    const std::string control = control_frame(e);
    std::vector<uint8_t> out{static_cast<uint8_t>(control.size()), static_cast<uint8_t>(control.size() >> 8)};
    out.insert(out.end(), control.begin(), control.end());
    out.insert(out.end(), raw.begin(), raw.end());
    return out;
  }();
  return seed;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  return mutate_from_template(seed_input(), data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t n = std::min<size_t>(data[0] | size_t{data[1]} << 8, size - 2);
  const ByteSpan control{data + 2, n}, stored{data + 2 + n, size - 2 - n};
  auto e = parse_control(control);
  if (!e.ok()) return 0;
  const std::string text = e->SerializeAsString();
  auto again = parse_control({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  MUST(again.ok() && again->SerializeAsString() == text);
  if (e->has_problem()) {
    wire::Problem p;
    put_error(error_of(e->problem()), p);
    MUST(p.what().size() <= e->problem().what().size());
  }
  const wire::Payload* payload = payload_of(*e);
  if (!payload) return 0;
  ChunkDecoder decoder;
  const uint64_t offset = e->has_chunk() ? e->chunk().offset() : 0;
  MUST(cost_of(*payload, stored.size()) >= stored.size());
  // As it is, and with the checksum that a liar would put in.
  auto raw = unpack(*payload, offset, stored, decoder);
  if (!raw.ok() && !payload->zstd() && payload->raw_bytes() == stored.size()) {
    wire::Payload right = *payload;
    right.set_checksum(checksum_of(stored));
    raw = unpack(right, offset, stored, decoder);
  }
  if (!raw.ok()) return 0;
  MUST(raw->size() == payload->raw_bytes() && !raw->empty() && offset <= UINT64_MAX - raw->size());
  ChunkEncoder encoder;
  wire::Payload packed;
  const ByteSpan bytes = pack(*raw, encoder, packed);
  auto same = unpack(packed, offset, bytes, decoder);
  MUST(same.ok() && *same == *raw);
  if (e->has_manifest()) check_directory(*raw, e->manifest());
  return 0;
}
