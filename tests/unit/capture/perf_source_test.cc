// The intel_pt source as far as it goes without PT: sysfs, config bits, AUX rings, freeze, and what errors say.
#include "capture/perf_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "capture/doctor.h"
#include "capture/record_builder.h"
#include "tests/support/kernel_files.h"
#include "tests/support/pt_machine.h"
#include "tests/unit/capture/fake_perf.h"

namespace hindcast::capture {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

/// A Skylake as its files read. The memory that the kernel would lock is no matter here.
class PtMachine : public ::testing::Test {
 protected:
  static test::PtMachine machine() {
    test::PtMachine m;
    m.cap_ipc_lock = true;
    return m;
  }
  test::PtMachineFiles files_{machine()};
  MachineRoots roots_ = files_.roots();
};

TEST(PmuField, IsReadAndFilled) {
  const auto f = parse_pmu_field("config:14-17\n");
  ASSERT_TRUE(f.has_value());
  EXPECT_EQ(f->mask, 0x3c000u);
  EXPECT_EQ(f->place(9), uint64_t{9} << 14);
  EXPECT_EQ(f->place(16), std::nullopt);
  const auto split = parse_pmu_field("config1:0-1,8");
  ASSERT_TRUE(split.has_value());
  EXPECT_EQ(split->word, PmuField::WordName::config1);
  EXPECT_EQ(split->place(7), uint64_t{0x103});
  EXPECT_EQ(split->place(4), uint64_t{0x100});
}

TEST(PmuField, NonsenseIsRefused) {
  for (const char* text : {"", "config", "config:", "config:x", "config:5-3", "config:64", "config9:1", "config:1,",
                           "config:1-3,2", "config:1;2"})
    EXPECT_FALSE(parse_pmu_field(text).has_value()) << text;
}

TEST_F(PtMachine, IsReadFromSysfs) {
  const auto pmu = read_pt_pmu(roots_);
  ASSERT_TRUE(pmu.ok()) << pmu.error().text();
  EXPECT_EQ(pmu->type, 8u);
  EXPECT_EQ(pmu->cap("psb_periods"), 0x3fu) << "hexadecimal without 0x";
  EXPECT_EQ(pmu->nr_addr_filters, 2u);
  const auto cpu = read_pt_cpu(roots_, &*pmu);
  ASSERT_TRUE(cpu.ok());
  EXPECT_TRUE(cpu->intel);
  EXPECT_EQ(cpu->family, 6);
  EXPECT_EQ(cpu->model, 94);
  EXPECT_EQ(cpu->stepping, 3);
  EXPECT_EQ(cpu->nominal_ratio, 34);
  EXPECT_EQ(cpu->tsc_ctc_num, 284u);
  EXPECT_EQ(cpu->tsc_ctc_den, 2u);
}

TEST_F(PtMachine, OptionsBecomeTheKernelsBits) {
  const auto pmu = read_pt_pmu(roots_);
  ASSERT_TRUE(pmu.ok());
  EXPECT_EQ(*pt_config_bits(*pmu, PtOptions{}), 1u | 1u << 13 | 1u << 10 | 1u << 9 | 3u << 14 | 3u << 24);
  PtOptions o;
  o.cyc = o.noretcomp = true;
  o.cyc_thresh = 2;
  o.mtc = false;
  o.psb_period = 0;
  EXPECT_EQ(*pt_config_bits(*pmu, o), 1u | 1u << 13 | 1u << 10 | 1u << 1 | 1u << 11 | 2u << 19);
}

TEST_F(PtMachine, AnOptionThatTheCpuLacksIsNamed) {
  const auto pmu = read_pt_pmu(roots_);
  ASSERT_TRUE(pmu.ok());
  PtOptions ptw;
  ptw.ptw = true;
  auto r = pt_config_bits(*pmu, ptw);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::unsupported);
  EXPECT_THAT(r.error().text(), HasSubstr("ptw=1"));
  PtOptions event;
  event.event = true;
  r = pt_config_bits(*pmu, event);
  ASSERT_FALSE(r.ok());
  EXPECT_THAT(r.error().found, HasSubstr("format/event"));
  PtOptions period;
  period.mtc_period = 1;
  r = pt_config_bits(*pmu, period);
  ASSERT_FALSE(r.ok());
  EXPECT_THAT(r.error().found, HasSubstr("0,3,6,9"));
}

