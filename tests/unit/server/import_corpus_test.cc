// Every corpus trace imports, and the bundle read back holds its PT bytes, its configuration and its code in place.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "hindcast/perf_record.h"
#include "server/import/import.h"
#include "tests/support/corpus.h"
#include "tests/support/sha256.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {
namespace {

using test::CorpusTrace;
using transport::BundleReader;

/// What a person who read the trace's README would say on the command line.
ImportRequest request_for(const CorpusTrace& t) {
  ImportRequest r;
  r.input = t.folder;
  r.cpu.family = t.family;
  r.cpu.model = t.model;
  r.cpu.stepping = t.stepping;
  r.cpu.tsc_ctc_den = t.expected.value("cpuid_0x15_eax", 0u);
  r.cpu.tsc_ctc_num = t.expected.value("cpuid_0x15_ebx", 0u);
  r.cpu.nominal_ratio = t.expected.value("nom_freq", uint8_t{0});
  if (t.expected.contains("mtc_freq")) {
    PtOptions o;
    o.cyc = true;
    o.mtc_period = t.expected["mtc_freq"];
    o.noretcomp = !t.ret_compression;
    r.pt = o;
  }
  return r;
}

/// Imports and opens; the file goes away with the object.
class ImportedTrace {
 public:
  explicit ImportedTrace(const CorpusTrace& t)
      : path_(testing::TempDir() + "hindcast_import_" + std::to_string(getpid()) + "_" + t.name + ".hcb") {
    const auto done = import_to_bundle(request_for(t), path_);
    if (!done.ok()) throw std::runtime_error(done.error().text());
    auto reader = BundleReader::open(path_);
    if (!reader.ok()) throw std::runtime_error(reader.error().text());
    reader_ = std::make_unique<BundleReader>(std::move(reader).value());
  }
  ~ImportedTrace() { std::filesystem::remove(path_); }
  const BundleReader& operator*() const { return *reader_; }
  const BundleReader* operator->() const { return reader_.get(); }
  const SnapshotInfo& info() const { return reader_->snapshot(0); }

 private:
  std::string path_;
  std::unique_ptr<BundleReader> reader_;
};

class ImportCorpus : public testing::TestWithParam<std::string> {};

const StreamInfo* find_stream(const SnapshotInfo& info, StreamKind kind) {
  for (const StreamInfo& s : info.streams)
    if (s.kind == kind) return &s;
  return nullptr;
}

/// The byte at an address of a process by the placements; nothing when none covers it.
std::optional<uint8_t> code_at(const BundleReader& r, uint64_t address, Pid pid) {
  for (const PlacementInfo& p : r.snapshot(0).placements) {
    if (p.pid != kNoPid && pid != p.pid) continue;
    if (address < p.address || address - p.address >= p.length) continue;
    return (*r.read_image(0, p.image))[p.image_offset + (address - p.address)];
  }
  return std::nullopt;
}

TEST_P(ImportCorpus, HoldsTheSamePtBytes) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace(GetParam());
  const ImportedTrace r(t);
  ASSERT_EQ(r->snapshot_count(), 1u);
  EXPECT_TRUE(r->scrub().empty());
  const StreamInfo* pt = find_stream(r.info(), StreamKind::pt);
  ASSERT_NE(pt, nullptr);
  const auto bytes = r->read_stream(0, pt->id);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes->size(), t.trace_bytes);
  EXPECT_EQ(test::sha256_hex(*bytes), t.trace_sha256);
}

TEST_P(ImportCorpus, OptionsAreThoseThatThePacketsShow) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace(GetParam());
  const ImportedTrace r(t);
  const PtOptions& o = r.info().pt;
  EXPECT_EQ(o.tsc, t.packets.count("tsc") > 0);
  EXPECT_EQ(o.mtc, t.packets.count("mtc") > 0);
  EXPECT_EQ(o.cyc, t.packets.count("cyc") > 0);
  EXPECT_EQ(r.info().cpu.family, t.family);
  EXPECT_EQ(r.info().cpu.model, t.model);
  EXPECT_EQ(r.info().cpu.stepping, t.stepping);
}

