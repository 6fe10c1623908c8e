#include "decode/address_space.h"

#include <gtest/gtest.h>

#include "tests/support/memory_source.h"

namespace hindcast::decode {
namespace {

class AddressSpace : public ::testing::Test {
 protected:
  uint32_t image(const std::string& path, uint8_t fill, size_t bytes = 0x1000, const std::string& build_id = {}) {
    ImageInfo i;
    i.id = static_cast<uint32_t>(info.images.size() + 1);
    i.path = path;
    i.kind = path == "//anon" ? ImageKind::memory : ImageKind::elf;
    i.build_id = build_id;
    i.bytes = bytes;
    info.images.push_back(i);
    source.images[i.id] = std::vector<uint8_t>(bytes, fill);
    return i.id;
  }
  void placement(uint32_t id, Pid pid, uint64_t address, uint64_t from = 0, uint64_t to = ~0ull) {
    info.placements.push_back({pid, address, 0x1000, 0, id, RecordTime(from), RecordTime(to)});
  }
  static MapRecord map_of(int pid, uint64_t address, const std::string_view path, uint64_t length = 0x1000,
                          uint64_t offset = 0) {
    return {Pid(pid), Tid(pid), address, length, offset, 0, {}, path};
  }
  static int byte(const CodeImage& code, uint64_t address) {
    uint8_t b = 0;
    return code.read(Ip(address), {&b, 1}) == 1 ? b : -1;
  }
  /// The byte at an address, -1 when it is not known.
  int at(AddressSpaces& s, int pid, uint64_t time, uint64_t address) {
    uint8_t b = 0;
    return s.image_at(Pid(pid), Tid(pid), RecordTime(time), RecordTime(time))->read(Ip(address), {&b, 1}) == 1 ? b : -1;
  }
  static Interval<RecordTime> now(uint64_t time) { return {RecordTime(time), RecordTime(time)}; }
  SnapshotInfo info;
  test::MemorySource source;
  ImageStore images{info, source};
  const Pid one{1}, two{2};
};

TEST_F(AddressSpace, LaterMappingsCoverEarlierOnesFromTheirTimeOn) {
  image("/a", 0xaa, 0x3000);
  image("/b", 0xbb);
  AddressSpaces s(info, images);
  s.map(RecordTime(10), Tid(1), map_of(1, 0x1000, "/a", 0x3000));
  s.map(RecordTime(20), Tid(1), map_of(1, 0x2000, "/b"));
  EXPECT_EQ(at(s, 1, 5, 0x2000), -1);
  EXPECT_EQ(at(s, 1, 15, 0x2000), 0xaa);
  EXPECT_EQ(at(s, 1, 25, 0x1fff), 0xaa);
  EXPECT_EQ(at(s, 1, 25, 0x2000), 0xbb);
  EXPECT_EQ(at(s, 1, 25, 0x3000), 0xaa);
  EXPECT_EQ(at(s, 1, 15, 0x2000), 0xaa) << "asking about the past again";
  EXPECT_EQ(at(s, 2, 25, 0x2000), -1) << "another process";
}

TEST_F(AddressSpace, EqualCodeIsOneObject) {
  image("/a", 0xaa);
  image("/b", 0xbb);
  image("/data", 0);
  AddressSpaces s(info, images);
  const auto code_of = [&](int pid, uint64_t time) {
    return s.image_at(Pid(pid), Tid(pid), RecordTime(time), RecordTime(time));
  };
  for (const int pid : {1, 2}) s.map(RecordTime(1), Tid(pid), map_of(pid, 0x1000, "/a"));
  s.map(RecordTime(1), Tid(3), map_of(3, 0x2000, "/a"));
  s.map(RecordTime(1), Tid(4), map_of(4, 0x1000, "/b"));
  s.map(RecordTime(1), Tid(5), map_of(5, 0x1000, "/a", 0x800));
  s.fork(RecordTime(2), one, Pid(6));
  s.map(RecordTime(10), Tid(1), map_of(1, 0x1000, "/b"));
  const auto code = code_of(1, 5);
  EXPECT_EQ(code_of(2, 5), code) << "another process";
  EXPECT_EQ(code_of(6, 20), code) << "a fork of it";
  EXPECT_NE(code_of(3, 5), code) << "elsewhere";
  EXPECT_NE(code_of(4, 5), code) << "another file";
  EXPECT_NE(code_of(5, 5), code) << "less of it";
  EXPECT_EQ(code_of(1, 15), code_of(4, 5)) << "when it has become equal";
  // What cannot be read is no code, and makes no other object.
  s.map(RecordTime(30), Tid(2), map_of(2, 0x9000, "/not/there"));
  EXPECT_EQ(code_of(2, 40), code);
}

TEST_F(AddressSpace, ReadsAtTheFileOffsetAndNotPastTheFile) {
  source.images[image("/a", 0)] = {1, 2, 3, 4};
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/a", 0x1000, 2));
  EXPECT_EQ(at(s, 1, 1, 0x1000), 3);
  EXPECT_EQ(at(s, 1, 1, 0x1001), 4);
  EXPECT_EQ(at(s, 1, 1, 0x1002), -1);
}

TEST_F(AddressSpace, PlainMemoryCoversFilesAndHasNoCode) {
  image("/a", 0xaa);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/a"));
  s.map(RecordTime(2), Tid(1), map_of(1, 0x1800, "//anon", 0x100));
  EXPECT_EQ(at(s, 1, 1, 0x1800), 0xaa);
  EXPECT_EQ(at(s, 1, 2, 0x1800), -1);
  EXPECT_EQ(at(s, 1, 2, 0x1900), 0xaa);
}

TEST_F(AddressSpace, ExecStartsEmptyAndForkCopiesTheParent) {
  image("/a", 0xaa);
  image("/b", 0xbb);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/a"));
  s.fork(RecordTime(2), one, two);
  s.map(RecordTime(3), Tid(1), map_of(1, 0x1000, "/b"));
  EXPECT_EQ(at(s, 2, 3, 0x1000), 0xaa) << "what the parent maps later is its own";
  s.exec(RecordTime(4), Tid(2), two);
  EXPECT_EQ(at(s, 2, 3, 0x1000), 0xaa);
  EXPECT_EQ(at(s, 2, 4, 0x1000), -1);
}

TEST_F(AddressSpace, BuildIdDecidesBetweenFilesOfOneName) {
  image("/a", 0x11, 0x1000, "0011");
  image("/a", 0x22, 0x1000, "0022");
  AddressSpaces s(info, images);
  MapRecord m = map_of(1, 0x1000, "/a");
  s.map(RecordTime(1), Tid(1), m);
  EXPECT_EQ(at(s, 1, 1, 0x1000), -1) << "two files have that name";
  const std::vector<uint8_t> id = {0x00, 0x22};
  m.build_id = id;
  s.map(RecordTime(2), Tid(1), m);
  EXPECT_EQ(at(s, 1, 2, 0x1000), 0x22);
  const std::vector<uint8_t> other = {0x00, 0x33};
  m.build_id = other;
  s.map(RecordTime(3), Tid(1), m);
  EXPECT_EQ(at(s, 1, 3, 0x1000), -1) << "that build is not in the snapshot";
}

TEST_F(AddressSpace, MemoryCopyIsValidInItsTimeAndLiesAbovePlainMemory) {
  placement(image("//anon", 0xcc), one, 0x1000, 10, 20);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/missing"));
  s.map(RecordTime(15), Tid(1), map_of(1, 0x1000, "//anon"));
  EXPECT_EQ(at(s, 1, 9, 0x1000), -1);
  EXPECT_EQ(at(s, 1, 10, 0x1000), 0xcc);
  EXPECT_EQ(at(s, 1, 16, 0x1000), 0xcc);
  EXPECT_EQ(at(s, 1, 21, 0x1000), -1);
  EXPECT_EQ(at(s, 2, 12, 0x1000), -1);
}

TEST_F(AddressSpace, FileMappedOverAMemoryCopyHidesIt) {
  placement(image("//anon", 0xcc), one, 0x1000);
  image("/a", 0xaa);
  AddressSpaces s(info, images);
  s.map(RecordTime(5), Tid(1), map_of(1, 0x1800, "/a", 0x100));
  EXPECT_EQ(at(s, 1, 4, 0x1800), 0xcc);
  EXPECT_EQ(at(s, 1, 5, 0x1800), 0xaa);
  EXPECT_EQ(at(s, 1, 5, 0x1900), 0xcc);
}

TEST_F(AddressSpace, ForkedChildHasItsParentsMemoryCopiesUntilItExecs) {
  placement(image("//anon", 0xcc), one, 0x1000);
  AddressSpaces s(info, images);
  s.fork(RecordTime(5), one, two);
  s.exec(RecordTime(9), Tid(2), two);
  EXPECT_EQ(at(s, 2, 6, 0x1000), 0xcc);
  EXPECT_EQ(at(s, 2, 9, 0x1000), -1);
}

TEST_F(AddressSpace, OwnChangesComeAfterAStretchAndThoseOfOtherThreadsDuringIt) {
  image("/a", 0xaa);
  image("/b", 0xbb);
  image("/c", 0xcc);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/a"));
  s.map(RecordTime(5), Tid(1), map_of(1, 0x1000, "/b"));
  s.map(RecordTime(6), Tid(9), map_of(1, 0x2000, "/c"));
  const auto code = s.image_at(one, Tid(1), RecordTime(4), RecordTime(7));
  uint8_t b = 0;
  ASSERT_EQ(code->read(Ip(0x1000), {&b, 1}), 1u);
  EXPECT_EQ(b, 0xaa);
  ASSERT_EQ(code->read(Ip(0x2000), {&b, 1}), 1u);
  EXPECT_EQ(b, 0xcc);
}

TEST_F(AddressSpace, SameObjectWhileNothingChanges) {
  image("/a", 0xaa);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x1000, "/a"));
  s.map(RecordTime(9), Tid(1), map_of(1, 0x5000, "/a"));
  const auto first = s.image_at(one, Tid(1), RecordTime(2), RecordTime(3));
  EXPECT_EQ(first, s.image_at(one, Tid(7), RecordTime(5), RecordTime(5)));
  EXPECT_NE(first, s.image_at(one, Tid(1), RecordTime(9), RecordTime(9)));
}

