// The perf source against a double of the kernel: what it is granted, what it makes of rings, stops, losses and CPUs that go.
#include "tests/support/pt_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "capture/doctor.h"
#include "capture/perf_source.h"
#include "capture/privilege.h"

namespace hindcast::capture {
namespace {

using test::PtKernel;
using test::PtMachine;
using test::PtMachineFiles;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

PtMachine privileged() {
  PtMachine m;
  m.cap_perfmon = m.cap_ipc_lock = true;
  return m;
}

std::vector<uint8_t> packets(size_t n, uint8_t value) { return std::vector<uint8_t>(n, value); }

/// One machine, with a perf source that has or has not been opened there.
struct Rig {
  explicit Rig(const PtMachine& m = privileged()) : machine(m), files(m), kernel(m), source(kernel, files.roots()) {
    for (unsigned i = 0; i < m.cpus; ++i) config.cpus.push_back(CpuId(i));
    config.ring_bytes = 1 << 16;
  }
  Result<void> start() {
    HC_TRY_VOID(source.prepare(config));
    return source.on_started(Pid(1));
  }
  std::vector<Cut> snapshot() {
    EXPECT_TRUE(source.start_snapshot().ok());
    auto cuts = source.take_snapshot();
    EXPECT_TRUE(cuts.ok() && *cuts);
    return cuts.ok() && *cuts ? std::move(**cuts) : std::vector<Cut>();
  }
  static const Cut& pt_of(const std::vector<Cut>& cuts, uint32_t cpu) {
    static const Cut none;
    for (const Cut& c : cuts)
      if (c.info.kind == StreamKind::pt && c.info.cpu == CpuId(cpu)) return c;
    ADD_FAILURE() << "no PT of CPU " << cpu;
    return none;
  }
  static std::map<uint32_t, int> records_of(const std::vector<Cut>& cuts, uint32_t cpu) {
    std::map<uint32_t, int> types;
    for (const Cut& c : cuts) {
      if (c.info.kind != StreamKind::sideband || c.info.cpu != CpuId(cpu)) continue;
      perf::RecordReader reader(c.bytes);
      perf::Record r;
      while (reader.next(r)) ++types[r.type];
    }
    return types;
  }
  std::vector<std::string> notes() const {
    SnapshotInfo info;
    source.describe(info);
    return info.notes;
  }

  PtMachine machine;
  PtMachineFiles files;
  PtKernel kernel;
  PtSourceConfig config;
  PerfSource source;
};

// ---- rings

TEST(PtKernelRing, HoldsWhatTheCpuMadeWhileTheEventWasOn) {
  Rig r;
  ASSERT_TRUE(r.source.prepare(r.config).ok());
  r.kernel.trace(CpuId(0), packets(10, 1));  // nobody listens yet
  ASSERT_TRUE(r.source.on_started(Pid(1)).ok());
  r.kernel.trace(CpuId(0), packets(1000, 2));
  r.kernel.trace(CpuId(1), packets(70, 3));
  const auto cuts = r.source.freeze();
  ASSERT_TRUE(cuts.ok());
  r.kernel.trace(CpuId(0), packets(10, 4));  // nobody listens any more
  EXPECT_EQ(r.kernel.lost_packets(), 20u);
  EXPECT_EQ(Rig::pt_of(*cuts, 0).bytes, packets(1000, 2));
  EXPECT_EQ(Rig::pt_of(*cuts, 1).bytes, packets(70, 3));
  EXPECT_FALSE(Rig::pt_of(*cuts, 0).info.wrapped);
  EXPECT_EQ(Rig::records_of(*cuts, 0), (std::map<uint32_t, int>{{perf::kItraceStart, 1}, {perf::kAux, 1}}));
}

TEST(PtKernelRing, GoesOnBehindAFreezeAndSaysWhereItWas) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  r.kernel.trace(CpuId(0), packets(1000, 1));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).bytes.size(), 1000u);
  r.kernel.trace(CpuId(0), packets((1 << 16) + 500, 2));
  const auto cuts = r.snapshot();
  const Cut& pt = Rig::pt_of(cuts, 0);
  EXPECT_TRUE(pt.info.wrapped);
  EXPECT_EQ(pt.bytes, packets(1 << 16, 2));
  EXPECT_THAT(pt.info.cuts, IsEmpty()) << "it was written over";
  r.kernel.trace(CpuId(0), packets(100, 3));
  EXPECT_THAT(Rig::pt_of(r.snapshot(), 0).info.cuts, ElementsAre((1u << 16) - 100));
}

