// Debian's perf decodes what we export as we decode it, and what is imported again is the same flow.
//
// What perf cannot show, so that it is not compared: conditional branches that were not taken (it lists branches taken
// only), and times, which it estimates where we give intervals. Everything else must agree, thread by thread: every branch
// taken, with both addresses, every place where tracing went on and off, and no "instruction trace error".
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>

#include "server/query.h"
#include "tests/e2e/recording.h"

namespace hindcast::test {
namespace {

using server::FlowItem;
using server::Query;

constexpr char kPerf[] = "/usr/bin/perf";

struct Branch {
  uint64_t from = 0, to = 0;  // 0: tracing was off there
  bool operator==(const Branch&) const = default;
};
using Branches = std::map<int32_t, std::vector<Branch>>;  // by thread

std::string text_of(const Branch& b) {
  char s[64];
  std::snprintf(s, sizeof s, "%llx => %llx", static_cast<unsigned long long>(b.from),
                static_cast<unsigned long long>(b.to));
  return s;
}

std::unique_ptr<Query> open(const std::string& bundle) {
  auto q = server::open_query(bundle);
  if (!q.ok()) ADD_FAILURE() << q.error().text();
  return q.ok() ? std::move(q).value() : nullptr;
}

std::vector<int32_t> traced_threads(Query& query) {
  std::vector<int32_t> out;
  const auto overview = query.overview(0);
  if (!overview.ok()) ADD_FAILURE() << overview.error().text();
  if (overview.ok())
    for (const auto& t : (*overview)->threads)
      if (t.traced()) out.push_back(t.tid.value());
  return out;
}

/// Where a conditional branch goes when it is taken, read from its text; the same for all that run it.
uint64_t target_of(const FlowItem& item, std::map<uint64_t, uint64_t>& known) {
  auto [it, fresh] = known.emplace(item.event.last_ip, 0);
  if (fresh && item.instructions && !item.instructions->empty()) {
    const std::string& text = item.instructions->back().text;
    const size_t at = text.rfind("0x");
    if (at != text.npos) it->second = std::strtoull(text.c_str() + at, nullptr, 16);
  }
  return it->second;
}

std::vector<Branch> our_branches(Query& query, int32_t tid, uint64_t& gaps) {
  server::FlowQuestion question;
  question.tid = Tid(tid);
  question.detail = server::Detail::instructions;
  auto reader = query.flow(question);
  if (!reader.ok()) {
    ADD_FAILURE() << reader.error().text();
    return {};
  }
  std::vector<Branch> out;
  std::map<uint64_t, uint64_t> targets;
  FlowItem item;
  Event before;  // the block that has not been left yet; count 0: none
  uint64_t taken = 0;
  const auto leave = [&](uint64_t to) {
    if (before.count == 0 || before.end == BlockEnd::none) return;
    if (before.end == BlockEnd::cond_branch && to != taken) return;
    out.push_back({before.last_ip, to});
  };
  while ((*reader)->next(item)) {
    const Event& e = item.event;
    switch (e.kind) {
      case EventKind::block:
        leave(e.ip);
        before = e;
        taken = e.end == BlockEnd::cond_branch ? target_of(item, targets) : 0;
        continue;
      case EventKind::enabled:
        out.push_back({0, e.ip});
        break;
      case EventKind::disabled:
        out.push_back({before.last_ip, 0});
        break;
      case EventKind::async_disabled:
        if (before.count > 0 && before.last_ip != e.ip) leave(e.ip);
        out.push_back({e.ip, 0});
        break;
      case EventKind::exec_mode:
        continue;
      default:
        ++gaps;
    }
    before = {};
  }
  return out;
}

/// Lines like "20900 [000]  call  40028fbb73 =>  40028fc770".
Branches perf_branches(const std::string& text, uint64_t& errors) {
  Branches out;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const size_t arrow = line.find(" => ");
    if (arrow == line.npos) {
      if (line.find("error") != line.npos) ++errors;
      continue;
    }
    Branch b;
    b.from = std::strtoull(line.c_str() + line.rfind(' ', arrow - 1), nullptr, 16);
    b.to = std::strtoull(line.c_str() + arrow + 4, nullptr, 16);
    out[std::atoi(line.c_str())].push_back(b);
  }
  return out;
}

void expect_same(int32_t tid, const std::vector<Branch>& ours, const std::vector<Branch>& perfs) {
  size_t i = 0;
  while (i < ours.size() && i < perfs.size() && ours[i] == perfs[i]) ++i;
  if (i == ours.size() && i == perfs.size()) return;
  std::string context;
  for (size_t k = i < 3 ? 0 : i - 3; k < i + 3; ++k)
    context += "\n  " + std::to_string(k) + "  ours " + (k < ours.size() ? text_of(ours[k]) : "-") + "   perf " +
               (k < perfs.size() ? text_of(perfs[k]) : "-");
  ADD_FAILURE() << "thread " << tid << ": " << ours.size() << " branches of ours, " << perfs.size()
                << " of perf; they differ at " << i << context;
}

std::string text_of(const Event& e) {
  std::string s(to_string(e.kind));
  for (const uint64_t v :
       {uint64_t{e.count}, e.ip, e.last_ip, e.to, e.offset, e.time.earliest.value(), e.time.latest.value()})
    s += " " + std::to_string(v);
  return s + " " + std::string(to_string(e.end)) + " " + std::string(to_string(e.cause));
}

bool same_event(const Event& a, const Event& b) {
  return a.kind == b.kind && a.end == b.end && a.cause == b.cause && a.count == b.count && a.ip == b.ip &&
         a.last_ip == b.last_ip && a.to == b.to && a.offset == b.offset && a.time == b.time;
}

void expect_same_flow(Query& a, Query& b, int32_t tid) {
  server::FlowQuestion question;
  question.tid = Tid(tid);
  question.detail = server::Detail::events;
  auto ra = a.flow(question), rb = b.flow(question);
  ASSERT_TRUE(ra.ok() && rb.ok());
  FlowItem ia, ib;
  for (uint64_t n = 0;; ++n) {
    const bool more_a = (*ra)->next(ia), more_b = (*rb)->next(ib);
    ASSERT_EQ(more_a, more_b) << "thread " << tid << " after " << n << " events";
    if (!more_a) return;
    ASSERT_TRUE(same_event(ia.event, ib.event) && ia.pid == ib.pid && ia.cpu == ib.cpu)
        << "thread " << tid << ", event " << n << "\n  " << text_of(ia.event) << "\n  " << text_of(ib.event);
  }
}

/// Records, exports, lets perf decode, imports again. Returns how many branches were compared. more: options of record;
/// wrapped: they make the rings too small for the program, so that a gap is in front.
size_t compare(const std::vector<std::string>& command, const std::string& pt,
               const std::vector<std::string>& more = {}, bool wrapped = false) {
  Recording r;
  r.run(pt, more, command);
  EXPECT_EQ(r.record.code, 0) << r.record.err;
  const std::string folder = r.folder / "out";
  const Ran exported = run_program({bin("hindcast"), "export", r.bundle, "-o", folder});
  EXPECT_EQ(exported.code, 0) << exported.err;

  const Ran perf = run_program({kPerf, "--buildid-dir", folder + "/buildid", "script", "-i", folder + "/perf.data",
                                "--itrace=be", "-F", "tid,cpu,ip,addr,flags"});
  EXPECT_EQ(perf.code, 0) << perf.err << "perf is in the Debian package linux-perf (scripts/packages)";
  uint64_t errors = 0, gaps = 0;
  const Branches theirs = perf_branches(perf.out, errors);
  EXPECT_EQ(errors, 0u) << perf.err;

  const auto query = open(r.bundle);
  const Ran imported = run_program({bin("hindcast"), "import", folder + "/perf.data", "-o", r.folder / "again.hcb"});
  EXPECT_EQ(imported.code, 0) << imported.err;
  const auto again = open(r.folder / "again.hcb");
  if (!query || !again) return 0;
  const auto threads = traced_threads(*query);
  EXPECT_EQ(threads, traced_threads(*again));
  EXPECT_EQ(threads.size(), theirs.size());
  size_t total = 0;
  for (const int32_t tid : threads) {
    const auto ours = our_branches(*query, tid, gaps);
    const auto of_perf = theirs.find(tid);
    expect_same(tid, ours, of_perf == theirs.end() ? std::vector<Branch>{} : of_perf->second);
    total += ours.size();
  }
  EXPECT_EQ(gaps > 0, wrapped);
  // Both from the beginning: where a walk ends a block that runs on may depend on what was walked before.
  const auto fresh = open(r.bundle);
  for (const int32_t tid : threads) expect_same_flow(*fresh, *again, tid);
  return total;
}

TEST(PerfData, Gzip) {
  const TempFolder folder;
  const std::string input = folder / "input";
  std::ofstream(input) << std::string(long_run() ? 400000 : 2000, 'x') << "what repeats is short, what does not is not";
  EXPECT_GT(compare({"/usr/bin/gzip", "-k", "-f", input}, "mtc,tsc"), 10000u);
}

TEST(PerfData, Sort) {
  const TempFolder folder;
  const std::string input = folder / "input";
  std::ofstream(input) << "pear\napple\nquince\n";
  EXPECT_GT(compare({"/usr/bin/sort", input}, "mtc,tsc"), 10000u);
}

TEST(PerfData, ThreadsThatShareALock) {
  EXPECT_GT(compare({bin("programs/threads"), "2", long_run() ? "50" : "2"}, "mtc,tsc"), 10000u);
}

TEST(PerfData, ARingThatWasOverwritten) {
  const TempFolder folder;
  const std::string input = folder / "input";
  {
    std::ofstream out(input);
    for (uint64_t i = 0; i < 150000; ++i) out << i * i << '\n';
  }
  // Much longer than its ring, and that much longer than what the idle CPU writes until the recording ends.
  EXPECT_GT(compare({"/usr/bin/gzip", "-k", "-f", input}, "tsc,mtc", {"--ring", "2M"}, true), 10000u);
}

}  // namespace
}  // namespace hindcast::test
