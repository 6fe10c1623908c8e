// A bundle cut at every byte, flipped at every byte: it opens or says why not, and never gives a wrong byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/transport/raw_bundle.h"
#include "tests/unit/transport/sample_bundle.h"
#include "transport/bundle_reader.h"
#include "transport/manifest.h"

namespace hindcast::transport {
namespace {

/// Every byte that the reader gives out must be the one that was written. Returns how many stream bytes it gave.
uint64_t expect_only_true_bytes(const BundleReader& r, const std::vector<SampleBundle>& truth) {
  uint64_t given = 0;
  EXPECT_LE(r.snapshot_count(), truth.size());
  for (size_t i = 0; i < r.snapshot_count(); ++i) {
    const SnapshotInfo& info = r.snapshot(i);
    const auto was = std::find_if(truth.begin(), truth.end(), [&](const SampleBundle& t) {
      return t.info.created_unix_ns == info.created_unix_ns;  // tells the samples apart
    });
    EXPECT_NE(was, truth.end());
    if (was == truth.end()) return given;
    for (size_t k = 0; k < info.streams.size(); ++k) {
      EXPECT_EQ(info.streams[k].id, was->info.streams[k].id);
      const auto& original = was->streams[k];
      EXPECT_LE(info.streams[k].bytes, original.size());
      const auto bytes = r.read_stream(i, info.streams[k].id);
      if (!bytes.ok()) {
        EXPECT_FALSE(bytes.error().what.empty());
        continue;
      }
      EXPECT_EQ(bytes->size(), info.streams[k].bytes);
      EXPECT_TRUE(std::equal(bytes->begin(), bytes->end(), original.begin()));
      given += bytes->size();
    }
    for (const ImageInfo& image : info.images) {
      const size_t k = image.id == 1 ? 0 : 1;
      const auto bytes = r.read_image(i, image.id);
      if (bytes.ok()) {
        EXPECT_EQ(*bytes, was->images[k]);
      }
    }
  }
  return given;
}

TEST(BundleDamage, ACutAnywhereOpensOrSaysWhyNot) {
  const std::vector<SampleBundle> truth{sample_snapshot(0), sample_snapshot(1)};
  for (const bool preliminary : {false, true}) {
    const auto file = written(truth, preliminary);
    size_t opened = 0;
    uint64_t given = 0;
    for (size_t n = 0; n < file.size(); ++n) {
      auto r = BundleReader::from_bytes(ByteSpan(file).first(n));
      if (!r.ok()) {
        EXPECT_EQ(opened, 0u) << "a longer file that cannot be opened at " << n;
        EXPECT_FALSE(r.error().what.empty());
        continue;
      }
      ++opened;
      EXPECT_FALSE(r->damage().empty()) << n;
      const uint64_t now = expect_only_true_bytes(*r, truth);
      EXPECT_GE(now, given) << "a longer file gives fewer bytes at " << n;
      given = now;
    }
    EXPECT_EQ(given, 2u * (700 + 300));
    // With a preliminary manifest nearly any cut opens, without one only those behind the first manifest.
    if (preliminary)
      EXPECT_GT(opened, file.size() * 3 / 4);
    else
      EXPECT_GT(opened, file.size() / 3);
  }
}

TEST(BundleDamage, ACutFileTellsWhatIsMissingOfEachStream) {
  const std::vector<SampleBundle> truth{sample_snapshot(0)};
  const auto file = written(truth, true);
  for (size_t n = 0; n < file.size(); ++n) {
    auto r = BundleReader::from_bytes(ByteSpan(file).first(n));
    if (!r.ok()) continue;
    for (size_t k = 0; k < truth[0].streams.size(); ++k) {
      const StreamInfo& s = r->snapshot(0).streams[k];
      const uint64_t whole = truth[0].streams[k].size();
      uint64_t missing = 0;
      for (const auto& d : r->damage())
        if (d.stream == s.id) {
          EXPECT_EQ(d.offset, s.bytes);
          missing += d.bytes;
        }
      EXPECT_EQ(s.bytes + missing, whole) << n;
    }
  }
}

TEST(BundleDamage, AFlippedBitInAnyByteIsFoundOrHarmless) {
  const std::vector<SampleBundle> truth{sample_snapshot(0), sample_snapshot(1)};
  for (const bool preliminary : {false, true}) {
    auto file = written(truth, preliminary);
    size_t refused = 0;
    for (size_t at = 0; at < file.size(); ++at) {
      const auto bit = static_cast<uint8_t>(1 << (at * 5 % 8));
      file[at] ^= bit;
      auto r = BundleReader::from_bytes(file);
      if (r.ok()) {
        const uint64_t given = expect_only_true_bytes(*r, truth);
        if (r->scrub().empty()) {
          // Nothing found: then nothing may be lost either (zstd frames have a few bits without meaning).
          ASSERT_EQ(r->snapshot_count(), 2u);
          EXPECT_EQ(given, 2u * (700 + 300));
          for (size_t i = 0; i < 2; ++i) EXPECT_EQ(manifest_text(r->snapshot(i)), manifest_text(truth[i].info));
        }
      } else {
        ++refused;
        EXPECT_FALSE(r.error().what.empty());
      }
      file[at] ^= bit;
    }
    EXPECT_LE(refused, sizeof(bundle::FileHeader)) << "only the file header cannot be done without";
  }
}

TEST(BundleDamage, BytesAddedAtTheEndLoseNothing) {
  const std::vector<SampleBundle> truth{sample_snapshot(0)};
  auto file = written(truth, false);
  file.push_back('\n');
  auto r = BundleReader::from_bytes(file);
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(expect_only_true_bytes(*r, truth), 1000u);
  EXPECT_FALSE(r->damage().empty());
}

/// One stream of 40 chunks with 25 bytes each.
struct ManyChunks {
  std::vector<uint8_t> data;
  RawBundle raw;
  ManyChunks() : data(1000) {
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 37 + i / 256);
    for (size_t at = 0; at < data.size(); at += 25)
      raw.chunk(bundle::ChunkType::stream, 0, 1, at, ByteSpan(data).subspan(at, 25));
    raw.manifest(0, R"({"manifest_version": 1, "streams": [{"id": 1, "kind": "pt", "bytes": 1000}]})");
    raw.end();
  }
};

TEST(BundleDamage, SalvageGivesEverythingAroundBrokenChunks) {
  const ManyChunks many;
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    auto file = many.raw.bytes();
    const auto& index = const_cast<RawBundle&>(many.raw).index();
    for (int i = 0; i < 5; ++i) {  // in the data only, so that index and manifest stay good
      const size_t at = sizeof(bundle::FileHeader) + random() % (index[40].file_offset - sizeof(bundle::FileHeader));
      file[at] = static_cast<uint8_t>(random());
    }
    auto r = BundleReader::from_bytes(file);
    ASSERT_TRUE(r.ok()) << r.error().text();
    auto s = r->salvage_stream(0, 1);
    ASSERT_TRUE(s.ok());
    std::vector<int> covered(1000);
    for (const auto& piece : s->pieces) {
      for (size_t i = 0; i < piece.bytes.size(); ++i) {
        ++covered[piece.offset + i];
        ASSERT_EQ(piece.bytes[i], many.data[piece.offset + i]);
      }
    }
    for (const auto& d : s->damage)
      for (uint64_t i = 0; i < d.bytes; ++i) ++covered[d.offset + i];
    EXPECT_TRUE(std::all_of(covered.begin(), covered.end(), [](int n) { return n == 1; }));
    EXPECT_EQ(s->damage.size(), r->scrub().size());
    EXPECT_EQ(r->read_stream(0, 1).ok(), s->damage.empty());
  }
}