TEST(PtKernelRing, AProcessThatComesAndGoesLeavesOneTrace) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  for (uint8_t i = 1; i <= 50; ++i) {
    r.kernel.trace(CpuId(0), packets(100, i));
    r.kernel.reschedule(CpuId(0));
  }
  const auto cuts = r.snapshot();
  EXPECT_EQ(Rig::pt_of(cuts, 0).bytes.size(), 5000u);
  EXPECT_THAT(Rig::pt_of(cuts, 0).info.cuts, IsEmpty()) << "an AUX record is no freeze";
  EXPECT_EQ(Rig::records_of(cuts, 0)[perf::kAux], 51);
  EXPECT_THAT(r.notes(), Not(Contains(HasSubstr("CPU 0"))));  // OVERWRITE is on every record and no loss
}

TEST(PtKernelRing, RecordsThatNobodyReadsAreLostAndCounted) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  for (int i = 0; i < 2000; ++i) r.kernel.reschedule(CpuId(0));  // more than 64 KiB of AUX records
  ASSERT_TRUE(r.source.poll().ok());
  r.kernel.reschedule(CpuId(0));
  const auto cuts = r.snapshot();
  EXPECT_EQ(Rig::records_of(cuts, 0)[perf::kLost], 1);
  EXPECT_THAT(r.notes(), Contains(HasSubstr("records about the trace were dropped")));
}

// ---- losses

TEST(PtKernelLoss, TruncationTurnsTheEventOffAndPollTurnsItOnAgain) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  r.kernel.trace(CpuId(0), packets(300, 1));
  r.kernel.flag(CpuId(0), perf::kAuxTruncated);
  EXPECT_FALSE(r.kernel.tracing(CpuId(0)));
  ASSERT_TRUE(r.source.poll().ok());
  EXPECT_TRUE(r.kernel.tracing(CpuId(0)));
  r.kernel.trace(CpuId(0), packets(300, 2));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).bytes.size(), 600u);
  EXPECT_THAT(r.notes(), Contains(HasSubstr("CPU 0: the kernel cut the trace short 1 times")));
}

TEST(PtKernelLoss, HolesAndCollisionsAreSaid) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  r.kernel.flag(CpuId(1), perf::kAuxPartial);
  r.kernel.reschedule(CpuId(1));
  r.kernel.flag(CpuId(1), perf::kAuxCollision);
  r.snapshot();
  EXPECT_THAT(r.notes(), Contains(HasSubstr("CPU 1: the trace has 1 holes")));
  EXPECT_THAT(r.notes(), Contains(HasSubstr("CPU 1: 1 collisions")));
  EXPECT_TRUE(r.kernel.tracing(CpuId(1)));
}

// ---- CPUs that go and come

TEST(PtKernelHotplug, TheRingOfACpuThatWentIsStillTaken) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  r.kernel.trace(CpuId(1), packets(500, 1));
  r.kernel.go_offline(CpuId(1));
  r.source.cpu_went(CpuId(1));
  for (int i = 0; i < 2; ++i) {
    const auto cuts = r.snapshot();
    EXPECT_EQ(Rig::pt_of(cuts, 1).bytes, packets(500, 1));
    EXPECT_EQ(Rig::pt_of(cuts, 0).bytes.size(), 0u);
  }
  EXPECT_THAT(r.notes(), Contains("CPU 1 went offline: its trace ends there"));
}