TEST_F(PtMachine, WithoutThePmuTheErrorNamesTheFile) {
  const auto pmu = read_pt_pmu({"/no/such/sys", "/proc"});
  ASSERT_FALSE(pmu.ok());
  EXPECT_EQ(pmu.error().code, Errc::unavailable);
  EXPECT_THAT(pmu.error().found, HasSubstr("intel_pt"));
  EXPECT_THAT(pmu.error().fix, HasSubstr("simulated"));
}

TEST_F(PtMachine, TracesEveryCpuIntoAReadOnlyRing) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  const auto r = source.prepare({PtOptions{}, 1 << 20, {CpuId(0), CpuId(1)}});
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_THAT(fake.opened, SizeIs(2));
  for (int cpu = 0; cpu < 2; cpu++) {
    const auto& o = fake.opened[static_cast<size_t>(cpu)];
    EXPECT_EQ(o.attr.type, 8u);
    EXPECT_EQ(o.cpu, cpu);
    EXPECT_EQ(o.pid, -1);
    EXPECT_TRUE(o.attr.exclude_kernel && o.attr.disabled);
  }
  EXPECT_THAT(fake.aux_prots, ElementsAre(PROT_READ, PROT_READ));
  EXPECT_EQ(fake.page(0)->aux_size, uint64_t{1} << 20);
}

TEST_F(PtMachine, ACgroupIsWatchedInsteadOfEverybody) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  ASSERT_TRUE(source.prepare({PtOptions{}, 1 << 20, {CpuId(0), CpuId(1)}, 77}).ok());
  ASSERT_THAT(fake.opened, SizeIs(2));
  for (const auto& o : fake.opened) {
    EXPECT_EQ(o.pid, 77);
    EXPECT_EQ(o.flags, PERF_FLAG_PID_CGROUP);
  }
}

TEST_F(PtMachine, FreezeStopsFirstThenCopiesWhatTheHeadSays) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  ASSERT_TRUE(source.prepare({PtOptions{}, 1 << 16, {CpuId(0), CpuId(1)}}).ok());
  ASSERT_TRUE(source.on_started(Pid(1)).ok());
  fake.on_disable = [&] {  // the kernel publishes only now
    std::memset(fake.aux[1].data(), 9, 1 << 16);
    fake.page(1)->aux_head = 4000;
    std::vector<uint8_t> aux;
    ByteWriter w(aux);
    w.u64(0);
    w.u64(0);
    w.u64(perf::kAuxTruncated);
    std::vector<uint8_t> record;
    append_record(record, perf::kAux, 0, aux, {RecordTime(5), CpuId(1), Pid(0), Tid(0)});
    if (fake.page(1)->data_head == 0) FakeRing(fake.page(1)).write(record);
  };
  const auto cuts = source.freeze();
  ASSERT_TRUE(cuts.ok());
  ASSERT_THAT(*cuts, SizeIs(4));
  EXPECT_TRUE((*cuts)[0].bytes.empty());
  const Cut& pt = (*cuts)[2];
  EXPECT_EQ(pt.info.kind, StreamKind::pt);
  EXPECT_EQ(pt.info.cpu, CpuId(1));
  EXPECT_TRUE(pt.info.wrapped);
  EXPECT_EQ(pt.bytes, std::vector<uint8_t>(1 << 16, 9));
  EXPECT_EQ((*cuts)[3].info.kind, StreamKind::sideband);
  EXPECT_FALSE((*cuts)[3].bytes.empty());
  SnapshotInfo info;
  source.describe(info);
  EXPECT_EQ(info.cpu.model, 94);
  EXPECT_THAT(info.notes, ::testing::Contains(HasSubstr("cut the trace short")));
  EXPECT_THAT(fake.controls, ElementsAre(PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE,
                                         PERF_EVENT_IOC_DISABLE));
}