TEST_F(AddressSpace, LocateNamesFileAndOffset) {
  const uint32_t a = image("/a", 0xaa, 0x4000, "abcd");
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, 0x10000, "/a", 0x2000, 0x1000));
  s.map(RecordTime(1), Tid(1), map_of(1, 0x20000, "/not-captured", 0x2000));
  auto l = s.locate(one, now(2), Ip(0x10010));
  ASSERT_TRUE(l.has_value());
  EXPECT_EQ(l->image, a);
  EXPECT_EQ(l->image_offset, 0x1010u);
  EXPECT_EQ(l->path, "/a");
  EXPECT_EQ(l->build_id, "abcd");
  EXPECT_EQ(l->map_start, 0x10000u);
  l = s.locate(one, now(2), Ip(0x20010));
  ASSERT_TRUE(l.has_value());
  EXPECT_EQ(l->image, 0u);
  EXPECT_EQ(l->path, "/not-captured");
  EXPECT_FALSE(s.locate(one, now(0), Ip(0x10010)).has_value());
  EXPECT_FALSE(s.locate(one, now(2), Ip(0x30000)).has_value());
}

// ---- code that changes

TEST_F(AddressSpace, AStretchOverAChangeKnowsOnlyWhatDidNotChange) {
  const uint32_t before = image("//anon", 0xaa), after = image("//anon", 0xaa);
  source.images[after][0x800] = 0xbb;
  placement(before, one, 0x1000, 10, 20);
  placement(after, one, 0x1000, 20, 30);
  AddressSpaces s(info, images);
  const auto code = s.image_at(one, Tid(1), now(15), RecordTime(25));
  EXPECT_EQ(byte(*code, 0x1000), 0xaa);
  EXPECT_EQ(byte(*code, 0x1800), -1);
  EXPECT_TRUE(code->version_unknown(Ip(0x1800)));
  EXPECT_FALSE(code->version_unknown(Ip(0x1801)));
  EXPECT_EQ(byte(*code, 0x1801), 0xaa);
  EXPECT_EQ(at(s, 1, 19, 0x1800), 0xaa);
  EXPECT_EQ(at(s, 1, 21, 0x1800), 0xbb);
  // A begin that may lie on either side is no better than a stretch over it.
  EXPECT_TRUE(s.image_at(one, Tid(1), {RecordTime(15), RecordTime(25)}, RecordTime(25))->version_unknown(Ip(0x1800)));
}

