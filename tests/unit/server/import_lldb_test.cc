// trace.json: both spellings, every kind of number, and files made to hurt.
#include <gtest/gtest.h>

#include "server/import/lldb_bundle.h"
#include "tests/unit/server/import_support.h"

namespace hindcast::server {
namespace {

const std::string kCpuInfo = R"("cpuInfo": {"vendor": "GenuineIntel", "family": 6, "model": 85, "stepping": 4})";

MemoryFolder folder() {
  MemoryFolder f;
  f.files["a.trace"] = {1, 2, 3};
  f.files["sub/b.trace"] = {4};
  f.files["switches"] = {5, 6};
  f.files["m.out"] = SmallElf().bytes();
  SmallElf lib;
  lib.type = ET_DYN;
  lib.loads = {{0x1000, 0, 0x200, 0x200}, {0x3010, 0x300, 0x10, 0x5000}, {0x9000, 0, 0, 0x100}};
  f.files["lib.so"] = lib.bytes();
  return f;
}

Result<Imported> read(const std::string& keys, bool cpu_info = true) {
  return read_lldb_bundle("{" + (cpu_info ? kCpuInfo + ", " : "") + keys + "}", folder());
}

TEST(ImportLldb, OldAndNewSpellingsMeanTheSame) {
  const auto oldest = read(R"("cores": [{"coreId": 3, "traceBuffer": "a.trace", "contextSwitchTrace": "switches"}],
                            "processes": [{"pid": 7, "threads": [{"tid": 8, "traceBuffer": "sub/b.trace"}]}])");
  const auto newest = read(R"("cpus": [{"id": 3, "iptTrace": "a.trace", "contextSwitchTrace": "switches"}],
                            "processes": [{"pid": 7, "threads": [{"tid": 8, "iptTrace": "sub/b.trace"}]}])");
  for (const auto* r : {&oldest, &newest}) {
    ASSERT_TRUE(r->ok()) << r->error().text();
    const auto& info = (*r)->info;
    ASSERT_EQ(info.streams.size(), 4u);
    EXPECT_EQ(info.streams[0].cpu, CpuId(3));
    EXPECT_EQ(info.streams[0].kind, StreamKind::pt);
    EXPECT_EQ(info.streams[1].cpu, CpuId(3));
    EXPECT_EQ(info.streams[1].kind, StreamKind::sideband);
    EXPECT_EQ(info.streams[2].tid, Tid(8));
    EXPECT_EQ((*r)->streams[0], (std::vector<uint8_t>{1, 2, 3}));
    EXPECT_EQ((*r)->streams[2], (std::vector<uint8_t>{4}));
  }
  EXPECT_EQ(oldest->streams, newest->streams);
}

TEST(ImportLldb, NumbersMayBeJsonHexTextOrDecimalText) {
  const auto r = read(R"("cpus": [{"id": "0x10", "iptTrace": "a.trace"}],
      "tscPerfZeroConversion": {"timeMult": "0xff", "timeShift": 31, "timeZero": "18433473881008870804"},
      "processes": [{"pid": "7", "modules": [{"file": "m.out", "loadAddress": "0x500000"}]}])");
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.streams[0].cpu, CpuId(16));
  EXPECT_EQ(r->info.clock.mult, 255u);
  EXPECT_EQ(r->info.clock.zero, 18433473881008870804u);
  EXPECT_EQ(r->info.placements[0].address, 0x500000u);
  EXPECT_EQ(r->info.placements[0].pid, Pid(7));
}

TEST(ImportLldb, OnePlacementForEachSegmentThatHasBytes) {
  const auto r = read(R"("cpus": [{"id": 0, "iptTrace": "a.trace"}],
      "processes": [{"pid": 7, "modules": [{"file": "lib.so", "loadAddress": 4096}]},
                    {"pid": 8, "modules": [{"file": "lib.so", "loadAddress": 8192}]}])");
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->info.images.size(), 1u) << "one file is one image";
  ASSERT_EQ(r->info.placements.size(), 4u);
  EXPECT_EQ(r->info.placements[0].address, 0x1000u);
  EXPECT_EQ(r->info.placements[0].length, 0x200u);
  EXPECT_EQ(r->info.placements[1].address, 0x3010u);
  EXPECT_EQ(r->info.placements[1].length, 0x10u);
  EXPECT_EQ(r->info.placements[1].image_offset, 0x300u);
  EXPECT_EQ(r->info.placements[2].address, 0x2000u);
  EXPECT_EQ(r->info.placements[3].pid, Pid(8));
}

TEST(ImportLldb, AModuleWithoutAFileIsNoted) {
  const auto r = read(R"("cpus": [{"id": 0, "iptTrace": "a.trace"}],
      "processes": [{"pid": 7, "modules": [{"systemPath": "[vdso]", "loadAddress": 4096}]}])");
  ASSERT_TRUE(r.ok()) << r.error().text();
  ASSERT_EQ(r->info.notes.size(), 1u);
  EXPECT_NE(r->info.notes[0].find("[vdso]"), std::string::npos);
}

