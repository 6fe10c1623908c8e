// perf records as sideband: CPU numbers, images by name, records made to hurt.
#include <gtest/gtest.h>

#include "server/import/pevent.h"
#include "server/import/raw_pt.h"
#include "tests/unit/server/import_support.h"

namespace hindcast::server {
namespace {

constexpr uint64_t kType = 0x10086;
constexpr uint32_t kExec = 4;

Result<Imported> add(std::vector<std::vector<uint8_t>> own, std::vector<std::vector<uint8_t>> shared,
                     const MemoryFolder& folder = {}, Imported start = {}) {
  std::vector<PeventCpu> cpus;
  for (auto& records : own) cpus.push_back({{1, 2, 3}, std::move(records)});
  HC_TRY_VOID(add_pevent(std::move(cpus), std::move(shared), kType, folder, start));
  return start;
}

TEST(ImportPevent, TheTraceBelongsToTheCpuThatItsRecordsName) {
  const auto r = add({RecordFile().switch_in(9).bytes(), RecordFile().switch_in(2).bytes()}, {});
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.streams.size(), 4u);
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(9));
  EXPECT_EQ(r->info.streams[1].cpu, CpuId(9));
  EXPECT_EQ(r->info.streams[2].cpu, CpuId(2));
}

TEST(ImportPevent, RecordsOfBeforeTheRecordingNameNoCpu) {
  const auto r = add({RecordFile().switch_in(0, /*time=*/0).switch_in(9).bytes()}, {});
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(9));
}

TEST(ImportPevent, WithoutARecordTheCpuIsItsPlaceInTheListAndThatIsNoted) {
  const auto r = add({{}, {}}, {});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(0));
  EXPECT_EQ(r->info.streams[1].cpu, CpuId(1));
  EXPECT_EQ(r->info.notes.size(), 2u);
}

TEST(ImportPevent, ContradictionsAboutCpusAreRefused) {
  EXPECT_EQ(add({RecordFile().switch_in(1).switch_in(2).bytes()}, {}).error().code, Errc::bad_input);
  EXPECT_EQ(add({RecordFile().switch_in(1).bytes(), RecordFile().switch_in(1).bytes()}, {}).error().code,
            Errc::bad_input);
  EXPECT_EQ(add({RecordFile().switch_in(0xffffffff).bytes()}, {}).error().code, Errc::bad_input);
}

TEST(ImportPevent, TheClockComesFromTimeConv) {
  const auto r = add({{}}, {RecordFile().time_conv(31, 7, 9).bytes()});
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->info.clock.known);
  EXPECT_EQ(r->info.clock.shift, 31);
  EXPECT_EQ(r->info.clock.mult, 7u);
  EXPECT_EQ(r->info.clock.zero, 9u);
}

TEST(ImportPevent, MappedFilesAreLookedUpInTheRootAndOnlyExecutableOnes) {
  MemoryFolder root;
  root.files["bin/a"] = SmallElf().bytes();
  root.files["data"] = SmallElf().bytes();
  const auto r =
      add({RecordFile().mmap2("/bin/a", kExec, 1).mmap2("/data", 1, 1).mmap2("[vdso]", kExec, 1).bytes()}, {}, root);
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->info.images.size(), 1u);
  EXPECT_EQ(r->info.images[0].path, "/bin/a");
  EXPECT_EQ(r->info.notes.size(), 1u);
}

TEST(ImportPevent, AGivenElfStandsForTheMappedFileOfItsName) {
  Imported start;
  ASSERT_TRUE(add_elf({"/home/me/copy/a", {}, {}}, SmallElf().bytes(), true, start).ok());
  const auto r = add({RecordFile().mmap2("/bin/a", kExec, 1).bytes()}, {}, {}, std::move(start));
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->info.images.size(), 1u);
  EXPECT_EQ(r->info.images[0].path, "/bin/a");
  EXPECT_TRUE(r->info.notes.empty());
}

TEST(Malicious_ImportPevent, RecordedNamesThatLeadOutOfTheRoot) {
  MemoryFolder root;
  const auto r = add({RecordFile().mmap2("/../../etc/passwd", kExec, 1).mmap2("//anon", kExec, 1).bytes()}, {}, root);
  ASSERT_TRUE(r.ok());
  EXPECT_TRUE(r->info.images.empty());
  EXPECT_EQ(r->info.notes.size(), 2u);
}

TEST(Malicious_ImportPevent, RecordsThatCannotBeWalked) {
  const auto good = RecordFile().switch_in(1).mmap2("/a", kExec, 1).bytes();
  for (size_t n = 1; n < good.size(); ++n) {
    auto cut = good;
    cut.resize(n);
    EXPECT_EQ(add({cut}, {}).ok(), n == 40) << n;
  }
  auto zero_size = good;
  zero_size[6] = zero_size[7] = 0;
  EXPECT_FALSE(add({zero_size}, {}).ok());
}

TEST(Malicious_ImportPevent, RecordsTooShortForTheirTrailer) {
  const std::vector<uint8_t> bare{14, 0, 0, 0, 0, 0, 8, 0};
  EXPECT_EQ(add({bare}, {}).error().code, Errc::bad_input);
}

TEST(Malicious_ImportPevent, ImpossibleClocks) {
  for (const auto& [shift, mult] : {std::pair<uint64_t, uint64_t>{33, 1}, {UINT64_MAX, 1}, {1, 0}, {1, 1ull << 32}})
    EXPECT_EQ(add({{}}, {RecordFile().time_conv(shift, mult, 0).bytes()}).error().code, Errc::bad_input);
}

}  // namespace
}  // namespace hindcast::server
