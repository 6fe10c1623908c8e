// Real traces: the flow of every one must equal its reference decoding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cinttypes>

#include "decode/host_trace.h"
#include "decode/x86_insn.h"
#include "tests/support/corpus.h"
#include "tests/support/memory_source.h"
#include "tests/support/sha256.h"

namespace hindcast::decode {
namespace {

struct Decoded {
  std::vector<uint64_t> ips;
  std::vector<test::ControlEventRow> control;
  std::vector<FlowEvent> gaps;
  std::map<Tid, uint64_t> insns_by_tid;
  bool times_decreased = false;
  std::map<GapCause, uint64_t> causes;

  std::string sha256() const {
    test::Sha256 h;
    for (uint64_t ip : ips) h.update_u64(ip);
    return h.hex();
  }
};

std::string hex_or_dash(uint64_t v) {
  if (v == 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%" PRIx64, v);
  return text;
}

Decoded decode_all(const HostTrace& host, FlowCursor& cursor) {
  Decoded d;
  BlockExpander expander;
  std::vector<FlowEvent> batch(100);
  TscInterval last{Tsc::min(), Tsc::min()};
  while (const size_t n = cursor.next(batch)) {
    for (size_t i = 0; i < n; ++i) {
      const Event& e = batch[i].event;
      if (e.time.earliest < last.earliest || e.time.latest < last.latest || e.time.earliest > e.time.latest)
        d.times_decreased = true;
      last = e.time;
      const auto control = [&](uint64_t from, std::string to) {
        d.control.push_back({d.ips.size(), std::string(to_string(e.kind)), hex_or_dash(from), std::move(to), {}});
        if (e.time.earliest != Tsc::min()) d.control.back().tsc = e.time.earliest.value();
      };
      switch (e.kind) {
        case EventKind::block: {
          const auto ips = expander.instructions(host.image_of(batch[i]), e);
          EXPECT_EQ(ips.size(), e.count) << std::hex << e.ip << " to " << e.last_ip;
          d.ips.insert(d.ips.end(), ips.begin(), ips.end());
          d.insns_by_tid[batch[i].tid] += e.count;
          break;
        }
        case EventKind::enabled:
          control(0, hex_or_dash(e.ip));
          break;
        case EventKind::disabled:
          control(0, hex_or_dash(e.to));
          break;
        case EventKind::async_disabled:
          control(e.ip, hex_or_dash(e.to));
          break;
        case EventKind::overflow:
          control(0, hex_or_dash(e.to));
          break;
        case EventKind::paging:
          control(0, "cr3=" + hex_or_dash(e.to));
          break;
        case EventKind::gap:
          d.gaps.push_back(batch[i]);
          ++d.causes[e.cause];
          break;
        default:
          break;
      }
    }
  }
  return d;
}

class CorpusFlow : public ::testing::TestWithParam<const char*> {};

// Written out, since tests are listed when they are built and the corpus may come later.
constexpr const char* kTraces[] = {
    "kafl-mruby",        "kafl-unzip",    "kafl-icelake-tip", "lldb-thread-simple", "lldb-thread-multifile",
    "lldb-percpu-cpu45", "perf-hello-asm"};

TEST(CorpusNames, EveryTraceWithAFlowIsTested) {
  HC_REQUIRE_CORPUS();
  for (const std::string& n : test::corpus_names()) {
    EXPECT_EQ(test::corpus_trace(n).has_flow, std::find(std::begin(kTraces), std::end(kTraces), n) != std::end(kTraces))
        << n;
  }
}

TEST_P(CorpusFlow, EqualsTheReferenceWhenResumingAtPsb) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace(GetParam());
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  ASSERT_EQ((*host)->cpus().size(), 1u);
  auto cursor = (*host)->stream_flow((*host)->cpus()[0].stream, {TscInterval::unknown(), Resync::psb});
  ASSERT_TRUE(cursor.ok()) << cursor.error().text();
  const Decoded d = decode_all(**host, **cursor);

  ASSERT_EQ(d.ips.size(), t.insns);
  EXPECT_EQ(d.sha256(), t.insn_sha256);
  EXPECT_EQ(d.ips.front(), t.first_ip);
  EXPECT_EQ(d.ips.back(), t.last_ip);
  auto distinct = d.ips;
  std::sort(distinct.begin(), distinct.end());
  EXPECT_EQ(std::unique(distinct.begin(), distinct.end()) - distinct.begin(), static_cast<ptrdiff_t>(t.distinct_ips));
  EXPECT_FALSE(d.times_decreased);
  EXPECT_EQ((*host)->engine_counts().libipt, 0u);

  const auto expected = test::control_event_rows(t);
  test::Sha256 h;
  for (size_t i = 0; i < std::max(expected.size(), d.control.size()); ++i) {
    ASSERT_LT(i, d.control.size());
    ASSERT_LT(i, expected.size()) << d.control[i].insn_index << d.control[i].event;
    EXPECT_EQ(d.control[i].insn_index, expected[i].insn_index) << i;
    EXPECT_EQ(d.control[i].event, expected[i].event) << i;
    EXPECT_EQ(d.control[i].from, expected[i].from) << i;
    EXPECT_EQ(d.control[i].to, expected[i].to) << i;
    const std::string line = std::to_string(d.control[i].insn_index) + "\t" + d.control[i].event + "\t" +
                             d.control[i].from + "\t" + d.control[i].to + "\n";
    h.update({reinterpret_cast<const uint8_t*>(line.data()), line.size()});
  }
  EXPECT_EQ(h.hex(), t.expected["control_events_sha256"].get<std::string>());

  // Errors are gaps: missing code by its cause, everything else as a desync.
  uint64_t missing = 0, other = 0;
  for (const auto& [text, n] : t.errors) (text == "no memory mapped at this address" ? missing : other) += n;
  const auto count = [&d](GapCause c) { return d.causes.count(c) ? d.causes.at(c) : 0; };
  EXPECT_EQ(count(GapCause::image_missing), missing);
  EXPECT_EQ(count(GapCause::desync), other);
  EXPECT_EQ(count(GapCause::unattributed), 0u);
  EXPECT_EQ(count(GapCause::pt_overflow), t.control_events.count("overflow") ? t.control_events.at("overflow") : 0u);
}

TEST_P(CorpusFlow, ASecondWalkGivesTheSameEvents) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace(GetParam());
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  // The second walk meets code that libipt has decoded before.
  std::vector<Event> events[2];
  for (auto& list : events) {
    auto cursor = (*host)->stream_flow((*host)->cpus()[0].stream, {});
    ASSERT_TRUE(cursor.ok()) << cursor.error().text();
    std::array<FlowEvent, 256> batch;
    while (const size_t n = (*cursor)->next(batch))
      for (size_t i = 0; i < n; ++i) list.push_back(batch[i].event);
  }
  ASSERT_EQ(events[0].size(), events[1].size());
  for (size_t i = 0; i < events[0].size(); ++i) {
    const Event &a = events[0][i], &b = events[1][i];
    ASSERT_EQ(std::tie(a.kind, a.ip, a.last_ip, a.count, a.end, a.offset),
              std::tie(b.kind, b.ip, b.last_ip, b.count, b.end, b.offset))
        << i;
    ASSERT_TRUE(a.time.earliest == b.time.earliest && a.time.latest == b.time.latest) << i;
  }
}

TEST_P(CorpusFlow, ResumingEarliestIsASupersetAndRight) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace(GetParam());
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  auto cursor = (*host)->stream_flow((*host)->cpus()[0].stream);
  ASSERT_TRUE(cursor.ok()) << cursor.error().text();
  const Decoded d = decode_all(**host, **cursor);
  EXPECT_GE(d.ips.size(), t.insns);
  // In none of these traces is there anything certain to be had before the next PSB.
  EXPECT_EQ(d.sha256(), t.insn_sha256);
  EXPECT_FALSE(d.times_decreased);
}

