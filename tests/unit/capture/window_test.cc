// A window that is taken again and again while it goes on, on the real kernel with a source that needs no PT.
#include "capture/window.h"

#include <algorithm>
#include <csignal>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/record_builder.h"
#include "decode/host_trace.h"
#include "decode/identity.h"
#include "tests/support/memory_source.h"
#include "tests/support/own_cgroup.h"
#include "tests/support/start_window.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

class WindowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SidebandProbe probe;
    if (const auto r = probe.usable(); !r) GTEST_SKIP() << r.error().text();
  }
  void TearDown() override {
    if (!window_ || window_->child().poll_end()) return;
    window_->child().send(SIGKILL);
    while (!window_->child().poll_end()) ::usleep(1000);
  }
  void start(const std::string& script) {
    WindowConfig config;
    config.command = {"/bin/sh", "-c", script};
    config.ring_bytes = 1 << 20;
    window_.emplace(source_, kernel_perf_calls(), config, [](const std::string&) {});
    test::start_window(*window_);
  }
  Frozen snapshot() { return test::snapshot_of(*window_); }
  static uint64_t execs(const Frozen& f) {
    uint64_t n = 0;
    for (const Cut& c : f.cuts) {
      if (c.info.kind != StreamKind::sideband) continue;
      perf::RecordReader reader(c.bytes);
      perf::Record r;
      while (reader.next(r)) {
        if (r.type != perf::kComm || !(r.misc & perf::kMiscCommExec)) continue;
        // Names are kept of everybody on the machine.
        const Pid pid(ByteReader(r.body).read<int32_t>());
        n += std::count(f.info.root_pids.begin(), f.info.root_pids.end(), pid) != 0;
      }
      EXPECT_FALSE(reader.malformed());
    }
    return n;
  }

  FakeSource source_{"simulated"};
  std::optional<Window> window_;
};

TEST_F(WindowTest, EachSnapshotHoldsAllSinceTheStartAndTheWindowGoesOn) {
  // Each STOP waits for the test, so that what is in which snapshot does not depend on who is how fast.
  start("kill -STOP $$; /bin/true; kill -STOP $$; /bin/true; exit 0");
  const auto wait_until_stopped = [&] {
    siginfo_t end{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(window_->child().pid().value()), &end, WSTOPPED), 0);
    ASSERT_EQ(end.si_code, CLD_STOPPED);
  };
  wait_until_stopped();
  const Frozen first = snapshot();
  window_->child().send(SIGCONT);
  wait_until_stopped();
  const Frozen second = snapshot();
  EXPECT_EQ(source_.snapshots, 2u);
  EXPECT_EQ(execs(first), 1u);  // the shell
  EXPECT_EQ(execs(second), 2u);
  EXPECT_EQ(first.info.traced.earliest, second.info.traced.earliest);
  EXPECT_LT(first.info.traced.latest, second.info.traced.latest);
  EXPECT_LE(first.info.traced.earliest, first.info.traced.latest);
  EXPECT_EQ(first.info.command, second.info.command);
  EXPECT_GT(second.info.root_pids.size(), first.info.root_pids.size());
  window_->child().send(SIGCONT);
  while (!window_->child().poll_end()) ASSERT_TRUE(window_->step({}).ok());
  const auto last = window_->finish();
  ASSERT_TRUE(last.ok()) << last.error().text();
  EXPECT_EQ(execs(*last), 3u);
}

/// What a frozen window tells of who its threads are.
class Told {
 public:
  explicit Told(const Frozen& frozen) : info_(frozen.info) {
    for (const Cut& c : frozen.cuts) {
      info_.streams.push_back(c.info);
      info_.streams.back().id = static_cast<uint32_t>(info_.streams.size());
      source_.streams[info_.streams.back().id] = c.bytes;
    }
    auto built = decode::HostTrace::build(info_, source_);
    EXPECT_TRUE(built.ok());
    if (built.ok()) trace_ = std::move(*built);
  }
  const decode::ThreadIdentity& of(Pid pid) const {
    const auto* t = trace_->identities().find(Tid(pid.value()));
    static const decode::ThreadIdentity nothing;
    EXPECT_TRUE(t);
    return t ? *t : nothing;
  }
  /// The version 2 paths of a span.
  std::vector<std::string> paths(const decode::CgroupSpan& span) const {
    std::vector<std::string> out;
    for (const uint32_t text : span.texts) {
      const std::string& all = trace_->identities().text(text);
      const size_t at = all.find("0::");
      out.push_back(all.substr(at + 3, all.find('\n', at) - at - 3));
    }
    return out;
  }