TEST_F(AddressSpace, AChangeInAThreadsOwnCallLiesBetweenItsStretches) {
  placement(image("//anon", 0xaa), one, 0x1000, 10, 20);
  placement(image("//anon", 0xbb), one, 0x1000, 20, 30);
  info.placements.back().by = Tid(7);
  AddressSpaces s(info, images);
  const auto own = [&](uint64_t begun, uint64_t latest, uint64_t ended) {
    return byte(*s.image_at(one, Tid(7), {RecordTime(begun), RecordTime(latest)}, RecordTime(ended)), 0x1000);
  };
  EXPECT_EQ(own(15, 15, 25), 0xaa) << "the call ended it, whatever the clocks say";
  EXPECT_EQ(own(15, 25, 28), 0xbb);
  EXPECT_EQ(byte(*s.image_at(one, Tid(8), now(15), RecordTime(25)), 0x1000), -1) << "another thread's";
}

TEST_F(AddressSpace, UnknownCodeHidesWhatWasThereUntilANewLook) {
  placement(image("//anon", 0xaa), one, 0x1000, 10, 20);
  info.unknown_code.push_back({one, 0x1000, 0x1000, RecordTime(20), RecordTime(30)});
  placement(image("//anon", 0xbb), one, 0x1000, 30, 40);
  AddressSpaces s(info, images);
  const auto unknown = [&](uint64_t begun, uint64_t ended) {
    return s.image_at(one, Tid(1), now(begun), RecordTime(ended))->version_unknown(Ip(0x1000));
  };
  EXPECT_EQ(at(s, 1, 19, 0x1000), 0xaa);
  EXPECT_TRUE(unknown(15, 25));
  EXPECT_TRUE(unknown(22, 25));
  EXPECT_TRUE(unknown(25, 35));
  EXPECT_FALSE(unknown(31, 35));
  EXPECT_EQ(at(s, 1, 31, 0x1000), 0xbb);
  EXPECT_FALSE(s.image_at(two, Tid(2), now(25), RecordTime(25))->version_unknown(Ip(0x1000))) << "another process";
}