/// Writes n bytes of `value` as the hardware does: on from the head, around the end, unseen until the event stops.
void trace(FakePerf& fake, size_t cpu, size_t n, uint8_t value) {
  auto* ring = static_cast<uint8_t*>(fake.aux.at(cpu).data());
  const size_t size = fake.page(cpu)->aux_size;
  uint64_t at = fake.page(cpu)->aux_head;
  for (; n > 0; --n, at = (at + 1) % size) ring[at] = value;
  fake.page(cpu)->aux_head = at;
}

TEST_F(PtMachine, ASnapshotGoesOnTracingAndLaterOnesSayWhereItCut) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  constexpr size_t kRing = 1 << 16;
  ASSERT_TRUE(source.prepare({PtOptions{}, kRing, {CpuId(0)}}).ok());
  ASSERT_TRUE(source.on_started(Pid(1)).ok());
  const auto snapshot = [&]() -> Cut {
    EXPECT_TRUE(source.start_snapshot().ok());
    auto cuts = source.take_snapshot();
    EXPECT_TRUE(cuts.ok() && *cuts && (*cuts)->size() == 2u);
    return cuts.ok() && *cuts ? std::move((**cuts)[0]) : Cut();
  };
  trace(fake, 0, 1000, 1);
  const Cut first = snapshot();
  EXPECT_EQ(first.bytes, std::vector<uint8_t>(1000, 1));
  EXPECT_FALSE(first.info.wrapped);
  EXPECT_TRUE(first.info.cuts.empty());
  EXPECT_THAT(fake.controls, ElementsAre(PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ENABLE));

  trace(fake, 0, 500, 2);
  const Cut second = snapshot();
  EXPECT_EQ(second.bytes.size(), 1500u);
  EXPECT_THAT(second.info.cuts, ElementsAre(1000u));

  trace(fake, 0, kRing - 1500 + 100, 3);  // over the end, and over the first 100 bytes
  const Cut third = snapshot();
  EXPECT_TRUE(third.info.wrapped);
  ASSERT_EQ(third.bytes.size(), kRing);
  EXPECT_THAT(third.info.cuts, ElementsAre(900u, 1400u));  // the oldest byte is ring[100]
  EXPECT_EQ(third.bytes[899], 1);
  EXPECT_EQ(third.bytes[900], 2);
  EXPECT_EQ(third.bytes[1400], 3);

  trace(fake, 0, 1200, 4);  // over the place of the first cut
  const Cut fourth = snapshot();
  EXPECT_THAT(fourth.info.cuts, ElementsAre(200u, kRing - 1200u));
  EXPECT_EQ(fourth.bytes[199], 2);
  EXPECT_EQ(fourth.bytes[200], 3);
  EXPECT_EQ(fourth.bytes[kRing - 1201], 3);
  EXPECT_EQ(fourth.bytes[kRing - 1200], 4);
}

TEST_F(PtMachine, ASnapshotNobodyAskedForIsNone) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  ASSERT_TRUE(source.prepare({PtOptions{}, 1 << 16, {CpuId(0)}}).ok());
  const auto cuts = source.take_snapshot();
  ASSERT_TRUE(cuts.ok());
  EXPECT_FALSE(cuts->has_value());
}

TEST_F(PtMachine, TakesTheConversionFromTheMapPage) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  ASSERT_TRUE(source.prepare({PtOptions{}, 1 << 16, {CpuId(0)}}).ok());
  perf_event_mmap_page* page = fake.page(0);
  page->cap_user_time_zero = 1;
  page->time_shift = 10;
  page->time_mult = 512;
  page->time_zero = 1000;
  ASSERT_TRUE(source.freeze().ok());
  SnapshotInfo info;
  source.describe(info);
  EXPECT_TRUE(info.clock.known);
  EXPECT_EQ(info.clock.to_record_time(Tsc(4096)).value(), 1000u + 2048u);
}

