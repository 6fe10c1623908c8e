// PT bytes from anybody over a small program: the flow is the same from wherever it is read, forward and backward, with and
// without instruction numbers, which are the same on any number of threads.
#include <cstdlib>

#include "tests/fuzz/fuzzed_host.h"
#include "tests/support/flow_seek_check.h"

using namespace hindcast;

namespace {

void check(const decode::HostTrace& host, uint64_t seed, const test::OpenFlow& open) {
  size_t events = 0;
  const std::string difference = test::seeking_differs(open, seed, 1, 2000, events);
  // libipt tells what it lost by where it came from.
  if (difference.empty() || host.engine_counts().libipt != 0) return;
  std::fprintf(stderr, "%s\n", difference.c_str());
  abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::TinyHost h;
  uint32_t id = 0;
  if (!test::fuzzed_host(data, size, h, id)) return 0;
  const auto host = decode::HostTrace::build(h.snapshot.info, h.snapshot.source);
  if (!host.ok()) abort();
  for (const bool numbered : {false, true}) {
    if (numbered && !(*host)->number_instructions(1 + data[2] % 2, {}).ok()) abort();
    check(**host, data[3], [&] { return (*host)->stream_flow(id).value(); });
    for (const decode::ThreadInfo& t : (*host)->threads())
      check(**host, data[3], [&] { return (*host)->thread_flow(t.tid).value(); });
  }
  return 0;
}