TEST_F(AddressSpace, CodeThatCameDuringAStretchIsKnownWhereNothingWasBefore) {
  placement(image("//anon", 0xaa), one, 0x1000, 20, 40);
  AddressSpaces s(info, images);
  EXPECT_EQ(byte(*s.image_at(one, Tid(1), now(10), RecordTime(30)), 0x1000), 0xaa);
  EXPECT_EQ(at(s, 1, 10, 0x1000), -1);
}

TEST_F(AddressSpace, JitCodeIsThereFromItsTimeUntilOtherCodeIsLoadedOverIt) {
  const uint32_t dump = image("jit-1.dump", 0, 0x300);
  info.images.back().kind = ImageKind::jitdump;
  for (size_t i = 0; i < 0x300; ++i) source.images[dump][i] = static_cast<uint8_t>(i / 0x100 + 1);
  AddressSpaces s(info, images);
  s.jit(one, {0x1000, 0x100, dump, 0x000, now(10)});
  s.jit(one, {0x2000, 0x100, dump, 0x100, now(10)});
  s.jit(one, {0x1080, 0x100, dump, 0x200, {RecordTime(20), RecordTime(22)}});
  EXPECT_EQ(at(s, 1, 9, 0x1000), -1);
  EXPECT_EQ(at(s, 1, 15, 0x1000), 1);
  EXPECT_EQ(at(s, 1, 15, 0x1080), 1);
  EXPECT_EQ(at(s, 1, 25, 0x107f), 1);
  EXPECT_EQ(at(s, 1, 25, 0x1080), 3);
  EXPECT_EQ(at(s, 1, 25, 0x2000), 2);
  const auto during = s.image_at(one, Tid(1), now(21), RecordTime(21));
  EXPECT_TRUE(during->version_unknown(Ip(0x1080)));
  EXPECT_FALSE(during->version_unknown(Ip(0x107f)));
  EXPECT_EQ(byte(*during, 0x1100), 3) << "nothing was there before";
  EXPECT_EQ(at(s, 2, 25, 0x2000), -1);
  EXPECT_EQ(at(s, 1, 15, 0x1000), 1) << "asking about the past again";

  const auto where = s.locate(one, now(25), Ip(0x1090));
  ASSERT_TRUE(where.has_value());
  EXPECT_EQ(where->image, dump);
  EXPECT_EQ(where->image_offset, 0x210u);
  EXPECT_EQ(s.locate(one, now(15), Ip(0x1090))->image_offset, 0x90u);
  EXPECT_FALSE(s.locate(one, now(5), Ip(0x1090)).has_value());
  EXPECT_EQ(s.locate(one, {RecordTime(5), RecordTime(15)}, Ip(0x1090))->image_offset, 0x90u) << "made meanwhile";
}