 private:
  SnapshotInfo info_;
  test::MemorySource source_;
  std::unique_ptr<decode::HostTrace> trace_;
};

TEST_F(WindowTest, AThreadThatMovedToAnotherCgroupWasInEitherBetweenTheLooks) {
  const test::OwnCgroup cgroup("hindcast-window");
  if (!cgroup.missing().empty()) GTEST_SKIP() << cgroup.missing();
  start("kill -STOP $$; exec sleep 600");
  const Pid pid = window_->child().pid();
  snapshot();
  ASSERT_TRUE(cgroup.take(pid.value()));
  const Told told(snapshot());
  const auto& spans = told.of(pid).cgroups;
  using decode::Sure;
  ASSERT_GE(spans.size(), 3u);
  EXPECT_EQ(spans[spans.size() - 1].sure, Sure::unchecked);
  EXPECT_EQ(told.paths(spans[spans.size() - 1]), std::vector<std::string>{cgroup.path()});
  const auto either = std::find_if(spans.begin(), spans.end(), [](const auto& s) { return s.sure == Sure::either; });
  ASSERT_NE(either, spans.end());
  const auto both = told.paths(*either);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[1], cgroup.path());
  EXPECT_NE(both[0], cgroup.path());
}

TEST_F(WindowTest, AProcessThatLivedTooShortlyToBeLookedAtIsWhereItsParentWas) {
  const test::OwnCgroup cgroup("hindcast-window");
  if (!cgroup.missing().empty()) GTEST_SKIP() << cgroup.missing();
  start("kill -STOP $$; /bin/true; kill -STOP $$");
  const Pid shell = window_->child().pid();
  ASSERT_TRUE(cgroup.take(shell.value()));
  snapshot();
  window_->child().send(SIGCONT);
  siginfo_t end{};
  ::usleep(1000);
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(shell.value()), &end, WSTOPPED | WNOWAIT), 0);
  const Frozen frozen = snapshot();
  const Told told(frozen);
  ASSERT_EQ(frozen.info.root_pids.size(), 2u);
  const auto& spans = told.of(frozen.info.root_pids[1]).cgroups;
  ASSERT_FALSE(spans.empty());
  for (const auto& span : spans) EXPECT_EQ(told.paths(span), std::vector<std::string>{cgroup.path()});
}

TEST_F(WindowTest, NamespacesAreThoseThatAThreadMadeForItself) {
  if (::access("/usr/bin/unshare", X_OK) != 0) GTEST_SKIP() << "no /usr/bin/unshare";
  start("exec /usr/bin/unshare --uts --ipc /bin/sh -c 'kill -STOP $$; exec sleep 600'");
  const Pid pid = window_->child().pid();
  siginfo_t end{};
  if (::waitid(P_PID, static_cast<id_t>(pid.value()), &end, WSTOPPED | WEXITED | WNOWAIT) != 0 ||
      end.si_code != CLD_STOPPED)
    GTEST_SKIP() << "no namespaces can be made here";
  const Told told(snapshot());
  const auto& spans = told.of(pid).namespaces;
  ASSERT_GE(spans.size(), 2u);
  const auto inode_of = [](const std::string& process, const char* kind) {
    struct stat s {};
    EXPECT_EQ(::stat(("/proc/" + process + "/ns/" + kind).c_str(), &s), 0);
    return s.st_ino;
  };
  const auto one = [](const decode::NamespaceSpan& span, identity::NamespaceKind kind) {
    return span.kinds[kind].any_of.size() == 1 ? span.kinds[kind].any_of[0].inode : 0;
  };
  const auto& last = spans.back();
  EXPECT_EQ(one(last, identity::kUts), inode_of(std::to_string(pid.value()), "uts"));
  EXPECT_EQ(one(last, identity::kNet), inode_of("self", "net"));
  EXPECT_NE(one(last, identity::kUts), inode_of("self", "uts"));
  // The kernel told of the change: nothing is left open, before and after it.
  const auto before = std::find_if(spans.begin(), spans.end(), [&](const auto& s) {
    return one(s, identity::kUts) == inode_of("self", "uts") && s.kinds[identity::kUts].sure == decode::Sure::seen;
  });
  EXPECT_NE(before, spans.end());
  for (const auto& s : spans) EXPECT_NE(s.kinds[identity::kUts].sure, decode::Sure::either);
}

TEST_F(WindowTest, ASnapshotMustBeAskedFor) {
  start("exit 0");
  EXPECT_FALSE(window_->take_snapshot().ok());
}

}  // namespace
}  // namespace hindcast::capture