TEST(PtKernelHotplug, ACpuThatCameBackIsTracedByANewEvent) {
  Rig r;
  ASSERT_TRUE(r.start().ok());
  r.kernel.trace(CpuId(1), packets(500, 1));
  r.kernel.go_offline(CpuId(1));
  r.source.cpu_went(CpuId(1));
  r.kernel.come_online(CpuId(1));
  r.snapshot();  // enables what it can
  EXPECT_FALSE(r.kernel.tracing(CpuId(1))) << "the old event is dead";
  ASSERT_TRUE(r.source.cpu_came(CpuId(1)).ok());
  EXPECT_TRUE(r.kernel.tracing(CpuId(1)));
  r.kernel.trace(CpuId(1), packets(300, 2));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 1).bytes, packets(300, 2));
  EXPECT_THAT(r.notes(), Contains(HasSubstr("CPU 1 came online and is traced from then on; what it ran before")));
}

TEST(PtKernelHotplug, ANewCpuIsTracedAndOneThatCannotBeIsSaid) {
  Rig r;
  r.kernel.go_offline(CpuId(1));
  r.config.cpus = {CpuId(0)};
  ASSERT_TRUE(r.start().ok());
  EXPECT_FALSE(r.source.cpu_came(CpuId(1)).ok()) << "it is not there";
  r.kernel.come_online(CpuId(1));
  ASSERT_TRUE(r.source.cpu_came(CpuId(1)).ok());
  r.kernel.trace(CpuId(1), packets(10, 1));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 1).bytes.size(), 10u);
}

TEST(PtKernelHotplug, EventsOfACommandOnlyWaitForTheirCpu) {
  Rig r;
  r.config.command_only = true;
  ASSERT_TRUE(r.start().ok());
  r.kernel.trace(CpuId(1), packets(10, 1));
  r.kernel.go_offline(CpuId(1));
  r.source.cpu_went(CpuId(1));
  r.kernel.come_online(CpuId(1));
  ASSERT_TRUE(r.source.cpu_came(CpuId(1)).ok());
  r.kernel.trace(CpuId(1), packets(20, 2));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 1).bytes.size(), 30u);
}

// ---- who and what is traced

TEST(PtKernelScope, EveryCpuNeedsParanoiaOfZeroOrACapability) {
  for (const int paranoid : {-1, 0, 1, 2, 3}) {
    PtMachine m;
    m.paranoid = paranoid;
    Rig r(m);
    const auto started = r.start();
    EXPECT_EQ(started.ok(), paranoid <= 0) << paranoid;
    if (started.ok()) continue;
    EXPECT_EQ(started.error().code, Errc::permission);
    EXPECT_THAT(started.error().found, HasSubstr("perf_event_paranoid = " + std::to_string(paranoid) +
                                                 "; tracing a whole CPU needs 0 or less"));
  }
}

TEST(PtKernelScope, ACommandAndItsChildrenNeedNoPrivilege) {
  PtMachine m;  // paranoid 2, nothing held
  Rig r(m);
  r.config.command_only = true;
  ASSERT_TRUE(r.source.prepare(r.config).ok());
  EXPECT_THAT(r.kernel.opened(), IsEmpty()) << "the command is not there yet";
  const auto started = r.source.on_started(Pid(4711));
  ASSERT_TRUE(started.ok()) << started.error().text();
  ASSERT_THAT(r.kernel.opened(), SizeIs(2));
  for (const auto& o : r.kernel.opened()) {
    EXPECT_EQ(o.pid, 4711);
    EXPECT_TRUE(o.attr.inherit);
    EXPECT_TRUE(o.attr.exclude_kernel);
  }
  r.kernel.trace(CpuId(0), packets(30, 1), Pid(4712));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).bytes.size(), 30u);
}

TEST(PtKernelScope, ACommandCannotBeTracedAloneWhereThereIsNone) {
  Rig r;
  r.config.command_only = true;
  ASSERT_TRUE(r.source.prepare(r.config).ok());
  EXPECT_FALSE(r.source.traces_kernel());
  EXPECT_EQ(r.source.on_started(kNoPid).error().code, Errc::usage);
}