TEST(ImportLldb, AKernelMeansThatTheKernelWasTraced) {
  const auto without = read(R"("cpus": [{"id": 0, "iptTrace": "a.trace"}])");
  ASSERT_TRUE(without.ok());
  EXPECT_TRUE(without->info.user_only);
  const auto with = read(R"("cpus": [{"id": 0, "iptTrace": "a.trace"}], "kernel": {"file": "m.out"})");
  ASSERT_TRUE(with.ok()) << with.error().text();
  EXPECT_FALSE(with->info.user_only);
  EXPECT_EQ(with->info.placements[0].address, 0xffffffff81000000u);
  EXPECT_EQ(with->info.placements[0].pid, kNoPid);
}

TEST(Malicious_ImportLldb, NamesThatLeadOutOfTheFolder) {
  for (const char* name : {"../a.trace", "/etc/passwd", "sub/../../a.trace", "..", "", "a\\u0000.trace"}) {
    const auto r = read(R"("cpus": [{"id": 0, "iptTrace": ")" + std::string(name) + R"("}])");
    ASSERT_FALSE(r.ok()) << name;
    EXPECT_EQ(r.error().code, Errc::bad_input) << name;
    EXPECT_FALSE(read(R"("cpus": [{"id": 0, "iptTrace": "a.trace"}], "processes": [{"pid": 1, "modules":
        [{"file": ")" +
                      std::string(name) + R"(", "loadAddress": 0}]}])")
                     .ok());
  }
}

TEST(Malicious_ImportLldb, ValuesThatAreMissingOrImpossible) {
  const std::string cpu0 = R"("cpus": [{"id": 0, "iptTrace": "a.trace"}])";
  for (const std::string& keys : std::vector<std::string>{
           "\"cpus\": []",
           "\"cpus\": {}",
           "\"cpus\": [1]",
           R"("cpus": [{"id": 0}])",
           R"("cpus": [{"iptTrace": "a.trace"}])",
           R"("cpus": [{"id": -1, "iptTrace": "a.trace"}])",
           R"("cpus": [{"id": 4294967295, "iptTrace": "a.trace"}])",
           R"("cpus": [{"id": 4294967296, "iptTrace": "a.trace"}])",
           R"("cpus": [{"id": 1.5, "iptTrace": "a.trace"}])",
           R"("cpus": [{"id": "0x", "iptTrace": "a.trace"}])",
           R"("cpus": [{"id": 0, "iptTrace": 5}])",
           R"("cpus": [{"id": 0, "iptTrace": "a.trace"}, {"id": 0, "iptTrace": "a.trace"}])",
           "\"type\": \"arm-spe\", " + cpu0,
           cpu0 + R"(, "tscPerfZeroConversion": {"timeMult": 1, "timeShift": 33, "timeZero": 0})",
           cpu0 + R"(, "tscPerfZeroConversion": {"timeMult": 0, "timeShift": 3, "timeZero": 0})",
           cpu0 + R"(, "tscPerfZeroConversion": {"timeMult": 4294967296, "timeShift": 3, "timeZero": 0})",
           cpu0 + R"(, "tscPerfZeroConversion": 7)",
           cpu0 + R"(, "processes": [{}])",
           cpu0 + R"(, "processes": [{"pid": 2147483648}])",
           cpu0 + R"(, "processes": [{"pid": 1, "threads": [{}]}])",
           cpu0 + R"(, "processes": [{"pid": 1, "modules": [{"file": "m.out"}]}])",
           cpu0 + R"(, "processes": [{"pid": 1, "modules": [{"file": "m.out", "loadAddress": 1}]}])",
           cpu0 + R"(, "processes": [{"pid": 1, "modules": [{"file": "m.out", "loadAddress": "x"}]}])",
           cpu0 +
               R"(, "processes": [{"pid": 1, "modules": [{"file": "lib.so", "loadAddress": "0xffffffffffffe000"}]}])",
           cpu0 + R"(, "processes": [{"pid": 1, "modules": [{"file": "a.trace", "loadAddress": 0}]}])",
           cpu0 + R"(, "kernel": 5)",
       }) {
    const auto r = read(keys);
    ASSERT_FALSE(r.ok()) << keys;
    EXPECT_EQ(r.error().code, Errc::bad_input) << keys;
  }
  EXPECT_FALSE(read(cpu0, /*cpu_info=*/false).ok());
  EXPECT_EQ(read(R"("cpus": [{"id": 0, "iptTrace": "gone"}])").error().code, Errc::not_found);
}

TEST(Malicious_ImportLldb, TextThatIsNoJsonOrTooDeep) {
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{"), std::string(1000000, '['),
                                  "{\"x\": " + std::string(99, '{')})
    EXPECT_EQ(read_lldb_bundle(text, folder()).error().code, Errc::bad_input);
}

}  // namespace
}  // namespace hindcast::server