TEST_P(ImportCorpus, EveryReferenceInstructionHasItsCodeInPlace) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace(GetParam());
  if (!t.has_flow) GTEST_SKIP() << "this trace has no image";
  const ImportedTrace r(t);
  const SnapshotInfo& info = r.info();
  if (info.source == "import:pevent") GTEST_SKIP() << "its images are placed by mmap records: see below";
  const Pid pid = info.root_pids.empty() ? kNoPid : info.root_pids[0];
  std::vector<uint64_t> ips{t.first_ip, t.last_ip};
  if (const auto all = test::insn_rows(t)) ips.insert(ips.end(), all->begin(), all->end());
  for (const auto& row : test::checkpoint_rows(t)) ips.insert(ips.end(), {row.first_ip, row.last_ip});
  std::sort(ips.begin(), ips.end());
  ips.erase(std::unique(ips.begin(), ips.end()), ips.end());
  for (const uint64_t ip : ips) EXPECT_TRUE(code_at(*r, ip, pid).has_value()) << std::hex << ip;
}

INSTANTIATE_TEST_SUITE_P(All, ImportCorpus, testing::ValuesIn([] {
                           auto names = test::corpus_names();
                           if (names.empty()) names.push_back("none");  // so that the skip is seen
                           return names;
                         }()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(ImportLldb, PerCpuTraceHasItsSwitchesItsClockAndItsThreads) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace("lldb-percpu-cpu45");
  const ImportedTrace r(t);
  EXPECT_EQ(r.info().source, "import:lldb");
  EXPECT_EQ(r.info().root_pids, std::vector<Pid>{Pid(3497234)});
  EXPECT_TRUE(r.info().user_only);
  ASSERT_EQ(r.info().streams.size(), 3u);
  EXPECT_EQ(r.info().streams[0].cpu, CpuId(45));
  const StreamInfo& switches = r.info().streams[1];
  EXPECT_EQ(switches.kind, StreamKind::sideband);
  EXPECT_EQ(switches.cpu, CpuId(45));
  EXPECT_EQ(switches.sample_type, uint64_t{perf::kSampleTid | perf::kSampleTime});
  const auto bytes = *r->read_stream(0, switches.id);
  EXPECT_EQ(bytes, test::file_bytes(t.folder + "/cores/45.perf_context_switch_trace"));

  // switches.tsv was made from the same records with the same conversion.
  perf::RecordReader reader(bytes);
  perf::Record record;
  const TscConversion& clock = r.info().clock;
  ASSERT_TRUE(clock.known);
  for (const auto& row : test::tsv_rows(t, "switches.tsv")) {
    ASSERT_TRUE(reader.next(record));
    const auto id = perf::read_sample_id(record, switches.sample_type);
    ASSERT_TRUE(id && id->time);
    EXPECT_EQ(std::to_string(id->time->value()), row[2]);
    EXPECT_EQ(std::to_string(id->tid.value()), row[7]);
    EXPECT_TRUE(clock.to_tsc(*id->time).contains(Tsc(std::stoull(row[3]))));
  }
  EXPECT_FALSE(reader.next(record));
  EXPECT_FALSE(reader.malformed());
}

TEST(ImportLldb, CommRecordsTellWhoseThreadsThePerThreadTracesAre) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace("lldb-thread-simple");
  const ImportedTrace r(t);
  ASSERT_EQ(r.info().streams.size(), 2u);
  EXPECT_EQ(r.info().streams[0].tid, Tid(3842849));
  EXPECT_EQ(r.info().streams[0].cpu, kNoCpu);
  const StreamInfo& sideband = r.info().streams[1];
  EXPECT_EQ(sideband.cpu, kNoCpu);
  const auto bytes = *r->read_stream(0, sideband.id);
  perf::RecordReader reader(bytes);
  perf::Record record;
  ASSERT_TRUE(reader.next(record));
  EXPECT_EQ(record.type, uint32_t{perf::kComm});
  ByteReader body(record.body);
  EXPECT_EQ(body.u32(), 1234u);
  EXPECT_EQ(body.u32(), 3842849u);
  EXPECT_EQ(body.c_string(16), "a.out");
  const auto id = perf::read_sample_id(record, sideband.sample_type);
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(id->pid, Pid(1234));
  EXPECT_EQ(id->time, RecordTime(0));
  EXPECT_FALSE(reader.next(record));
}

