// What decoding is handed of a real bundle: streams in parts, and what is kept of a scan.
#include "server/bundle_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/bundle_edit.h"
#include "tests/support/run_program.h"
#include "tests/support/ship_kit.h"

namespace hindcast::server {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kEnough = BundleSource::kFewestToKeep;

class BundleSourceTest : public testing::Test {
 protected:
  /// Each of its PT streams has pt_bytes, or up to 1,000 more; the same for the same seed.
  std::string write(const std::string& name, uint32_t seed, size_t pt_bytes) {
    const auto made = test::make_snapshot("web-1", "incident", seed, 2 * pt_bytes);
    test::MemorySnapshot snapshot{made.info, {}};
    for (size_t i = 0; i < made.images.size(); ++i) snapshot.source.images[made.info.images[i].id] = made.images[i];
    for (size_t i = 0; i < made.streams.size(); ++i) snapshot.source.streams[made.info.streams[i].id] = made.streams[i];
    test::write_bundle(snapshot, folder_ / name);
    return folder_ / name;
  }
  static transport::BundleReader open(const std::string& path) {
    auto reader = transport::BundleReader::open(path);
    if (!reader.ok()) ADD_FAILURE() << reader.error().text();
    return std::move(reader).value();
  }
  /// Six bytes of it, so far from its begin.
  static void damage(const std::string& path, double part) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(part * static_cast<double>(std::filesystem::file_size(path))));
    file.write("damage", 6);
  }
  static const StreamInfo& pt_of(const transport::BundleReader& reader) {
    const auto& streams = reader.snapshot(0).streams;
    return *std::find_if(streams.begin(), streams.end(), [](const StreamInfo& s) { return s.kind == StreamKind::pt; });
  }
  /// What is kept of the PT stream of a bundle when `scan` is given to be kept, or nothing is.
  std::optional<Bytes> kept(const std::string& path, const std::optional<Bytes>& scan = std::nullopt) {
    const auto reader = open(path);
    BundleSource source(reader, 0, &scans_);
    if (scan) source.keep(pt_of(reader).id, [&] { return *scan; });
    return source.kept(pt_of(reader).id);
  }

  test::TempFolder folder_;
  const ScanStore scans_{folder_ / "scans", 1 << 20};
};

TEST_F(BundleSourceTest, AScanIsKeptForEqualBytesInAnyBundle) {
  const std::string first = write("one", 1, kEnough), same = write("two", 1, kEnough),
                    other = write("three", 2, kEnough);
  EXPECT_FALSE(kept(first));
  EXPECT_EQ(kept(first, Bytes{1, 2, 3}), (Bytes{1, 2, 3}));
  EXPECT_EQ(kept(first), (Bytes{1, 2, 3}));
  EXPECT_EQ(kept(same), (Bytes{1, 2, 3}));
  EXPECT_FALSE(kept(other));
}

TEST_F(BundleSourceTest, OfSmallStreamsNothingIsKept) {
  const std::string small = write("small", 1, kEnough - 1000);
  EXPECT_FALSE(kept(small, Bytes{1, 2, 3}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "scans"));
}

TEST_F(BundleSourceTest, WithoutAStoreNothingIsKept) {
  const auto reader = open(write("one", 1, kEnough));
  BundleSource source(reader, 0);
  source.keep(pt_of(reader).id, []() -> Bytes { throw std::logic_error("made in vain"); });
  EXPECT_FALSE(source.kept(pt_of(reader).id));
}

TEST_F(BundleSourceTest, DamageThatIsFoundWhenBytesAreHeldIsTold) {
  const std::string path = write("one", 1, kEnough);
  const auto reader = open(path);
  for (const bool image : {false, true}) {
    BundleSource source(reader, 0);
    const uint32_t id = image ? reader.snapshot(0).images[0].id : pt_of(reader).id;
    const auto ask = [&] { return image ? source.image_in_parts(id) : source.stream_in_parts(id); };
    const auto opened = ask();
    ASSERT_TRUE(opened.ok());
    StreamBytes& bytes = **opened;
    const uint64_t size = bytes.bytes().size();
    damage(path, image ? 0.001 : 0.5);  // images come first
    EXPECT_TRUE(source.damage().empty());
    const uint64_t good = bytes.hold(0, size);
    EXPECT_LT(good, size);
    bytes.release(0, size);
    const auto damage = source.damage();
    ASSERT_EQ(damage.size(), 1u);
    EXPECT_EQ(damage[0].stream, image ? 0 : id);
    EXPECT_EQ(damage[0].image, image ? id : 0);
    EXPECT_EQ(damage[0].offset, good);
    EXPECT_GT(damage[0].bytes, 0u);
    EXPECT_NE(damage[0].what.find((image ? "image " : "stream ") + std::to_string(id) + ": "), std::string::npos);
    // Who asks again is handed the same, and told the same.
    const auto again = ask();
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->get(), opened->get());
    EXPECT_EQ(source.damage().size(), 1u);
  }
}

}  // namespace
}  // namespace hindcast::server