TEST_F(AddressSpace, JitCodeMovesGoesAndIsInheritedUntilExec) {
  const uint32_t dump = image("jit-1.dump", 7, 0x100);
  info.images.back().kind = ImageKind::jitdump;
  AddressSpaces s(info, images);
  s.jit(one, {0x1000, 0x100, dump, 0, now(10)});
  s.jit(one, {0x1000, 0x100, 0, 0, now(20)});
  s.jit(one, {0x5000, 0x100, dump, 0, now(20)});
  s.fork(RecordTime(30), one, two);
  s.exec(RecordTime(40), Tid(1), one);
  s.exec(RecordTime(50), Tid(2), two);
  s.jit(one, {0x7000, 0x100, dump, 0, now(60)});
  EXPECT_EQ(at(s, 1, 15, 0x1000), 7);
  EXPECT_EQ(at(s, 1, 25, 0x1000), -1);
  EXPECT_EQ(at(s, 1, 25, 0x5000), 7);
  EXPECT_EQ(at(s, 2, 35, 0x5000), 7);
  EXPECT_EQ(at(s, 2, 35, 0x1000), -1);
  EXPECT_EQ(at(s, 1, 45, 0x5000), -1);
  EXPECT_EQ(at(s, 2, 45, 0x5000), 7);
  EXPECT_EQ(at(s, 2, 55, 0x5000), -1);
  EXPECT_EQ(at(s, 1, 65, 0x7000), 7);
  EXPECT_EQ(at(s, 2, 65, 0x7000), -1);
}

TEST_F(AddressSpace, ACopyThatHeldAllTheTimeIsRightAboutCodeThatWasPatched) {
  const uint32_t dump = image("jit-1.dump", 7, 0x100), copy = image("//anon", 7);
  info.images[dump - 1].kind = ImageKind::jitdump;
  source.images[copy][0x10] = 9;
  placement(copy, one, 0x1000, 20, 30);
  info.unknown_code.push_back({one, 0x1000, 0x1000, RecordTime(0), RecordTime(19)});
  AddressSpaces s(info, images);
  s.jit(one, {0x1000, 0x100, dump, 0, now(10)});
  s.jit(one, {0x1080, 0x10, dump, 0, now(25)});
  EXPECT_EQ(at(s, 1, 15, 0x1010), 7) << "the compiler's word, where no look says otherwise";
  EXPECT_EQ(at(s, 1, 22, 0x1010), 9);
  EXPECT_EQ(at(s, 1, 22, 0x1020), 7);
  EXPECT_EQ(byte(*s.image_at(one, Tid(1), now(22), RecordTime(35)), 0x1010), 7) << "the copy need not hold to its end";
  EXPECT_EQ(at(s, 1, 27, 0x1084), 7) << "told of later, and the same";
}

TEST_F(AddressSpace, JitCodeWithoutATimeIsUnknown) {
  AddressSpaces s(info, images);
  s.jit(one, {0x1000, 0x100, kUnknownImage, 0, Interval<RecordTime>::unknown()});
  const auto code = s.image_at(one, Tid(1), now(20), RecordTime(25));
  EXPECT_TRUE(code->version_unknown(Ip(0x1000)));
  EXPECT_FALSE(s.locate(one, now(20), Ip(0x1000)).has_value());
}

TEST_F(AddressSpace, MappingThatWrapsAroundIsIgnored) {
  image("/a", 0xaa);
  AddressSpaces s(info, images);
  s.map(RecordTime(1), Tid(1), map_of(1, ~0ull - 0xfff, "/a", 0x2000));
  EXPECT_EQ(at(s, 1, 1, ~0ull - 0xff), -1);
}

