// A snapshot for tests, put together from hand-written code, PT packets and perf records. One tick of its TSC is one
// nanosecond of its record clock.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "decode/host_trace.h"
#include "tests/support/memory_source.h"
#include "tests/support/perf_bytes.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::test {

struct TinyHost {
  TinyHost() {
    snapshot.info.source = "test";
    snapshot.info.clock.known = true;
    snapshot.info.clock.mult = 1;
  }

  uint32_t image(std::vector<uint8_t> bytes, std::string path = {}, std::string build_id = {}) {
    ImageInfo i;
    i.id = static_cast<uint32_t>(snapshot.info.images.size() + 1);
    i.kind = ImageKind::memory;
    i.path = std::move(path);
    i.build_id = std::move(build_id);
    i.bytes = bytes.size();
    snapshot.info.images.push_back(i);
    snapshot.source.images[i.id] = std::move(bytes);
    return i.id;
  }
  TinyHost& code(Pid pid, uint64_t address, std::vector<uint8_t> bytes) {
    PlacementInfo p;
    p.pid = pid;
    p.address = address;
    p.length = bytes.size();
    p.image = image(std::move(bytes));
    snapshot.info.placements.push_back(p);
    return *this;
  }
  uint32_t pt(CpuId cpu, const PtBytes& bytes, Tid tid = kNoTid) {
    return add(StreamKind::pt, cpu, tid, bytes.bytes());
  }
  uint32_t sideband(CpuId cpu, const PerfBytes& bytes) { return add(StreamKind::sideband, cpu, kNoTid, bytes.bytes()); }

  std::unique_ptr<decode::HostTrace> build() {
    auto r = decode::HostTrace::build(snapshot.info, snapshot.source);
    if (!r.ok()) {
      std::fprintf(stderr, "%s\n", r.error().text().c_str());
      std::abort();
    }
    return std::move(r).value();
  }

  MemorySnapshot snapshot;

 private:
  uint32_t add(StreamKind kind, CpuId cpu, Tid tid, std::vector<uint8_t> bytes) {
    StreamInfo s;
    s.id = static_cast<uint32_t>(snapshot.info.streams.size() + 1);
    s.kind = kind;
    s.cpu = cpu;
    s.tid = tid;
    s.bytes = bytes.size();
    s.sample_type = kind == StreamKind::sideband ? perf::kOurSampleType : 0;
    snapshot.info.streams.push_back(s);
    snapshot.source.streams[s.id] = std::move(bytes);
    return s.id;
  }
};

/// All events of a cursor; ends the process when they do not end.
inline std::vector<decode::FlowEvent> all_events(decode::FlowCursor& cursor, size_t limit = 1000000) {
  std::vector<decode::FlowEvent> all, batch(7);
  while (const size_t n = cursor.next(batch)) {
    all.insert(all.end(), batch.begin(), batch.begin() + static_cast<ptrdiff_t>(n));
    if (all.size() > limit) {
      std::fprintf(stderr, "the flow does not end\n");
      std::abort();
    }
  }
  return all;
}

/// One line of text per event: "block 401000-401005 x2 call", "gap desync", "enabled 401000" ...
inline std::string text_of(const Event& e) {
  const auto hex = [](uint64_t v) {
    char t[24];
    std::snprintf(t, sizeof t, "%llx", static_cast<unsigned long long>(v));
    return std::string(t);
  };
  std::string s(to_string(e.kind));
  switch (e.kind) {
    case EventKind::block:
      return s + " " + hex(e.ip) + "-" + hex(e.last_ip) + " x" + std::to_string(e.count) + " " +
             std::string(to_string(e.end));
    case EventKind::gap:
      return s + " " + std::string(to_string(e.cause)) + (e.ip ? " " + hex(e.ip) : "");
    case EventKind::enabled:
    case EventKind::async_disabled:
      return s + " " + hex(e.ip);
    case EventKind::async_branch:
      return s + " " + hex(e.ip) + " -> " + hex(e.to);
    case EventKind::tsx:
      return s + " " + hex(e.ip) + " " + std::to_string(e.count);
    case EventKind::disabled:
    case EventKind::overflow:
      return s + (e.to ? " " + hex(e.to) : "");
    default:
      return s;
  }
}
inline std::vector<std::string> text_of(const std::vector<decode::FlowEvent>& events) {
  std::vector<std::string> lines;
  for (const auto& e : events) lines.push_back(text_of(e.event));
  return lines;
}

}  // namespace hindcast::test
