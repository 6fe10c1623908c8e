// What the manifest says of images and of code that nobody knows.
#include "transport/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hindcast::transport {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

SnapshotInfo sample() {
  SnapshotInfo i;
  i.images = {{1, ImageKind::memory, "", "//anon", 64},
              {2, ImageKind::jitdump, "", "/tmp/jit-7.dump", 500, Pid(7)},
              {3, ImageKind::perf_map, "", "/tmp/perf-7.map", 30, Pid(7)}};
  i.placements = {{Pid(7), 0x1000, 64, 0, 1, RecordTime(5), RecordTime(9), Tid(8)}};
  i.unknown_code = {{Pid(7), 0x1000, 4096, RecordTime(10), RecordTime(20)}, {Pid(7), 0x3000, 1, {}, RecordTime::max()}};
  return i;
}

TEST(Manifest, ImagesOfProcessesAndUnknownCodeAreRead) {
  const auto read = parse_manifest(manifest_text(sample()));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(manifest_text(read->info), manifest_text(sample()));
  ASSERT_THAT(read->info.images, SizeIs(3));
  EXPECT_EQ(read->info.images[1].kind, ImageKind::jitdump);
  EXPECT_EQ(read->info.images[1].pid, Pid(7));
  EXPECT_EQ(read->info.images[2].kind, ImageKind::perf_map);
  EXPECT_EQ(read->info.placements.at(0).by, Tid(8));
  ASSERT_THAT(read->info.unknown_code, SizeIs(2));
  EXPECT_EQ(read->info.unknown_code[0].address, 0x1000u);
  EXPECT_EQ(read->info.unknown_code[0].to, RecordTime(20));
  EXPECT_EQ(read->info.unknown_code[1].to, RecordTime::max());
}

TEST(Manifest, ImagesOfAKindToComeAreLeftOutWithTheirPlacements) {
  std::string text = manifest_text(sample());
  for (const std::string name : {"memory", "jitdump"}) text.replace(text.find('"' + name), name.size() + 1, "\"new");
  const auto read = parse_manifest(text);
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_THAT(read->left_out_images, ElementsAre(1, 2));
  EXPECT_THAT(read->info.images, SizeIs(1));
  EXPECT_THAT(read->info.placements, SizeIs(0));
  EXPECT_THAT(read->info.notes, Contains(HasSubstr("image 2 is of a kind")));
}

TEST(Manifest, UnknownCodeThatCannotBeIsRefused) {
  for (const auto& bad : {UnknownCode{Pid(7), 0x1000, 0, {}, {}}, UnknownCode{Pid(7), ~0ull, 2, {}, {}},
                          UnknownCode{Pid(7), 0x1000, 1, RecordTime(2), RecordTime(1)}}) {
    SnapshotInfo info = sample();
    info.unknown_code.push_back(bad);
    EXPECT_FALSE(parse_manifest(manifest_text(info)).ok());
  }
}

}  // namespace
}  // namespace hindcast::transport
