// Windows of recorded traces that can be decoded on their own: of the corpus, and of programs under the simulator.
#pragma once

#include <gtest/gtest.h>

#include "decode/host_trace.h"
#include "decode/psb_search.h"
#include "tests/e2e/recording.h"
#include "tests/support/bundle_edit.h"
#include "tests/support/memory_source.h"

namespace hindcast::test {

/// A recorded stream.
struct Base {
  std::unique_ptr<MemorySnapshot> snapshot;
  std::unique_ptr<decode::HostTrace> host;
  DecodeConfig config;
  ByteSpan bytes;
  struct Window {
    uint64_t psb = 0;
    std::shared_ptr<const CodeImage> code;
  };
  std::vector<Window> windows;  // one for each PSB behind which something ran
  std::vector<uint64_t> ips;    // some that ran
};

inline void add_streams(std::shared_ptr<Base> base, std::vector<std::shared_ptr<const Base>>& all) {
  for (const StreamInfo& info : base->snapshot->info.streams) {
    if (info.kind != StreamKind::pt) continue;
    auto b = std::make_shared<Base>();
    b->bytes = base->snapshot->source.streams[info.id];
    b->config.cpu = base->snapshot->info.cpu;
    b->config.options = base->snapshot->info.pt;
    std::vector<uint64_t> psbs;
    for (decode::PsbSearch search(b->bytes); const auto psb = search.next(psbs.empty() ? 0 : psbs.back() + 16);)
      psbs.push_back(*psb);
    const auto flow = base->host->stream_flow(info.id);
    std::vector<decode::FlowEvent> batch(256);
    size_t next = 0;
    while (const size_t n = (*flow)->next(batch))
      for (size_t i = 0; i < n; ++i) {
        const Event& e = batch[i].event;
        if (e.kind != EventKind::block) continue;
        if (b->ips.size() < 4096 && e.offset % 8 == 0) b->ips.push_back(e.ip);
        while (next < psbs.size() && psbs[next] < e.offset)
          b->windows.push_back({psbs[next++], base->host->image_of(batch[i])});
      }
    std::erase_if(b->windows, [](const Base::Window& w) { return !w.code; });
    if (b->windows.empty()) continue;
    all.push_back(std::shared_ptr<const Base>(b.get(), [base, b](const Base*) {}));
  }
}

inline void add_base(std::unique_ptr<MemorySnapshot> snapshot, std::vector<std::shared_ptr<const Base>>& all) {
  auto base = std::make_shared<Base>();
  base->snapshot = std::move(snapshot);
  auto host = decode::HostTrace::build(base->snapshot->info, base->snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  base->host = std::move(host).value();
  add_streams(base, all);
}

/// The corpus when it is there, and programs under the simulator when this build has it.
inline std::vector<std::shared_ptr<const Base>> recorded() {
  std::vector<std::shared_ptr<const Base>> all;
  if (corpus_folder())
    for (const std::string& name : corpus_names())
      if (const CorpusTrace t = corpus_trace(name); t.has_flow) add_base(corpus_snapshot(t), all);
  if (plugin_path().empty()) return all;
  for (const char* options : {"tsc,mtc,mtc_period=3,psb_period=0", "cyc,noretcomp,psb_period=0"}) {
    Recording r;
    r.run(options, {"--ring", "4M"}, {test_program("signals"), "1"});
    EXPECT_EQ(r.record.code, 0) << r.record.err;
    if (r.record.code == 0) add_base(read_bundle(r.bundle), all);
  }
  return all;
}

}  // namespace hindcast::test
