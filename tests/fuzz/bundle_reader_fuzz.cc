// The bundle reader on files that are nearly right: built from the input, then patched, checksums put right or not.
//
// Opinions: index and walk find the same bytes; any split of a read gives the same bytes; what salvage gives and what it
// calls damaged cover a stream exactly; a manifest survives its own round trip.
#include <algorithm>
#include <string>

#include "hindcast/bytes.h"
#include "tests/fuzz/fuzz_support.h"
#include "tests/unit/transport/raw_bundle.h"
#include "transport/bundle_reader.h"
#include "transport/manifest.h"
#include "transport/snapshot_rules.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT
using bundle::ChunkType;

/// Takes small numbers from the input; zeros when it is used up.
struct Input {
  ByteReader r;
  uint8_t u8() { return r.left() ? r.u8() : 0; }
  std::string text(size_t n) {
    const auto b = r.take(std::min(n, r.left()));
    return {b.begin(), b.end()};
  }
};

std::string manifest_for(Input& in, const uint64_t (&streams)[4], const uint64_t (&images)[4]) {
  const uint8_t lie = in.u8();
  std::string s = "{\"manifest_version\": " + std::to_string(lie == 1 ? 2 : 1) + ", \"streams\": [";
  bool first = true;
  for (int id = 1; id < 4; ++id) {
    if (!streams[id] && lie != 2) continue;
    s += (first ? "" : ",") + std::string("{\"id\":") + std::to_string(id) + ",\"kind\":\"" +
         (lie == 3  ? "odd"
          : id == 2 ? "sideband"
                    : "pt") +
         "\",\"bytes\":" + std::to_string(streams[id] + (lie == 4)) + ",\"cuts\":[" + std::to_string(in.u8()) + "]}";
    first = false;
  }
  s += "], \"images\": [";
  first = true;
  for (int id = 1; id < 4; ++id) {
    if (!images[id]) continue;
    s += (first ? "" : ",") + std::string("{\"id\":") + std::to_string(id) +
         ",\"kind\":\"memory\",\"bytes\":" + std::to_string(images[id]) + "}";
    first = false;
  }
  s += "], \"placements\": [";
  if (images[1] && lie != 5)
    s += "{\"image\":1,\"address\":\"0x" + std::to_string(in.u8()) + "\",\"length\":" + std::to_string(in.u8()) + "}";
  s += "]";
  if (lie == 6) s += ", " + in.text(in.u8());
  return s + "}";
}

std::vector<uint8_t> built(Input& in) {
  RawBundle b(in.u8() == 1 ? 2 : 1, in.u8());
  uint32_t snapshot = 0;
  uint64_t streams[4] = {}, images[4] = {};
  const int ops = in.u8() % 32;
  for (int i = 0; i < ops; ++i) {
    const uint8_t op = in.u8();
    const uint32_t id = 1 + (op >> 4) % 3;
    switch (op & 7) {
      case 0:
      case 1:
      case 2: {
        const std::string data = in.text(in.u8());
        if (data.empty()) break;
        b.stream(snapshot, id, streams[id], data);
        streams[id] += data.size();
        break;
      }
      case 3: {
        const std::string data = in.text(in.u8());
        if (data.empty()) break;
        b.image(snapshot, id, images[id], data);
        images[id] += data.size();
        break;
      }
      case 4:
        b.manifest(snapshot++, manifest_for(in, streams, images));
        std::fill(std::begin(streams), std::end(streams), 0);
        std::fill(std::begin(images), std::end(images), 0);
        break;
      case 5: {
        const uint64_t guess[4] = {0, in.u8(), in.u8(), in.u8()}, none[4] = {};
        b.chunk(ChunkType::preliminary, snapshot, 0, 0, as_bytes(manifest_for(in, guess, none)));
        break;
      }
      case 6:
        b.chunk(static_cast<ChunkType>(in.u8()), snapshot, id, in.u8(), as_bytes("odd"));
        break;
      default:
        b.stream(in.u8(), id, in.u8(), "wild");
        break;
    }
  }
  if (streams[1] || streams[2] || streams[3] || images[1] || images[2] || images[3] || snapshot == 0)
    b.manifest(snapshot, manifest_for(in, streams, images));
  auto& index = b.index();
  const uint8_t bend = in.u8();
  if (bend == 1 && !index.empty()) index.pop_back();
  if (bend == 2 && !index.empty()) index[0].file_offset = in.u8();
  if (bend == 3 && !index.empty()) index[in.u8() % index.size()].header.raw_checksum ^= 1;
  if (bend != 4) b.end();
  return b.bytes();
}