TEST_F(AddressSpace, TheKernelsCodeIsReadAsItWasBetweenItsChanges) {
  placement(image("//anon", 0xee), kNoPid, 0x9000);  // as it was in the end
  const std::vector<uint8_t> first = {1, 2}, second = {3, 4}, third = {0xee, 0xee}, longer = {9, 9, 9};
  AddressSpaces s(info, images);
  s.text_poke(RecordTime(100), 0x9100, first, second);
  s.text_poke(RecordTime(200), 0x9100, second, third);
  s.text_poke(RecordTime(300), 0x9200, {}, longer);  // there was nothing
  s.text_poke(RecordTime(400), 0x9200, longer, {});
  for (const int pid : {1, -1}) {
    EXPECT_EQ(at(s, pid, 50, 0x9101), 2);
    EXPECT_EQ(at(s, pid, 100, 0x9101), 4);
    EXPECT_EQ(at(s, pid, 199, 0x9100), 3);
    EXPECT_EQ(at(s, pid, 200, 0x9100), 0xee);
    EXPECT_EQ(at(s, pid, 250, 0x9102), 0xee);
    EXPECT_EQ(at(s, pid, 299, 0x9202), -1);
    EXPECT_EQ(at(s, pid, 350, 0x9202), 9);
    EXPECT_EQ(at(s, pid, 400, 0x9200), -1);
    EXPECT_EQ(at(s, pid, 50, 0x9101), 2) << "asking about the past again";
  }
}

TEST_F(AddressSpace, WhatTheKernelPutAnewIsNotWhatWasChangedThereBefore) {
  placement(image("//anon", 0xee), kNoPid, 0x9000, 500);
  const std::vector<uint8_t> old = {1}, changed = {2}, fresh = {5}, now = {0xee};
  AddressSpaces s(info, images);
  s.text_poke(RecordTime(100), 0x9100, old, changed);
  s.ksymbol(RecordTime(500), 0x9000, 0x1000);
  s.text_poke(RecordTime(600), 0x9100, fresh, now);
  EXPECT_EQ(at(s, 1, 50, 0x9100), 1);
  EXPECT_EQ(at(s, 1, 150, 0x9100), 2);
  EXPECT_EQ(at(s, 1, 550, 0x9100), 5);
  EXPECT_EQ(at(s, 1, 550, 0x9101), 0xee);
  EXPECT_EQ(at(s, 1, 600, 0x9100), 0xee);
}

TEST_F(AddressSpace, InATimeOfChangesOnlyWhatNeverDifferedIsKnown) {
  image("/a", 0xaa, 0x3000);
  image("/b", 0xbb);
  placement(image("//anon", 0xee), kNoPid, 0x9000);
  const std::vector<uint8_t> old = {1}, now = {0xee};
  AddressSpaces s(info, images);
  s.map(RecordTime(10), Tid(1), map_of(1, 0x1000, "/a", 0x3000));
  s.map(RecordTime(20), Tid(1), map_of(1, 0x2000, "/b"));
  s.map(RecordTime(30), Tid(1), map_of(1, 0x7000, "/b"));
  s.text_poke(RecordTime(40), 0x9100, old, now);
  const auto during = [&](uint64_t from, uint64_t to, uint64_t address) {
    uint8_t b = 0;
    return s.image_during(one, RecordTime(from), RecordTime(to))->read(Ip(address), {&b, 1}) == 1 ? b : -1;
  };
  EXPECT_EQ(during(11, 19, 0x2000), 0xaa);
  EXPECT_EQ(during(15, 25, 0x1fff), 0xaa);
  EXPECT_EQ(during(15, 25, 0x2000), -1);
  EXPECT_EQ(during(15, 25, 0x2fff), -1);
  EXPECT_EQ(during(15, 25, 0x3000), 0xaa);
  EXPECT_EQ(during(20, 29, 0x2000), 0xbb);
  EXPECT_EQ(during(25, 35, 0x7000), 0xbb) << "it came, and nothing was there";
  EXPECT_EQ(during(25, 45, 0x9100), -1);
  EXPECT_EQ(during(25, 45, 0x9101), 0xee);
  EXPECT_EQ(during(40, 50, 0x9100), 0xee);
  EXPECT_EQ(s.image_during(one, RecordTime(41), RecordTime(50)),
            s.image_at(one, kNoTid, RecordTime(45), RecordTime(45)));
  const auto changes = s.changes(one);
  EXPECT_EQ(std::vector(changes.begin(), changes.end()),
            (std::vector{RecordTime(0), RecordTime(10), RecordTime(20), RecordTime(30), RecordTime(40)}));
}

}  // namespace
}  // namespace hindcast::decode
