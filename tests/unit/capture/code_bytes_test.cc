// Code bytes: build-ids, files that vanish or change, and memory without a file.
#include "capture/code_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "capture/build_id.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<uint8_t> note(uint32_t type, const std::string& name, const std::string& content) {
  std::vector<uint8_t> out;
  ByteWriter w(out);
  w.u32(static_cast<uint32_t>(name.size()));
  w.u32(static_cast<uint32_t>(content.size()));
  w.u32(type);
  w.text(name);
  while (out.size() % 4) w.u8(0);
  w.text(content);
  while (out.size() % 4) w.u8(0);
  return out;
}
const std::string kGnu("GNU\0", 4);

TEST(BuildIdNote, IsFoundBehindOtherNotes) {
  std::vector<uint8_t> notes = note(1, kGnu, "abi-tag-here");
  const auto id = note(3, kGnu, "\x01\xab");
  notes.insert(notes.end(), id.begin(), id.end());
  EXPECT_EQ(find_build_id_note(notes), std::string("\x01\xab"));
}

TEST(BuildIdNote, LengthsBeyondTheEndFindNothing) {
  std::vector<uint8_t> n = note(3, kGnu, "12345678");
  n[4] = 0xff;
  n[5] = 0xff;
  n[6] = 0xff;
  n[7] = 0xff;
  EXPECT_EQ(find_build_id_note(n), std::nullopt);
  n[0] = n[1] = n[2] = n[3] = 0xff;
  EXPECT_EQ(find_build_id_note(n), std::nullopt);
  EXPECT_EQ(find_build_id_note(note(3, kGnu, std::string(64, 'x'))), std::nullopt) << "longer than any build-id";
  EXPECT_EQ(find_build_id_note({}), std::nullopt);
}

TEST(ElfIdentity, OfThisProgramAndOfAText) {
  const Fd self = std::move(open_read_only("/proc/self/exe")).value();
  EXPECT_TRUE(read_elf_identity(self).is_elf);
  Scratch s;
  s.write("text", "#!/bin/sh\nexit 0\n");
  const Fd text = std::move(open_read_only(s.path("text"))).value();
  EXPECT_FALSE(read_elf_identity(text).is_elf);
  const Fd libc = std::move(open_read_only("/bin/true")).value();
  EXPECT_THAT(read_elf_identity(libc).build_id, SizeIs(20));
}

MapRecord map_of(const std::string& path, uint32_t prot = PROT_READ | PROT_EXEC) {
  MapRecord m;
  m.pid = Pid(::getpid());
  m.tid = Tid(::getpid());
  m.start = 0x10000;
  m.length = 0x1000;
  m.prot = prot;
  m.path = path;
  struct stat st {};
  if (::stat(path.c_str(), &st) == 0) {
    m.device_major = ::major(st.st_dev);
    m.device_minor = ::minor(st.st_dev);
    m.inode = st.st_ino;
  }
  return m;
}

const CodeWatch watch;  // of nothing
const PerfMaps maps;

std::vector<std::string> paths(const CodeBytes::Collected& c) {
  std::vector<std::string> out;
  for (const CapturedImage& i : c.images) out.push_back(i.info.path);
  return out;
}

TEST(CodeBytes, AFileDeletedAfterItsRecordIsStillThere) {
  Scratch s;
  const std::string path = s.path("prog");
  std::filesystem::copy("/bin/true", path);
  CodeBytes code(CodeRule::executable);
  const MapRecord m = map_of(path);
  code.prefetch(m);
  std::filesystem::remove(path);
  code.add(m, RecordTime(1));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(c.notes, IsEmpty());
  ASSERT_THAT(c.images, SizeIs(1));
  EXPECT_EQ(c.images[0].info.bytes, std::filesystem::file_size("/bin/true"));
  EXPECT_EQ(c.images[0].info.kind, ImageKind::elf);
  EXPECT_THAT(c.images[0].info.build_id, SizeIs(40));
}

TEST(CodeBytes, WhatWasOnlyPrefetchedIsNotStored) {
  CodeBytes code(CodeRule::executable);
  code.prefetch(map_of("/bin/true"));
  EXPECT_THAT(code.collect(watch, maps, {}).images, IsEmpty());
}

TEST(CodeBytes, AMissingFileIsANote) {
  CodeBytes code(CodeRule::executable);
  code.add(map_of("/no/such/lib.so"), RecordTime(1));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(c.images, IsEmpty());
  EXPECT_THAT(c.notes, ElementsAre(HasSubstr("image missing: /no/such/lib.so")));
}

TEST(CodeBytes, ADeletedFileIsReadThroughTheProcessThatMapsIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "/proc/PID/map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE";
  Scratch s;
  const std::string path = s.path("prog");
  std::filesystem::copy("/bin/true", path);
  MapRecord m = map_of(path);
  auto mapping = map_file(path);
  ASSERT_TRUE(mapping.ok());
  std::filesystem::remove(path);
  m.start = reinterpret_cast<uint64_t>(mapping->data());
  m.length = (mapping->size() + 4095) & ~uint64_t{4095};
  CodeBytes code(CodeRule::executable);
  code.add(m, RecordTime(1));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(c.notes, IsEmpty());
  EXPECT_THAT(c.images, SizeIs(1));
}

