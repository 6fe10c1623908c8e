// The perf source from open to snapshot, without PT hardware: a live program's simulated PT goes through a double of the
// kernel's AUX rings, and what is decoded from the snapshots is compared with what the program really ran.
#include <gtest/gtest.h>

#include <csignal>

#include "capture/recorder.h"
#include "capture/snapshot_output.h"
#include "capture/text_file.h"
#include "tests/e2e/truth_verdict.h"
#include "tests/support/kernel_files.h"
#include "tests/support/live_pt_source.h"
#include "tests/support/start_window.h"
#include "transport/bundle_reader.h"

namespace hindcast::test {
namespace {

using capture::Frozen;
using capture::Window;
using capture::WindowConfig;

class PerfAbi : public ::testing::Test {
 protected:
  void SetUp() override {
    HC_REQUIRE_PLUGIN();
    const auto cpus = capture::online_cpus();
    ASSERT_TRUE(cpus.ok());
    cpus_ = *cpus;
    PtMachine machine;
    machine.cpus = static_cast<unsigned>(cpus_.size());
    machine.cap_perfmon = machine.cap_ipc_lock = true;
    files_.emplace(machine);
    kernel_.emplace(machine, &capture::kernel_perf_calls());
    sim::SimConfig sim;
    sim.plugin = plugin_path();
    sim.truth = folder_.path() + "/truth";
    std::filesystem::create_directories(sim.truth);
    source_.emplace(sim, *kernel_, *files_);
  }
  void TearDown() override {
    if (!window_ || !window_->has_child() || window_->child().poll_end()) return;
    window_->child().send(SIGKILL);
    while (!window_->child().poll_end()) ::usleep(1000);
  }
  /// mtc_period: times also come while the CPUs idle, and often ones would fill a small ring.
  void start(const std::vector<std::string>& command, uint64_t ring, int mtc_period, const std::string& sys = "/sys") {
    WindowConfig config;
    config.command = command;
    config.ring_bytes = ring;
    config.pt = *parse_pt_options("tsc,mtc,psb_period=0,mtc_period=" + std::to_string(mtc_period));
    config.sys = sys;
    config.kernel = kernel_traced_;
    config.kernel_code.proc = files_->roots().proc;
    config.kernel_code.sys = files_->roots().sys;
    window_.emplace(*source_, *kernel_, config, [this](const std::string& text) { said_.push_back(text); });
    start_window(*window_);
  }
  void go_on(std::chrono::milliseconds time) {
    for (const auto end = Window::Clock::now() + time; Window::Clock::now() < end;) ASSERT_TRUE(window_->step({}).ok());
  }
  Frozen snapshot() {
    Frozen taken = snapshot_of(*window_);
    taken.info.incident = "i" + std::to_string(written_);  // taken while the program went on
    return taken;
  }
  Frozen finish() {
    while (!window_->child().poll_end() || !window_->alive().empty()) {
      if (const auto r = window_->step({}); !r) {
        ADD_FAILURE() << r.error().text();
        break;
      }
    }
    auto last = window_->finish();
    EXPECT_TRUE(last.ok()) << last.error().text();
    return last.ok() ? std::move(last).value() : Frozen();
  }
  std::string write(Frozen& frozen) {
    const std::string path = folder_.path() + "/" + std::to_string(written_++) + ".hcb";
    auto writer = transport::BundleWriter::create(path);
    EXPECT_TRUE(writer.ok());
    capture::BundleOutput output(*writer);
    const auto wrote = capture::write_snapshot(output, frozen, [](const std::string&) {});
    EXPECT_TRUE(wrote.ok()) << wrote.error().text();
    EXPECT_TRUE(writer->finish().ok());
    return path;
  }
  Verdict verify(const std::string& bundle) const { return verify_with_truth(bundle, folder_.path() + "/truth"); }
  static uint64_t pt_bytes(const Frozen& f) {
    uint64_t n = 0;
    for (const Cut& c : f.cuts)
      if (c.info.kind == StreamKind::pt) n += c.bytes.size();
    return n;
  }