INSTANTIATE_TEST_SUITE_P(Corpus, CorpusFlow, ::testing::ValuesIn(kTraces), [](const auto& info) {
  std::string s = info.param;
  std::replace_if(
      s.begin(), s.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return s;
});

TEST(CorpusThreads, PerCpuTraceBelongsToTheSpinningThread) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace("lldb-percpu-cpu45");
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  const Tid spinner(3497497);
  auto flow = (*host)->thread_flow(spinner);
  ASSERT_TRUE(flow.ok()) << flow.error().text();
  const Decoded d = decode_all(**host, **flow);
  EXPECT_EQ(d.ips.size(), 61825u);
  EXPECT_EQ(d.sha256(), t.insn_sha256);
  EXPECT_EQ(d.insns_by_tid.at(spinner), 61825u);

  const ThreadInfo* thread = (*host)->find_thread(spinner);
  ASSERT_NE(thread, nullptr);
  EXPECT_EQ(thread->pid, Pid(3497234));
  EXPECT_EQ(thread->cpus, std::vector<CpuId>{CpuId(45)});
  for (const ThreadInfo& other : (*host)->threads()) {
    if (other.tid != spinner) {
      EXPECT_EQ(other.stretches, 0u) << other.tid.value();
    }
  }
}

TEST(CorpusThreads, SlicesEqualTheReferenceExecutions) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace("lldb-percpu-cpu45");
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  const TscConversion& clock = snapshot->info.clock;
  size_t compared = 0;
  for (const auto& row : test::tsv_rows(t, "executions.tsv")) {
    const Tid tid(std::stoi(row[1]));
    if (tid == Tid(0)) continue;  // idle is nobody's thread
    const ThreadInfo* thread = (*host)->find_thread(tid);
    ASSERT_NE(thread, nullptr) << row[1];
    const bool found = std::any_of(thread->slices.begin(), thread->slices.end(), [&](const Slice& s) {
      return s.pid == Pid(std::stoi(row[2])) && clock.to_tsc(s.in).contains(Tsc(std::stoull(row[4]))) &&
             clock.to_tsc(s.out).contains(Tsc(std::stoull(row[5]))) && !s.open_start && !s.open_end;
    });
    EXPECT_TRUE(found) << row[1] << " " << row[4] << " " << row[5];
    ++compared;
  }
  EXPECT_EQ(compared, 20u);
  size_t slices = 0;
  for (const ThreadInfo& thread : (*host)->threads()) slices += thread.slices.size();
  EXPECT_EQ(slices, compared);
}

