// Jitdumps from anybody: what is read lies inside of the file, and claims made of it end in a layout whose pieces do not
// overlap.
#include <cstdlib>

#include "decode/jit_layer.h"
#include "decode/jitdump.h"

using namespace hindcast;
using namespace hindcast::decode;

namespace {

void check_layout(const Layout& layout) {
  uint64_t end = 0;
  for (const auto& [start, segment] : layout) {
    if (start < end || segment.end <= start) abort();
    end = segment.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteSpan file(data, size);
  const auto dump = parse_jitdump(file);
  if (!dump.ok()) {
    if (dump.error().text().empty()) abort();
    return 0;
  }
  if (dump->read_bytes > size || dump->damage.empty() != (dump->read_bytes == size)) abort();
  JitLayer layer;
  RecordTime last{0};
  for (const JitRecord& r : dump->records) {
    if (r.address + r.bytes < r.address) abort();
    if (!r.moved) {
      if (r.code_offset > size || r.bytes > size - r.code_offset) abort();
      if (uint64_t{r.first_line} + r.lines > dump->lines.size()) abort();
      for (uint32_t i = 1; i < r.lines; ++i)
        if (dump->lines[r.first_line + i].address < dump->lines[r.first_line + i - 1].address) abort();
    }
    const RecordTime time(r.time);
    layer.add({r.address, r.bytes, r.moved ? 0 : 1u, r.code_offset, {time, RecordTime(r.time | 0xff)}});
    if (r.tid.value() == 0) layer.exec(time);
    last = std::max(last, time);
  }
  for (const RecordTime t : {last, RecordTime(last.value() / 2), RecordTime::max()}) {
    check_layout(layer.settled(t));
    layer.for_each_unsettled(t, RecordTime::max(), [&](const JitClaim& c) {
      if (c.from.latest <= t) abort();
    });
    if (!dump->records.empty()) {
      const uint64_t ip = dump->records.front().address;
      if (const auto piece = layer.at({t, RecordTime::max()}, ip))
        if (piece->begin > ip || piece->segment.end <= ip) abort();
    }
  }
  return 0;
}
