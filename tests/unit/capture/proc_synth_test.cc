// Existing processes as records: the maps parser, an invented /proc, and our own process.
#include "capture/proc_synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using ::testing::IsEmpty;

TEST(MapsLine, GivesAllFields) {
  const auto m = parse_maps_line(
      "7f0000001000-7f0000003000 r-xp 00026000 08:1f 4660                       /usr/lib/a b.so", Pid(5));
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->start, 0x7f0000001000u);
  EXPECT_EQ(m->length, 0x2000u);
  EXPECT_EQ(m->prot, static_cast<uint32_t>(PROT_READ | PROT_EXEC));
  EXPECT_EQ(m->file_offset, 0x26000u);
  EXPECT_EQ(m->device_major, 8u);
  EXPECT_EQ(m->device_minor, 0x1fu);
  EXPECT_EQ(m->inode, 4660u);
  EXPECT_EQ(m->path, "/usr/lib/a b.so");
  EXPECT_EQ(m->flags, static_cast<uint32_t>(MAP_PRIVATE));
}

TEST(MapsLine, WithoutANameIsAnonymousAsTheKernelRecordsIt) {
  const auto m = parse_maps_line("1000-2000 rwxp 00000000 00:00 0 ", Pid(5));
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->path, "//anon");
}

TEST(MapsLine, ANewlineInAPathIsUnescaped) {
  const auto m = parse_maps_line("1000-2000 rw-s 00000000 00:00 9 /tmp/a\\012b (deleted)", Pid(5));
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->path, "/tmp/a\nb (deleted)");
  EXPECT_EQ(m->flags, static_cast<uint32_t>(MAP_SHARED));
}

TEST(MapsLine, NonsenseIsRefused) {
  for (const char* line :
       {"", "1000", "1000-", "2000-1000 r-xp 0 0:0 0", "1000-2000", "1000-2000 r-x", "1000-2000 qqqq 0 0:0 0",
        "1000-2000 r-xp 0", "1000-2000 r-xp 0 0", "1000-2000 r-xp 0 0:0", "g-2000 r-xp 0 0:0 0",
        "1000-20000000000000000 r-xp 0 0:0 0", "1000-2000 r-xp 0 100000000:0 0"})
    EXPECT_FALSE(parse_maps_line(line, Pid(1)).has_value()) << line;
}

TEST(ProcSynth, ReadsNamesOfThreadsAndExecutableMappings) {
  Scratch proc;
  proc.write("7/task/7/comm", "main\n");
  proc.write("7/task/9/comm", "worker\n");
  proc.write("7/maps", "1000-2000 r-xp 00000000 00:01 5 /bin/x\n3000-4000 rw-p 00000000 00:00 0 \nbroken line\n");
  proc.write("self/notaprocess", "");
  SidebandState s;
  std::vector<std::string> notes;
  const auto r = synthesise_processes({proc.dir(), true}, s, notes);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(s.thread_count(), 2u);
  EXPECT_EQ(s.map_count(), 1u);
  EXPECT_THAT(notes, IsEmpty());
}

TEST(ProcSynth, AProcessThatVanishesIsNoError) {
  Scratch proc;
  proc.write("7/status", "");  // no task folder any more
  proc.write("8/task/8/other", "");
  SidebandState s;
  std::vector<std::string> notes;
  EXPECT_TRUE(synthesise_processes({proc.dir(), true}, s, notes).ok());
  EXPECT_EQ(s.thread_count(), 0u);
}

TEST(ProcSynth, WithoutProcIsAnError) {
  SidebandState s;
  std::vector<std::string> notes;
  EXPECT_FALSE(synthesise_processes({"/no/such/proc", true}, s, notes).ok());
}

TEST(ProcSynth, FindsThisVeryProcess) {
  SidebandState s;
  std::vector<std::string> notes;
  ASSERT_TRUE(synthesise_processes({}, s, notes).ok());
  EXPECT_GE(s.thread_count(), 1u);
  const auto maps = read_maps("/proc", Pid(::getpid()));
  ASSERT_TRUE(maps.ok());
  bool code = false, vdso = false;
  for (const MapRecord& m : *maps) {
    code |= m.start <= reinterpret_cast<uint64_t>(&parse_maps_line) &&
            reinterpret_cast<uint64_t>(&parse_maps_line) < m.start + m.length && (m.prot & PROT_EXEC);
    vdso |= m.path == "[vdso]";
  }
  EXPECT_TRUE(code);
  EXPECT_TRUE(vdso);
}

TEST(CpuList, IsReadAsTheKernelWritesIt) {
  const auto l = parse_cpu_list("0-2,5,8-9\n");
  ASSERT_TRUE(l.ok());
  EXPECT_EQ(*l, (std::vector<CpuId>{CpuId(0), CpuId(1), CpuId(2), CpuId(5), CpuId(8), CpuId(9)}));
  for (const char* bad : {"", "x", "1-", "3-1", "0,", "0-999999999", "1 2"})
    EXPECT_FALSE(parse_cpu_list(bad).ok()) << bad;
}

}  // namespace
}  // namespace hindcast::capture