TEST(ImportLldb, SharedLibrariesLieAtTheirLoadAddress) {
  HC_REQUIRE_CORPUS();
  const ImportedTrace r(test::corpus_trace("lldb-thread-multifile"));
  ASSERT_EQ(r.info().images.size(), 3u);
  ASSERT_EQ(r.info().placements.size(), 6u);
  const PlacementInfo& foo_text = r.info().placements[2];
  EXPECT_EQ(foo_text.address, 140737349783552u);
  EXPECT_EQ(foo_text.length, 0x794u);
  const PlacementInfo& foo_data = r.info().placements[3];
  EXPECT_EQ(foo_data.address, 140737349783552u + 0x200db8);
  EXPECT_EQ(foo_data.image_offset, 0xdb8u);
  EXPECT_EQ(r.info().images[1].build_id, "b30ffeda8bb23d084580c5937ed11e2b21be778c");
}

TEST(ImportPevent, SidebandClockAndCalibrationAreKept) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace("perf-hello-asm");
  const ImportedTrace r(t);
  EXPECT_EQ(r.info().source, "import:pevent");
  EXPECT_EQ(r.info().clock.shift, t.expected["time_shift"].get<uint16_t>());
  EXPECT_EQ(r.info().clock.mult, t.expected["time_mult"].get<uint32_t>());
  EXPECT_EQ(r.info().clock.zero, t.expected["time_zero"].get<uint64_t>());
  EXPECT_EQ(r.info().cpu.tsc_ctc_num, 308u);
  EXPECT_EQ(r.info().cpu.tsc_ctc_den, 2u);
  EXPECT_EQ(r.info().cpu.nominal_ratio, 37u);
  EXPECT_EQ(r.info().pt.mtc_period, 3);
  EXPECT_TRUE(r.info().pt.noretcomp);
  ASSERT_EQ(r.info().streams.size(), 3u);
  EXPECT_EQ(r.info().streams[0].cpu, CpuId(9));
  EXPECT_EQ(r.info().streams[1].cpu, CpuId(9));
  EXPECT_EQ(r.info().streams[2].cpu, kNoCpu);
  EXPECT_EQ(*r->read_stream(0, r.info().streams[1].id), test::file_bytes(t.folder + "/primary.sideband.pevent"));
  EXPECT_EQ(*r->read_stream(0, r.info().streams[2].id), test::file_bytes(t.folder + "/secondary.sideband.pevent"));
}

TEST(ImportPevent, FilesThatRecordsNameAreFoundBesideTheTrace) {
  HC_REQUIRE_CORPUS();
  const CorpusTrace t = test::corpus_trace("perf-hello-asm");
  const ImportedTrace r(t);
  ASSERT_EQ(r.info().images.size(), 1u);
  EXPECT_EQ(r.info().images[0].path, "/hello");
  EXPECT_TRUE(r.info().placements.empty());
  EXPECT_EQ(*r->read_image(0, r.info().images[0].id), test::file_bytes(t.folder + "/hello"));
  bool vdso_named = false;
  for (const std::string& note : r.info().notes) vdso_named |= note.find("[vdso]") != note.npos;
  EXPECT_TRUE(vdso_named);
}

TEST(ImportRaw, AdjacentPagesShareAPlacement) {
  HC_REQUIRE_CORPUS();
  const ImportedTrace r(test::corpus_trace("kafl-icelake-tip"));
  ASSERT_EQ(r.info().placements.size(), 2u);
  EXPECT_EQ(r.info().placements[0].address, 0xffffffff8111d000u);
  EXPECT_EQ(r.info().placements[0].length, 0x2000u);
  EXPECT_EQ(r.info().placements[1].address, 0xffffffffc0381000u);
  EXPECT_EQ(r.info().placements[1].image_offset, 0x2000u);
  EXPECT_FALSE(r.info().user_only);
  const ImportedTrace user(test::corpus_trace("kafl-unzip"));
  EXPECT_TRUE(user.info().user_only);
}

}  // namespace
}  // namespace hindcast::server