TEST(CorpusThreads, PerfSidebandNamesTheThreadAndItsTimes) {
  HC_REQUIRE_CORPUS();
  const test::CorpusTrace t = test::corpus_trace("perf-hello-asm");
  auto snapshot = test::corpus_snapshot(t);
  auto host = HostTrace::build(snapshot->info, snapshot->source);
  ASSERT_TRUE(host.ok()) << host.error().text();
  std::vector<const ThreadInfo*> ran;
  for (const ThreadInfo& thread : (*host)->threads())
    if (thread.stretches != 0) ran.push_back(&thread);
  ASSERT_EQ(ran.size(), 1u);
  EXPECT_EQ(ran[0]->comm, "hello");
  auto flow = (*host)->thread_flow(ran[0]->tid);
  ASSERT_TRUE(flow.ok());
  const Decoded d = decode_all(**host, **flow);
  EXPECT_EQ(d.sha256(), t.insn_sha256);
  // Each control event's reference time lies in its interval, give or take what its README allows libipt.
  const auto expected = test::control_event_rows(t);
  auto again = (*host)->thread_flow(ran[0]->tid);
  ASSERT_TRUE(again.ok());
  std::vector<FlowEvent> all(1000);
  all.resize((*again)->next(all));
  size_t i = 0;
  for (const FlowEvent& f : all) {
    if (f.event.kind == EventKind::block || f.event.kind == EventKind::gap || f.event.kind == EventKind::exec_mode)
      continue;
    ASSERT_LT(i, expected.size());
    ASSERT_TRUE(expected[i].tsc.has_value());
    EXPECT_LE(f.event.time.earliest.value(), *expected[i].tsc + 2000) << i;
    EXPECT_GE(f.event.time.latest.value() + 2000, *expected[i].tsc) << i;
    EXPECT_LT(f.event.time.latest.value() - f.event.time.earliest.value(), 20000u) << i;
    ++i;
  }
  EXPECT_EQ(i, expected.size());
}

}  // namespace
}  // namespace hindcast::decode