TEST_F(PtMachine, ARingThatIsNoPowerOfTwoIsMisuse) {
  FakePerf fake;
  PerfSource source(fake, roots_);
  const auto r = source.prepare({PtOptions{}, 3 << 20, {CpuId(0)}});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::usage);
}

TEST_F(PtMachine, ASingleEntryOutputTableGetsASmallRingAndANote) {
  files_.write("sys/bus/event_source/devices/intel_pt/caps/topa_multiple_entries", "0\n");
  FakePerf fake;
  PerfSource source(fake, roots_);
  ASSERT_TRUE(source.prepare({PtOptions{}, 64 << 20, {CpuId(0)}}).ok());
  EXPECT_EQ(fake.page(0)->aux_size, uint64_t{4} << 20);
}

TEST_F(PtMachine, EveryRefusalSaysWhatToDo) {
  const std::pair<int, Errc> cases[] = {{ENOENT, Errc::unavailable},     {ENODEV, Errc::unavailable},
                                        {EOPNOTSUPP, Errc::unavailable}, {EACCES, Errc::permission},
                                        {EPERM, Errc::permission},       {EBUSY, Errc::unavailable},
                                        {EINVAL, Errc::unsupported}};
  for (const auto& [number, code] : cases) {
    FakePerf fake;
    fake.refuse = [n = number](const perf_event_attr&) { return n; };
    PerfSource source(fake, roots_);
    const auto r = source.prepare({PtOptions{}, 1 << 20, {CpuId(3)}});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, code) << std::strerror(number);
    EXPECT_THAT(r.error().what, HasSubstr("CPU 3: intel_pt"));
    EXPECT_THAT(r.error().what, HasSubstr(std::strerror(number)));
    EXPECT_FALSE(r.error().found.empty());
    EXPECT_FALSE(r.error().fix.empty());
  }
  EXPECT_THAT(perf_open_error(EACCES, "x", {}, roots_.proc).found, HasSubstr("perf_event_paranoid = 2"));
}

TEST_F(PtMachine, RefusedAuxMemorySaysWhatToDo) {
  for (const int number : {EPERM, ENOMEM, EINVAL}) {
    FakePerf fake;
    fake.aux_error = number;
    PerfSource source(fake, roots_);
    const auto r = source.prepare({PtOptions{}, 1 << 20, {CpuId(0)}});
    ASSERT_FALSE(r.ok());
    EXPECT_THAT(r.error().what, HasSubstr("PT ring of 1.0 MiB"));
    EXPECT_FALSE(r.error().fix.empty());
  }
}

const Ability* find(const Diagnosis& d, const std::string& name) {
  for (const Ability& a : d.abilities)
    if (a.name.rfind(name, 0) == 0) return &a;
  return nullptr;
}

TEST_F(PtMachine, TheDoctorFindsPt) {
  FakePerf fake;
  DoctorConfig c;
  c.roots = roots_;
  c.calls = &fake;
  const Diagnosis d = diagnose(c);
  EXPECT_TRUE(d.perf_source);
  EXPECT_FALSE(d.simulated_source);
  EXPECT_TRUE(d.can_record());
  ASSERT_NE(find(d, "Intel PT"), nullptr);
  EXPECT_EQ(find(d, "Intel PT")->state, AbilityState::ok);
  EXPECT_THAT(find(d, "Intel PT")->found, HasSubstr("psb_periods=0x3f"));
}