TEST(BundleDamage, AnIndexThatIsLostIsRebuiltByWalking) {
  ManyChunks many;
  auto file = many.raw.bytes();
  file[file.size() - 1] ^= 1;  // the trailer's magic
  auto r = BundleReader::from_bytes(file);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(*r->read_stream(0, 1), many.data);
  ASSERT_EQ(r->damage().size(), 1u);
  EXPECT_NE(r->damage()[0].what.find("index"), std::string::npos);
}

TEST(BundleDamage, ADamagedManifestIsReplacedByThePreliminaryOne) {
  const std::vector<SampleBundle> truth{sample_snapshot(0)};
  auto file = written(truth, true);
  // The manifest is the last chunk before the index: find it through the trailer.
  bundle::Trailer t;
  std::memcpy(&t, file.data() + file.size() - sizeof t, sizeof t);
  file[t.index_offset - 1] ^= 0x10;
  auto r = BundleReader::from_bytes(file);
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(manifest_text(r->snapshot(0)), manifest_text(truth[0].info));
  EXPECT_EQ(expect_only_true_bytes(*r, truth), 1000u);
  EXPECT_EQ(r->damage().size(), 2u);
}

TEST(BundleDamage, ImagesThatAreNotWholeAreLeftOutWithTheirPlacements) {
  const std::vector<SampleBundle> truth{sample_snapshot(0)};
  const auto file = written(truth, true);
  bool seen = false;
  for (size_t n = 0; n < file.size(); ++n) {
    auto r = BundleReader::from_bytes(ByteSpan(file).first(n));
    if (!r.ok()) continue;
    const SnapshotInfo& info = r->snapshot(0);
    for (const PlacementInfo& p : info.placements)
      EXPECT_TRUE(std::any_of(info.images.begin(), info.images.end(), [&](const auto& i) { return i.id == p.image; }));
    for (const ImageInfo& image : info.images) EXPECT_TRUE(r->read_image(0, image.id).ok());
    if (info.images.size() == 1) seen = true;
    EXPECT_EQ(static_cast<size_t>(
                  std::count_if(r->damage().begin(), r->damage().end(), [](const auto& d) { return d.image != 0; })),
              2 - info.images.size());
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace hindcast::transport
