// The headers of /proc/kcore: whatever they say, what is read lies in the file, and is what stands there.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "capture/kcore.h"

using namespace hindcast;
using namespace hindcast::capture;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto core = Kcore::over([data, size](uint64_t offset, std::span<uint8_t> out) -> size_t {
    if (offset >= size) return 0;
    const size_t n = std::min<uint64_t>(out.size(), size - offset);
    std::copy_n(data + offset, n, out.begin());
    return n;
  });
  if (!core.ok()) return 0;
  expect(core->segments().size() <= 4096);
  size_t asked = 0;
  for (const Kcore::Segment& s : core->segments()) {
    expect(s.bytes > 0 && s.address + (s.bytes - 1) >= s.address && s.offset + s.bytes >= s.offset);
    if (++asked > 32) break;
    for (const uint64_t bytes : {uint64_t{1}, std::min<uint64_t>(s.bytes, 5000)}) {
      const auto read = core->read(s.address + (s.bytes - bytes), bytes);
      if (!read.ok()) continue;
      expect(read->size() == bytes && bytes <= size);
    }
    // The first segment that holds an address gives its bytes.
    const auto first = core->read(s.address, 1);
    const auto holder = std::find_if(core->segments().begin(), core->segments().end(), [&](const Kcore::Segment& o) {
      return s.address >= o.address && s.address - o.address < o.bytes;
    });
    const uint64_t at = holder->offset + (s.address - holder->address);
    expect(first.ok() == (at < size));
    if (first.ok()) expect((*first)[0] == data[at]);
    expect(!core->read(s.address + (s.bytes - 1), UINT64_MAX).ok());
  }
  return 0;
}