TEST(PtKernelScope, TheKernelIsTracedWhenAskedForAndPermitted) {
  for (const int paranoid : {0, 1, 2}) {
    PtMachine m;
    m.paranoid = paranoid;
    Rig r(m);
    r.config.command_only = r.config.kernel = true;
    const auto started = r.start();
    EXPECT_EQ(started.ok(), paranoid <= 1) << paranoid;
    if (!started.ok()) {
      EXPECT_THAT(started.error().found, HasSubstr("tracing the kernel needs 1 or less"));
      continue;
    }
    EXPECT_FALSE(r.kernel.opened().front().attr.exclude_kernel);
    SnapshotInfo info;
    r.source.describe(info);
    EXPECT_FALSE(info.user_only);
    EXPECT_TRUE(r.source.traces_kernel()) << "so that the window copies its code";
  }
}

TEST(PtKernelScope, AnotherPtUserIsNamed) {
  Rig r;
  r.kernel.another_user(CpuId(1));
  const auto started = r.start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().text(), HasSubstr("CPU 1: intel_pt"));
  EXPECT_THAT(started.error().found, HasSubstr("one user per CPU"));
}

// ---- options

TEST(PtKernelOptions, WhatWePassIsWhatTheDriverTakes) {
  for (const char* text : {"", "cyc", "cyc,cyc_thresh=3", "noretcomp", "mtc=0", "psb_period=0", "mtc_period=9",
                           "branch=0", "psb_period=5,cyc"}) {
    Rig r;
    r.config.pt = *parse_pt_options(text);
    const auto started = r.start();
    EXPECT_TRUE(started.ok()) << text << ": " << started.error().text();
  }
}

TEST(PtKernelOptions, WhatTheCpuLacksIsRefusedBeforeTheKernelMust) {
  for (const char* text : {"ptw", "pwr_evt", "mtc_period=1", "psb_period=6", "cyc,cyc_thresh=14", "event", "notnt"}) {
    Rig r;
    r.config.pt = *parse_pt_options(text);
    const auto started = r.start();
    ASSERT_FALSE(started.ok()) << text;
    EXPECT_EQ(started.error().code, Errc::unsupported) << text;
    EXPECT_THAT(r.kernel.opened(), IsEmpty());
  }
}

TEST(PtKernelOptions, APeriodOfZeroMustBeOffered) {
  PtMachine m = privileged();
  m.caps["mtc_periods"] = 0x248;  // 3, 6 and 9
  Rig r(m);
  r.config.pt = *parse_pt_options("mtc_period=0");
  const auto started = r.start();
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, Errc::unsupported);
  EXPECT_THAT(started.error().found, HasSubstr("3,6,9"));
}

TEST(PtKernelOptions, DefaultsFitACpuOfTheFirstKind) {
  PtMachine broadwell = privileged();
  broadwell.branch_always_on = true;
  broadwell.caps = {{"psb_cyc", 0},          {"mtc", 0},         {"mtc_periods", 0}, {"cycle_thresholds", 0},
                    {"psb_periods", 0},      {"topa_output", 1}, {"ptwrite", 0},     {"topa_multiple_entries", 0},
                    {"power_event_trace", 0}};
  Rig r(broadwell);
  r.config.ring_bytes = 64 << 20;
  const auto started = r.start();
  ASSERT_TRUE(started.ok()) << started.error().text();
  SnapshotInfo info;
  r.source.describe(info);
  EXPECT_FALSE(info.pt.mtc);
  EXPECT_EQ(info.pt.psb_period, 0);
  EXPECT_THAT(info.notes, Contains(HasSubstr("no MTC")));
  EXPECT_THAT(info.notes, Contains(HasSubstr("PT rings are 4 MiB a CPU")));
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).info.ring_bytes, uint64_t{4} << 20);
}

// ---- memory

TEST(PtKernelMemory, WhatFitsIsWorkedOutAndSaid) {
  PtMachine m;
  m.cap_perfmon = true;
  Rig r(m);
  r.config.ring_bytes = 0;
  const auto started = r.start();
  ASSERT_TRUE(started.ok()) << started.error().text();
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).info.ring_bytes, uint64_t{4} << 20);
  EXPECT_THAT(r.notes(),
              Contains(HasSubstr("PT rings are 4.0 MiB a CPU, the largest that fit: perf_event_mlock_kb 516")));
}

