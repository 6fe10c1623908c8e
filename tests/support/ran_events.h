// What FastDecoder::next(Ran&) tells, as the events that it stands for.
#pragma once

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "decode/fast/fast_engine.h"
#include "decode/stretch_events.h"

namespace hindcast::test {

/// To the end. Offsets of blocks, which it does not tell, are 0.
inline std::vector<Event> events_of_ran(decode::FastDecoder& decoder) {
  std::vector<Event> all;
  std::optional<Event> held;
  const auto block = [&](Event e) {
    e.offset = 0;
    decode::go_on_from(held, e);
    if (e.end == BlockEnd::none)
      held = e;
    else
      all.push_back(e);
  };
  for (decode::Ran ran; decoder.next(ran);) {
    all.insert(all.end(), ran.events.begin(), ran.events.end());
    auto time = ran.times.begin();
    for (size_t i = 0; i < ran.ids.size(); ++i) {
      if (time + 1 != ran.times.end() && time[1].first == ran.first + i) ++time;
      for (uint32_t at = decode::index_of(ran.ids[i]); at != 0; at = ran.graph->block(at).onward) {
        const decode::CodeBlock& b = ran.graph->block(at);
        Event e;
        e.kind = EventKind::block;
        e.end = b.end;
        e.count = b.count;
        e.ip = b.ip;
        e.last_ip = b.last_ip();
        e.time = time->time;
        block(e);
      }
    }
    if (held) all.push_back(*std::exchange(held, std::nullopt));
  }
  return all;
}

/// The index of the first event that differs, offsets of blocks aside; nothing when all are the same.
inline std::optional<size_t> first_difference(const std::vector<Event>& a, const std::vector<Event>& b) {
  const auto fields = [](const Event& e) {
    const uint64_t offset = e.kind == EventKind::block ? 0 : e.offset;
    return std::tuple(e.kind, e.end, e.cause, e.count, e.ip, e.last_ip, e.to, offset, e.time.earliest, e.time.latest);
  };
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i)
    if (i >= a.size() || i >= b.size() || fields(a[i]) != fields(b[i])) return i;
  return std::nullopt;
}

}  // namespace hindcast::test
