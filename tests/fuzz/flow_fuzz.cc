// PT bytes from anybody over a small program: decoding ends, events are well-formed and in order, no block lies outside a
// traced stretch, resuming earliest gives at least what resuming at PSBs gives, and a thread's flow is part of its CPU's,
// unless that has damage: a walk that begins behind it may find its way where one that runs into it does not. Where neither
// our engine nor libipt's says that something is lost, they tell the same.
#include <cstdlib>
#include <map>

#include "decode/engine_compare.h"
#include "tests/fuzz/fuzzed_host.h"

using namespace hindcast;
using namespace hindcast::decode;

namespace {

uint64_t check(FlowCursor& cursor, size_t trace_bytes, bool* damaged = nullptr) {
  std::vector<FlowEvent> batch(64);
  TscInterval last{Tsc::min(), Tsc::min()};
  uint64_t instructions = 0, events = 0;
  while (const size_t n = cursor.next(batch)) {
    for (size_t i = 0; i < n; ++i) {
      const Event& e = batch[i].event;
      if (e.time.earliest < last.earliest || e.time.latest < last.latest || e.time.earliest > e.time.latest) abort();
      last = e.time;
      if (e.offset > trace_bytes) abort();
      if (e.kind == EventKind::block) {
        if (e.count == 0 || e.last_ip < e.ip) abort();
        instructions += e.count;
      }
      if (e.kind == EventKind::gap && e.cause == GapCause::none) abort();
      if (e.kind == EventKind::gap && e.cause == GapCause::desync && damaged) *damaged = true;
    }
    // Code that uses no trace is bounded per byte of trace: the longest chain of direct jumps, and the circle guard.
    if ((events += n) > 4096 + trace_bytes * 400) abort();
  }
  return instructions;
}

void print(const char* who, const std::optional<Event>& e) {
  std::fprintf(stderr, "%s: %s\n", who, e ? test::text_of(*e).c_str() : "nothing more");
}

/// What the engines do not agree on.
void say(const HostTrace& host, uint32_t stream, const EngineDifference& d) {
  std::fprintf(stderr, "stretch %llu, offset %llu\n", static_cast<unsigned long long>(d.stretch),
               static_cast<unsigned long long>(d.offset));
  print("before", d.before);
  print("fast", d.fast);
  print("libipt", d.libipt);
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    FlowOptions options;
    options.engine = engine;
    const auto flow = host.stream_flow(stream, options);
    for (const FlowEvent& e : test::all_events(**flow))
      std::fprintf(stderr, "%s %u %6llu %s\n", engine == Engine::fast ? "fast  " : "libipt", e.stretch,
                   static_cast<unsigned long long>(e.event.offset), test::text_of(e.event).c_str());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::TinyHost h;
  uint32_t id = 0;
  if (!test::fuzzed_host(data, size, h, id)) return 0;
  const size_t bytes = h.snapshot.source.streams[id].size();
  const auto host = HostTrace::build(h.snapshot.info, h.snapshot.source);
  if (!host.ok()) abort();
  auto earliest = (*host)->stream_flow(id);
  auto psb = (*host)->stream_flow(id, {TscInterval::unknown(), Resync::psb});
  bool damaged = false;
  const uint64_t most = check(**earliest, bytes, &damaged);
  if (check(**psb, bytes) > most) abort();
  if (const auto timed = (*host)->count_timed(id); timed.ok() && timed->instructions != most) abort();
  for (const Resync resync : {Resync::earliest, Resync::psb}) {
    const auto compared = compare_engines(**host, id, resync);
    if (!compared.ok() || compared->different != 0) {
      if (compared.ok() && compared->first) say(**host, id, *compared->first);
      abort();
    }
  }
  for (const ThreadInfo& t : (*host)->threads()) {
    auto flow = (*host)->thread_flow(t.tid);
    if (flow.ok() && check(**flow, bytes) > most && !damaged) abort();
  }
  return 0;
}