TEST(CodeBytes, APathThatNamesAnotherBuildIsNotTakenForTheMappedOne) {
  MapRecord m = map_of("/bin/true");
  m.build_id = std::string(20, '\x42');
  CodeBytes code(CodeRule::executable);
  code.add(m, RecordTime(1));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(c.images, IsEmpty());
  EXPECT_THAT(c.notes, ElementsAre(HasSubstr("another build")));
}

TEST(CodeBytes, TwoFilesOfOnePathOverTimeArePlacedOneByOne) {
  Scratch s;
  const std::string path = s.path("prog");
  CodeBytes code(CodeRule::executable);
  std::filesystem::copy("/bin/true", path);
  code.add(map_of(path), RecordTime(1));
  std::filesystem::rename(path, s.path("old"));  // keeps its inode, so that the new file gets another
  std::filesystem::copy("/bin/false", path);
  code.add(map_of(path), RecordTime(2));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(paths(c), ElementsAre(path, path));
  ASSERT_THAT(c.placements, SizeIs(2));
  EXPECT_NE(c.placements[0].image, c.placements[1].image);
}

TEST(CodeBytes, DataFilesAreNoImages) {
  Scratch s;
  s.write("data", "no code");
  CodeBytes simulated(CodeRule::any_elf);
  simulated.add(map_of(s.path("data"), PROT_READ), RecordTime(1));
  simulated.add(map_of("/bin/true", PROT_READ), RecordTime(1));
  EXPECT_THAT(paths(simulated.collect(watch, maps, {})), ElementsAre("/bin/true"));
  CodeBytes real(CodeRule::executable);
  real.add(map_of("/bin/true", PROT_READ), RecordTime(1));
  for (const char* name : {"//anon", "[heap]", "[vdso]", "anon_inode:[x]", "/dev/zero (deleted)"})
    real.add(map_of(name), RecordTime(1));
  const auto c = real.collect(watch, maps, {});
  EXPECT_THAT(c.images, IsEmpty());
  EXPECT_THAT(c.notes, IsEmpty());
}

TEST(CodeBytes, CopiesTheVdsoAndAnonymousCode) {
  auto code_page = Mapping::map(Fd(), 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);
  ASSERT_TRUE(code_page.ok());
  std::memset(code_page->data(), 0xc3, 4096);
  CodeBytes code(CodeRule::executable);
  CodeWatch looked;
  uint64_t time = 5;
  for (int i = 0; i < 2; ++i) looked.look_at(Pid(::getpid()), [&] { return RecordTime(++time); });
  looked.settle(RecordTime(time));
  const auto c = code.collect(looked, maps, {});
  ASSERT_THAT(paths(c), Contains("[vdso]"));
  for (const CapturedImage& i : c.images)
    if (i.info.path == "[vdso]") {
      EXPECT_EQ(i.info.kind, ImageKind::elf);
    }
  const auto at = reinterpret_cast<uint64_t>(code_page->data());
  const auto p = std::find_if(c.placements.begin(), c.placements.end(),
                              [&](const PlacementInfo& x) { return x.address <= at && at < x.address + x.length; });
  ASSERT_NE(p, c.placements.end());
  const auto image =
      std::find_if(c.images.begin(), c.images.end(), [&](const CapturedImage& i) { return i.info.id == p->image; });
  ASSERT_NE(image, c.images.end());
  EXPECT_EQ(image->memory.at(at - p->address), 0xc3);
}

TEST(CodeBytes, AJitdumpIsAnImageOfItsProcessAsItIsWhenItIsCollected) {
  Scratch s;
  s.write("jit-7.dump", "");  // some write its beginning after they have mapped it
  for (const CodeRule rule : {CodeRule::executable, CodeRule::any_elf}) {
    CodeBytes code(rule);
    code.add(map_of(s.path("jit-7.dump")), RecordTime(1));
    EXPECT_TRUE(code.has_jitdump());
    s.write("jit-7.dump", "DTiJ and its records");
    const auto c = code.collect(watch, maps, {});
    ASSERT_THAT(c.images, SizeIs(1));
    EXPECT_EQ(c.images[0].info.kind, ImageKind::jitdump);
    EXPECT_EQ(c.images[0].info.pid, Pid(::getpid()));
    EXPECT_EQ(c.images[0].info.bytes, 20u);
    EXPECT_THAT(c.placements, IsEmpty());
    EXPECT_THAT(c.notes, IsEmpty());
  }
}

TEST(CodeBytes, WhatIsOnlyNamedLikeAJitdumpIsNone) {
  Scratch s;
  s.write("jit-7.dump", "something else");
  s.write("jit-x.dump", "DTiJ");
  CodeBytes code(CodeRule::any_elf);
  code.add(map_of(s.path("jit-7.dump")), RecordTime(1));
  code.add(map_of(s.path("jit-x.dump")), RecordTime(1));
  const auto c = code.collect(watch, maps, {});
  EXPECT_THAT(c.images, IsEmpty());
  EXPECT_THAT(c.notes, ElementsAre(HasSubstr("does not begin as one")));
}

TEST(CodeBytes, EqualMemoryIsStoredOnceAndPlacedTwice) {
  CodeBytes code(CodeRule::executable);
  std::vector<MemoryCopy> copies(2);
  for (const int i : {0, 1}) copies[static_cast<size_t>(i)] = {{{Pid(i + 1), 0, 2}}, "//anon", {0x90, 0xc3}};
  const auto c = code.collect(watch, maps, copies);
  EXPECT_THAT(c.images, SizeIs(1));
  EXPECT_THAT(c.placements, SizeIs(2));
}

}  // namespace
}  // namespace hindcast::capture