/// Patched bytes at places that the input names; `repair` puts the checksums of headers right again.
void patch(Input& in, std::vector<uint8_t>& file) {
  const int patches = in.u8() % 8;
  for (int i = 0; i < patches && !file.empty(); ++i) {
    const size_t at = (in.u8() | size_t{in.u8()} << 8) % file.size();
    file[at] = in.u8();
  }
  if (in.u8() & 1) {
    size_t at = sizeof(bundle::FileHeader);
    bundle::ChunkHeader h;
    while (file.size() - at >= sizeof h) {
      std::memcpy(&h, file.data() + at, sizeof h);
      if (h.magic != bundle::kChunkMagic) break;
      h.checksum = header_checksum(h);
      std::memcpy(file.data() + at, &h, sizeof h);
      if (h.stored_bytes > file.size() - at - sizeof h) break;
      at += sizeof h + h.stored_bytes;
    }
  }
  const uint8_t cut = in.u8();
  if (cut & 1) file.resize(file.size() - std::min<size_t>(file.size(), cut));
}

void check(const BundleReader& r, Input& in) {
  for (size_t i = 0; i < r.snapshot_count(); ++i) {
    const SnapshotInfo& info = r.snapshot(i);
    MUST(broken_rules(info).empty());
    const std::string text = manifest_text(info);
    auto again = parse_manifest(text);
    MUST(again.ok() && manifest_text(again->info) == text);
    for (const StreamInfo& s : info.streams) {
      const auto whole = r.read_stream(i, s.id);
      const auto salvage = r.salvage_stream(i, s.id);
      MUST(salvage.ok());
      uint64_t at = 0, broken = 0;
      for (const auto& piece : salvage->pieces) {
        MUST(piece.offset >= at && piece.bytes.size() <= s.bytes - piece.offset);
        broken += piece.offset - at;
        at = piece.offset + piece.bytes.size();
        auto same = r.read_stream(i, s.id, piece.offset, piece.bytes.size());
        MUST(same.ok() && *same == piece.bytes);
      }
      broken += s.bytes - at;
      MUST(whole.ok() == (broken == 0));
      if (!whole.ok()) continue;
      MUST(whole->size() == s.bytes);
      const uint64_t split = s.bytes ? in.u8() % (s.bytes + 1) : 0;
      auto a = r.read_stream(i, s.id, 0, split), b = r.read_stream(i, s.id, split, s.bytes - split);
      MUST(a.ok() && b.ok());
      a->insert(a->end(), b->begin(), b->end());
      MUST(*a == *whole);
      MUST(!r.read_stream(i, s.id, s.bytes, 1).ok());
    }
    for (const ImageInfo& image : info.images) {
      const auto bytes = r.read_image(i, image.id);
      MUST(!bytes.ok() || bytes->size() == image.bytes);
    }
  }
  MUST(r.scrub().size() >= r.damage().size());
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  // What built() and patch() read: two snapshots with two streams and an image, one byte patched, checksums repaired.
  static const uint8_t seed[] = {0,    0,  0,                          // built; version 1.0
                                 8,                                    // so many chunks
                                 0x05, 10, 5,   0, 0,  0, 0,    0, 0,  // preliminary: sizes, then no lie and two cuts
                                 0x00, 10, 1,   2, 3,  4, 5,    6, 7, 8, 9, 10,  // stream 1
                                 0x10, 5,  1,   2, 3,  4, 5,                     // stream 2
                                 0x03, 8,  1,   2, 3,  4, 5,    6, 7, 8,         // image 1
                                 0x04, 0,  3,   0, 9,  8,                        // manifest: no lie, cuts, placement
                                 0x00, 4,  9,   9, 9,  9, 0x00, 3, 7, 7, 7, 0x04, 0, 1,  // stream 1 twice, manifest
                                 0,    1,  200, 0, 77, 1, 0};  // index as it is; one patch; repair; no cut
  return mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in{ByteReader({data, size})};
  std::vector<uint8_t> file;
  if (in.u8() == 0xff) {
    file.assign(data + 1, data + size);  // as it is
  } else {
    file = built(in);
    patch(in, file);
  }
  auto r = BundleReader::from_bytes(file);
  if (!r.ok()) {
    MUST(!r.error().what.empty());
    return 0;
  }
  check(*r, in);
  if (r->damage().empty() && r->scrub().empty() && !file.empty()) {
    // Without its last byte the trailer is not usable: the same must come out by walking.
    const ByteSpan shorter = ByteSpan(file).first(file.size() - 1);
    auto walked = BundleReader::from_bytes(shorter);
    MUST(walked.ok() && !walked->damage().empty() && walked->snapshot_count() == r->snapshot_count());
    for (size_t i = 0; i < r->snapshot_count(); ++i) {
      MUST(manifest_text(walked->snapshot(i)) == manifest_text(r->snapshot(i)));
      for (const StreamInfo& s : r->snapshot(i).streams) {
        auto a = r->read_stream(i, s.id), b = walked->read_stream(i, s.id);
        MUST(a.ok() && b.ok() && *a == *b);
      }
    }
  }
  return 0;
}