TEST(PtKernelMemory, WhatCannotFitIsRefusedBeforeAnythingIsOpened) {
  PtMachine m;
  m.cap_perfmon = true;
  Rig r(m);
  r.config.ring_bytes = 64 << 20;
  const auto started = r.start();
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, Errc::permission);
  EXPECT_THAT(started.error().what, HasSubstr("PT rings of 64.0 MiB on 2 CPUs need 128.1 MiB of locked memory"));
  EXPECT_THAT(started.error().found, HasSubstr("no CAP_IPC_LOCK"));
  EXPECT_THAT(started.error().fix, HasSubstr("--ring auto"));
  EXPECT_THAT(r.kernel.opened(), IsEmpty());
}

TEST(PtKernelMemory, TheLargestThatIsSaidToFitDoesAndTwiceThatDoesNot) {
  for (const uint64_t mlock_kb : {0u, 130u, 516u, 2000u})
    for (const uint64_t memlock : {uint64_t{64} << 10, uint64_t{1} << 20, uint64_t{8} << 20, uint64_t{100} << 20}) {
      PtMachine m;
      m.cap_perfmon = true;
      m.mlock_kb = mlock_kb;
      m.memlock_bytes = memlock;
      const uint64_t limit = ring_memory(PtMachineFiles(m).roots().proc, m.cpus).bytes;
      uint64_t fits = 4096;
      while (m.cpus * (2 * fits + (64 << 10) + 4096) <= limit) fits *= 2;
      Rig most(m), more(m);
      most.config.ring_bytes = fits;
      more.config.ring_bytes = 2 * fits;
      const bool any = m.cpus * (fits + (64 << 10) + 4096) <= limit;
      EXPECT_EQ(most.start().ok(), any) << mlock_kb << " KiB, " << memlock;
      EXPECT_FALSE(more.start().ok()) << mlock_kb << " KiB, " << memlock;
    }
}

TEST(PtKernelMemory, ABudgetIsSharedByTheCpus) {
  Rig r;
  r.config.ring_bytes = 0;
  r.config.ring_budget = 3 << 20;
  ASSERT_TRUE(r.start().ok());
  EXPECT_EQ(Rig::pt_of(r.snapshot(), 0).info.ring_bytes, uint64_t{1} << 20);
  Rig tight;
  tight.config.ring_budget = 5000;
  EXPECT_EQ(tight.start().error().code, Errc::usage);
}

TEST(PtKernelMemory, WhenOthersHoldTheMemoryAutomaticRingsShrink) {
  PtMachine m;
  m.cap_perfmon = true;
  m.memlock_bytes = 6 << 20;
  PtMachine said = m;  // what /proc says does not tell what others of this user hold
  said.memlock_bytes = 100 << 20;
  const PtMachineFiles files(said);
  PtKernel kernel(m);
  PerfSource source(kernel, files.roots());
  PtSourceConfig config;
  config.cpus = {CpuId(0), CpuId(1)};
  config.ring_bytes = 0;
  const auto prepared = source.prepare(config);
  ASSERT_TRUE(prepared.ok()) << prepared.error().text();
  SnapshotInfo info;
  source.describe(info);
  EXPECT_THAT(info.notes, Contains(HasSubstr("the kernel granted no more memory")));
  PerfSource stubborn(kernel, files.roots());
  config.ring_bytes = 32 << 20;
  PtKernel fresh(m);
  PerfSource refused(fresh, files.roots());
  const auto r = refused.prepare(config);
  ASSERT_FALSE(r.ok());
  EXPECT_THAT(r.error().found, HasSubstr("other perf users"));
}

// ---- every combination

/// What one machine grants one recording: either its trace, or an Error that names what forbids it.
class PtKernelGrants : public ::testing::TestWithParam<std::tuple<bool, bool, int>> {};