TEST_F(PtMachine, TheDoctorTriesWhatATraceOfTheKernelNeeds) {
  FakePerf fake;
  DoctorConfig c;
  c.roots = roots_;
  c.calls = &fake;
  Diagnosis d = diagnose(c);
  ASSERT_NE(find(d, "kernel code"), nullptr);
  EXPECT_EQ(find(d, "kernel code")->state, AbilityState::degraded);
  EXPECT_THAT(find(d, "kernel code")->fix, HasSubstr("CONFIG_PROC_KCORE"));
  EXPECT_THAT(find(d, "kernel code")->consequence, HasSubstr("image_missing"));
  EXPECT_EQ(find(d, "kernel names")->state, AbilityState::degraded);
  EXPECT_EQ(find(d, "kernel modules")->state, AbilityState::degraded);
  ASSERT_NE(find(d, "code of BPF programs"), nullptr);
  test::KernelFiles(roots_.proc, roots_.sys).small_kernel().write();
  d = diagnose(c);
  EXPECT_EQ(find(d, "kernel code")->state, AbilityState::ok);
  EXPECT_EQ(find(d, "kernel names")->state, AbilityState::ok);
  EXPECT_EQ(find(d, "kernel modules")->found, "1 loaded");
  std::filesystem::remove_all(roots_.sys + "/bus");
  d = diagnose(c);
  EXPECT_EQ(find(d, "kernel code"), nullptr) << "nothing can trace the kernel";
}

TEST_F(PtMachine, TheDoctorReadsCapabilitiesAndLimits) {
  FakePerf fake;
  DoctorConfig c;
  c.roots = roots_;
  c.calls = &fake;
  files_.write("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
  Diagnosis d = diagnose(c);
  EXPECT_EQ(find(d, "perf_event_paranoid")->state, AbilityState::missing);
  EXPECT_EQ(find(d, "CAP_PERFMON")->state, AbilityState::degraded);
  EXPECT_FALSE(find(d, "CAP_PERFMON")->fix.empty());
  files_.write("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
  d = diagnose(c);
  EXPECT_EQ(find(d, "perf_event_paranoid")->state, AbilityState::ok);
  EXPECT_EQ(find(d, "CAP_SYSLOG")->state, AbilityState::ok);
}

TEST_F(PtMachine, WithoutPerfEventsNothingCanRecord) {
  FakePerf fake;
  fake.refuse = [](const perf_event_attr&) { return EACCES; };
  DoctorConfig c;
  c.roots = roots_;
  c.calls = &fake;
  c.qemu = "/bin/true";
  c.plugin = "/bin/true";
  c.version_of = [](const std::string&) { return "qemu-x86_64 version 7.2.22 (Debian)"; };
  const Diagnosis d = diagnose(c);
  EXPECT_FALSE(d.can_record());
  EXPECT_THAT(to_text(d), HasSubstr("needed"));
}

TEST_F(PtMachine, TheSimulatorNeedsQemuAndItsPlugin) {
  FakePerf fake;
  DoctorConfig c;
  c.roots = roots_;
  files_.remove("sys/bus");
  c.calls = &fake;
  c.qemu = "/bin/true";
  c.version_of = [](const std::string&) { return "qemu-x86_64 version 7.2.22 (Debian)"; };
  EXPECT_FALSE(diagnose(c).simulated_source);
  c.plugin = "/bin/true";
  EXPECT_TRUE(diagnose(c).simulated_source);
  c.version_of = [](const std::string&) { return "qemu-x86_64 version 9.0.0"; };
  const Diagnosis other = diagnose(c);
  EXPECT_TRUE(other.simulated_source);
  EXPECT_EQ(find(other, "simulator: qemu")->state, AbilityState::degraded);
  EXPECT_THAT(to_json(other), HasSubstr("\"simulated\":true"));
}

TEST(Version, IsFoundInALine) {
  EXPECT_EQ(version_in("qemu-x86_64 version 7.2.22 (Debian 1:7.2)"), "7.2.22");
  EXPECT_EQ(version_in("nothing"), "");
}

}  // namespace
}  // namespace hindcast::capture