  ScratchFolder folder_;
  std::vector<CpuId> cpus_;
  std::optional<PtMachineFiles> files_;
  std::optional<PtKernel> kernel_;
  std::optional<LivePtSource> source_;
  std::optional<Window> window_;
  bool kernel_traced_ = false;
  std::vector<std::string> said_;
  int written_ = 0;
};

void expect_truth_outside_gaps(const Verdict& v) {
  EXPECT_EQ(v.different, 0u) << v.text;
  EXPECT_GT(v.decoded, 0u) << v.text;
}

TEST_F(PerfAbi, ARecordingFromBeginToEndIsTheTruth) {
  start({test_program("threads"), "4", "2"}, 256 << 20, 3);
  Frozen last = finish();
  for (const Cut& c : last.cuts) EXPECT_FALSE(c.info.kind == StreamKind::pt && c.info.wrapped);
  const Verdict v = verify(write(last));
  EXPECT_EQ(v.status, 0) << v.text;
  expect_truth_outside_gaps(v);
  EXPECT_EQ(v.decoded, v.truth);
  EXPECT_EQ(v.gaps, 0u);
  EXPECT_GT(v.decoded, 1000000u);
}

TEST_F(PerfAbi, FreezeAfterFreezeOfARingThatWrapsIsTheTruthOutsideGaps) {
  start({test_program("cpu_bound"), "50"}, 256 << 10, 9);
  std::vector<std::string> bundles;
  bool wrapped = false, cut = false;
  for (int i = 0; i < 4; ++i) {
    go_on(std::chrono::milliseconds(i == 0 ? 400 : i == 1 ? 5 : 60));
    Frozen f = snapshot();
    EXPECT_GT(pt_bytes(f), 0u);
    for (const Cut& c : f.cuts) {
      if (c.info.kind != StreamKind::pt) continue;
      EXPECT_LE(c.bytes.size(), 256u << 10);
      wrapped |= c.info.wrapped;
      cut |= !c.info.cuts.empty();
    }
    bundles.push_back(write(f));
  }
  Frozen last = finish();
  bundles.push_back(write(last));
  EXPECT_TRUE(wrapped);
  EXPECT_TRUE(cut);
  for (const std::string& bundle : bundles) {
    SCOPED_TRACE(bundle);
    const Verdict v = verify(bundle);
    expect_truth_outside_gaps(v);
    EXPECT_TRUE(bundle != bundles.back() || v.decoded + v.not_decoded == v.truth);
  }
}

TEST_F(PerfAbi, WhatTheKernelFlagsIsAGapAndTheRestTheTruth) {
  start({test_program("threads"), "4", "2"}, 256 << 20, 3);
  source_->before_freeze = [this] {
    for (const CpuId cpu : cpus_) kernel_->flag(cpu, perf::kAuxTruncated);
  };
  Frozen last = finish();
  const std::string bundle = write(last);
  const Verdict v = verify(bundle);
  expect_truth_outside_gaps(v);
  const Ran ls = run_program({bin("hindcast"), "ls", bundle});
  EXPECT_NE(ls.out.find("truncated"), std::string::npos) << ls.out;
  EXPECT_EQ(ls.out.find("bytes of trace as truncated"), std::string::npos)
      << "the size is the ring's in overwrite mode";
  EXPECT_NE(ls.out.find("covers"), std::string::npos) << ls.out;
  EXPECT_NE(ls.out.find("CPU 0: "), std::string::npos) << ls.out;
}

TEST_F(PerfAbi, WithTheKernelTracedItsCodeIsInEverySnapshotByteForByte) {
  KernelFiles made_up(files_->roots().proc, files_->roots().sys);
  made_up.small_kernel().write();
  kernel_traced_ = true;
  start({test_program("cpu_bound"), "20"}, 16 << 20, 9);
  go_on(std::chrono::milliseconds(200));
  Frozen middle = snapshot();
  Frozen last = finish();
  EXPECT_FALSE(kernel_->opened().front().attr.exclude_kernel);
  for (Frozen* f : {&middle, &last}) {
    const std::string bundle = write(*f);
    const auto reader = transport::BundleReader::open(bundle);
    ASSERT_TRUE(reader.ok());
    const SnapshotInfo& info = reader->snapshot(0);
    const auto bytes_of = [&](const std::string& path) {
      for (const ImageInfo& i : info.images)
        if (i.path == path) return *reader->read_image(0, i.id);
      return std::vector<uint8_t>();
    };
    const auto placed = [&](uint64_t address, uint64_t length) {
      return std::count_if(info.placements.begin(), info.placements.end(), [&](const PlacementInfo& p) {
        return p.pid == kNoPid && p.address == address && p.length == length && p.from == RecordTime(0);
      });
    };
    EXPECT_EQ(bytes_of("[kernel.kallsyms]"), made_up.bytes_at(KernelFiles::kText, KernelFiles::kTextBytes));
    EXPECT_EQ(bytes_of("[nf_tables]"), made_up.bytes_at(KernelFiles::kModule, KernelFiles::kModuleBytes));
    EXPECT_EQ(placed(KernelFiles::kText, KernelFiles::kTextBytes), 1);
    EXPECT_EQ(placed(KernelFiles::kModule, KernelFiles::kModuleBytes), 1);
    const auto names = bytes_of("/proc/kallsyms");
    EXPECT_NE(std::string(names.begin(), names.end()).find(" T schedule\n"), std::string::npos);
    for (const std::string& note : info.notes) EXPECT_EQ(note.find("not in the recording"), std::string::npos) << note;
    const Ran ls = run_program({bin("hindcast"), "ls", bundle});
    EXPECT_NE(ls.out.find("[nf_tables]"), std::string::npos) << ls.out;
    EXPECT_NE(ls.out.find("kallsyms"), std::string::npos) << ls.out;
    const Verdict v = verify(bundle);
    EXPECT_EQ(v.different, 0u) << v.text;
    if (f == &last) {
      EXPECT_GT(v.decoded, 0u) << v.text;  // in the middle a busy machine may not have come to the program yet
    }
    const Ran exported = run_program({bin("hindcast"), "export", bundle, "-o", bundle + ".perf"});
    EXPECT_EQ(exported.code, 0) << exported.err;
  }
}

TEST_F(PerfAbi, ACpuThatGoesAndComesBackIsInTheSnapshotWithAWord) {
  if (cpus_.size() != 2) GTEST_SKIP() << "made for two CPUs, this machine has " << cpus_.size();
  start({test_program("cpu_bound"), "60"}, 16 << 20, 9, files_->roots().sys);
  go_on(std::chrono::milliseconds(300));
  Frozen before = snapshot();
  kernel_->go_offline(cpus_[1]);
  files_->write("sys/devices/system/cpu/online", "0\n");
  go_on(std::chrono::milliseconds(800));
  const Frozen without = snapshot();
  kernel_->come_online(cpus_[1]);
  files_->write("sys/devices/system/cpu/online", "0-1\n");
  go_on(std::chrono::milliseconds(800));
  const Frozen after = snapshot();
  finish();
  const auto has_note = [](const Frozen& f, const std::string& text) {
    return std::any_of(f.info.notes.begin(), f.info.notes.end(),
                       [&](const std::string& n) { return n.find(text) != std::string::npos; });
  };
  const auto streams = [](const Frozen& f) {
    return std::count_if(f.cuts.begin(), f.cuts.end(), [](const Cut& c) { return c.info.kind == StreamKind::pt; });
  };
  EXPECT_FALSE(has_note(before, "went offline"));
  EXPECT_TRUE(has_note(without, "CPU 1 went offline"));
  EXPECT_TRUE(has_note(after, "CPU 1 came online and is traced from then on"));
  EXPECT_EQ(streams(without), 2);
  EXPECT_EQ(streams(after), 2);
  EXPECT_GT(kernel_->opened().size(), 2u);
  // What the simulator made while the double's CPU was away never reached a ring; what did must still be true.
  expect_truth_outside_gaps(verify(write(before)));
}

}  // namespace
}  // namespace hindcast::test