TEST_P(PtKernelGrants, NeverAnEmptyCaptureWithoutTheCauseNamed) {
  PtMachine m;
  std::tie(m.cap_perfmon, m.cap_ipc_lock, m.paranoid) = GetParam();
  m.mlock_kb = 64;
  const PtMachineFiles files(m);
  int captured = 0, refused = 0;
  for (const uint64_t memlock : {uint64_t{0}, uint64_t{64} << 10, uint64_t{8} << 20, uint64_t{1} << 30})
    for (const uint64_t ring : {uint64_t{0}, uint64_t{64} << 10, uint64_t{16} << 20})
      for (const bool kernel : {false, true})
        for (const bool command : {false, true}) {
          SCOPED_TRACE("memlock " + std::to_string(memlock) + " ring " + std::to_string(ring) +
                       (kernel ? " kernel" : "") + (command ? " command" : ""));
          m.memlock_bytes = memlock;
          files.grant(m);
          PtKernel machine(m);
          PerfSource source(machine, files.roots());
          PtSourceConfig config;
          config.cpus = {CpuId(0), CpuId(1)};
          config.ring_bytes = ring;
          config.kernel = kernel;
          config.command_only = command;
          auto started = source.prepare(config);
          if (started.ok()) started = source.on_started(Pid(1));
          const bool allowed = m.cap_perfmon || (m.paranoid <= (kernel ? 1 : 2) && (command || m.paranoid <= 0));
          const bool unlimited = m.cap_ipc_lock || m.paranoid < 0;
          if (started.ok()) {
            ++captured;
            EXPECT_TRUE(allowed);
            machine.trace(CpuId(0), packets(100, 1));
            const auto cuts = source.freeze();
            ASSERT_TRUE(cuts.ok());
            EXPECT_EQ(Rig::pt_of(*cuts, 0).bytes.size(), 100u);
            continue;
          }
          ++refused;
          const Error& e = started.error();
          EXPECT_EQ(e.code, Errc::permission);
          EXPECT_FALSE(e.fix.empty());
          const bool names_memory = e.found.find("RLIMIT_MEMLOCK " + std::to_string(memlock)) != std::string::npos;
          const bool names_paranoia =
              e.found.find("perf_event_paranoid = " + std::to_string(m.paranoid)) != std::string::npos;
          EXPECT_TRUE((names_memory && !unlimited) || (names_paranoia && !allowed)) << e.text();
        }
  EXPECT_EQ(captured + refused, 4 * 3 * 2 * 2);
  EXPECT_EQ(captured > 0, m.cap_perfmon || m.paranoid <= 2);
}

INSTANTIATE_TEST_SUITE_P(All, PtKernelGrants,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Values(-1, 0, 1, 2, 3)));

TEST(PtKernelMatrix, WithoutThePmuNobodyRecordsAndTheFileIsNamed) {
  for (const bool perfmon : {false, true}) {
    PtMachine m;
    m.pmu = false;
    m.cap_perfmon = m.cap_ipc_lock = perfmon;
    Rig r(m);
    const auto started = r.start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().code, Errc::unavailable);
    EXPECT_THAT(started.error().found, HasSubstr("event_source/devices/intel_pt is missing"));
    EXPECT_THAT(started.error().fix, HasSubstr("--source simulated"));
  }
}

TEST(PtKernelMatrix, TheDoctorSaysTheSameOfTheseMachines) {
  for (const bool perfmon : {false, true})
    for (const bool ipc_lock : {false, true})
      for (const int paranoid : {0, 2}) {
        PtMachine m;
        m.cap_perfmon = perfmon;
        m.cap_ipc_lock = ipc_lock;
        m.paranoid = paranoid;
        const PtMachineFiles files(m);
        PtKernel kernel(m);
        DoctorConfig c;
        c.roots = files.roots();
        c.calls = &kernel;
        std::map<std::string, AbilityState> states;
        for (const Ability& a : diagnose(c).abilities) states[a.name] = a.state;
        EXPECT_EQ(states["perf_event_paranoid"] == AbilityState::ok, perfmon || paranoid <= 0);
        EXPECT_EQ(states["locked memory"] == AbilityState::ok, ipc_lock);
      }
}

}  // namespace
}  // namespace hindcast::capture
