// Bundles made to hurt: each breaks one rule of the format, with all checksums right.
#include <gtest/gtest.h>
#include <zstd.h>

#include <string>

#include "tests/unit/transport/raw_bundle.h"
#include "transport/bundle_reader.h"

namespace hindcast::transport {
namespace {

using bundle::ChunkType;

std::string manifest_with(const std::string& keys) { return R"({"manifest_version": 1, )" + keys + "}"; }
const std::string kOneStream = manifest_with(R"("streams": [{"id": 1, "kind": "pt", "bytes": 4}])");

Errc code_of(const RawBundle& b) {
  auto r = BundleReader::from_bytes(b.bytes());
  EXPECT_FALSE(r.ok());
  if (r.ok()) return Errc::usage;
  EXPECT_FALSE(r.error().what.empty());
  return r.error().code;
}
Errc code_of_manifest(const std::string& text) { return code_of(RawBundle().manifest(0, text).end()); }

TEST(Malicious_Bundle, TheBuilderMakesGoodBundlesToo) {
  auto file = RawBundle().stream(0, 1, 0, "ab").stream(0, 1, 2, "cd").manifest(0, kOneStream).end();
  auto r = BundleReader::from_bytes(file.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_TRUE(r->damage().empty());
  EXPECT_EQ(r->read_stream(0, 1)->size(), 4u);
}

TEST(Malicious_Bundle, ChunksThatOverlap) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "ab").stream(0, 1, 1, "cd").manifest(0, kOneStream).end()),
            Errc::corrupt);
}

TEST(Malicious_Bundle, ChunksWithAGap) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "ab").stream(0, 1, 3, "c").manifest(0, kOneStream).end()),
            Errc::corrupt);
}

TEST(Malicious_Bundle, TheSameRulesHoldWithoutIndex) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "ab").stream(0, 1, 3, "c").manifest(0, kOneStream)), Errc::corrupt);
}

TEST(Malicious_Bundle, DataAfterTheManifest) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream).stream(0, 1, 4, "e").end()),
            Errc::corrupt);
}

TEST(Malicious_Bundle, SnapshotNumbersThatJumpOrGoBack) {
  EXPECT_EQ(code_of(RawBundle().manifest(1, manifest_with(R"("host": "x")")).end()), Errc::corrupt);
  EXPECT_EQ(code_of(RawBundle().manifest(0xffffffff, manifest_with(R"("host": "x")")).end()), Errc::corrupt);
  const std::string empty = manifest_with(R"("host": "x")");
  EXPECT_EQ(code_of(RawBundle().manifest(0, empty).manifest(1, empty).stream(0, 1, 0, "a").end()), Errc::corrupt);
}

TEST(Malicious_Bundle, IdsThatAreImpossibleForTheirChunk) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 0, 0, "abcd").manifest(0, kOneStream).end()), Errc::corrupt);
  EXPECT_EQ(code_of(RawBundle().chunk(ChunkType::manifest, 0, 7, 0, as_bytes(kOneStream)).end()), Errc::corrupt);
}

TEST(Malicious_Bundle, ManifestThatLiesAboutSizes) {
  for (const char* bytes : {"3", "5", "18446744073709551615"})
    EXPECT_EQ(code_of(RawBundle()
                          .stream(0, 1, 0, "abcd")
                          .manifest(0, manifest_with(R"("streams": [{"id": 1, "kind": "pt", "bytes": )" +
                                                     std::string(bytes) + "}]"))
                          .end()),
              Errc::corrupt);
}

TEST(Malicious_Bundle, BytesThatNoManifestLists) {
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "abcd").stream(0, 2, 0, "x").manifest(0, kOneStream).end()),
            Errc::corrupt);
  EXPECT_EQ(code_of(RawBundle().stream(0, 1, 0, "abcd").image(0, 2, 0, "x").manifest(0, kOneStream).end()),
            Errc::corrupt);
}

TEST(Malicious_Bundle, HugeLengthsInHeaders) {
  bundle::ChunkHeader h{};
  h.magic = bundle::kChunkMagic;
  h.type = static_cast<uint8_t>(ChunkType::stream);
  h.id = 1;
  h.raw_bytes = h.stored_bytes = 4;
  for (int i = 0; i < 5; ++i) {
    bundle::ChunkHeader bad = h;
    if (i == 0) bad.raw_bytes = 0xffffffff;
    if (i == 1) bad.stored_bytes = 0xffffffff;
    if (i == 2) bad.raw_bytes = 0;
    if (i == 3) bad.offset = UINT64_MAX;
    if (i == 4) bad.stored_bytes = bundle::kMaxChunkStoredBytes;  // allowed, but the file is not that long
    EXPECT_EQ(code_of(RawBundle().chunk_as_is(bad, as_bytes("abcd")).manifest(0, kOneStream).end()), Errc::corrupt);
  }
}

/// A stream chunk with this stored form, claiming raw_bytes and checksum of `claimed`.
RawBundle with_stored(const std::vector<uint8_t>& stored, size_t claimed) {
  const std::vector<uint8_t> zeros(claimed);
  bundle::ChunkHeader h{};
  h.magic = bundle::kChunkMagic;
  h.type = static_cast<uint8_t>(ChunkType::stream);
  h.flags = bundle::kZstd;
  h.id = 1;
  h.raw_bytes = static_cast<uint32_t>(claimed);
  h.stored_bytes = static_cast<uint32_t>(stored.size());
  h.raw_checksum = checksum_of(zeros);
  RawBundle b;
  b.chunk_as_is(h, stored);
  b.manifest(0, manifest_with(R"("streams": [{"id": 1, "kind": "pt", "bytes": )" + std::to_string(claimed) + "}]"));
  b.end();
  return b;
}

std::vector<uint8_t> zstd_of_zeros(size_t n, bool state_size = true) {
  const std::vector<uint8_t> zeros(n);
  std::vector<uint8_t> out(ZSTD_compressBound(n));
  ZSTD_CCtx* c = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, state_size ? 1 : 0);
  out.resize(ZSTD_compress2(c, out.data(), out.size(), zeros.data(), n));
  ZSTD_freeCCtx(c);
  return out;
}

void expect_unreadable(const RawBundle& b) {
  auto r = BundleReader::from_bytes(b.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  auto bytes = r->read_stream(0, 1);
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, Errc::corrupt);
  EXPECT_EQ(r->scrub().size(), 1u);
}

TEST(Malicious_Bundle, DecompressionBombs) {
  const auto bomb = zstd_of_zeros(size_t{64} << 20);
  ASSERT_LT(bomb.size(), 10000u);
  expect_unreadable(with_stored(bomb, 100));
  expect_unreadable(with_stored(bomb, bundle::kMaxChunkRawBytes));
  expect_unreadable(with_stored(zstd_of_zeros(size_t{64} << 20, /*state_size=*/false), 1000));
  // A frame whose header lies: its stated size is patched to what the chunk claims.
  auto lying = zstd_of_zeros(70000);
  ASSERT_EQ(lying[4] >> 6, 2);  // four bytes of content size, at 5 (single segment)
  const uint32_t claim = 1000;
  std::memcpy(lying.data() + 5, &claim, 4);
  expect_unreadable(with_stored(lying, claim));
}

TEST(Malicious_Bundle, TwoFramesInOneChunk) {
  auto two = zstd_of_zeros(1000);
  const auto more = zstd_of_zeros(10);
  two.insert(two.end(), more.begin(), more.end());
  expect_unreadable(with_stored(two, 1000));
  expect_unreadable(with_stored(two, 1010));
}

TEST(Malicious_Bundle, UnknownEncodingIsUnsupportedNotGarbage) {
  bundle::ChunkHeader h{};
  h.magic = bundle::kChunkMagic;
  h.type = static_cast<uint8_t>(ChunkType::stream);
  h.flags = 0x80;
  h.id = 1;
  h.raw_bytes = h.stored_bytes = 4;
  h.raw_checksum = checksum_of(as_bytes("abcd"));
  const auto file = RawBundle().chunk_as_is(h, as_bytes("abcd")).manifest(0, kOneStream).end();
  auto r = BundleReader::from_bytes(file.bytes());
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->read_stream(0, 1).error().code, Errc::unsupported);
}

/// The file opens, by walking, since its index cannot be believed.
void expect_walked(const RawBundle& b) {
  auto r = BundleReader::from_bytes(b.bytes());
  ASSERT_TRUE(r.ok()) << r.error().text();
  EXPECT_EQ(r->damage().size(), 1u);
  EXPECT_EQ(*r->read_stream(0, 1), (std::vector<uint8_t>{'a', 'b', 'c', 'd'}));
}

TEST(Malicious_Bundle, IndexThatListsAChunkTwiceIsNotBelieved) {
  auto b = RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream);
  b.index().insert(b.index().begin(), b.index().front());
  expect_walked(b.end());
}

TEST(Malicious_Bundle, IndexWithOffsetsOutsideTheFileIsNotBelieved) {
  for (const uint64_t offset : {uint64_t{0}, uint64_t{25}, UINT64_MAX, UINT64_MAX - 60}) {
    auto b = RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream);
    b.index()[0].file_offset = offset;
    expect_walked(b.end());
  }
}

TEST(Malicious_Bundle, IndexThatLeavesChunksOutIsNotBelieved) {
  auto b = RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream);
  b.index().pop_back();
  expect_walked(b.end());
}

TEST(Malicious_Bundle, TrailersThatLieAreNotBelieved) {
  auto b = RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream);
  const uint64_t end = b.bytes().size();
  for (const auto& [offset, bytes, file] : {std::tuple<uint64_t, uint64_t, uint64_t>{end, 56 * 2, 0},
                                            {UINT64_MAX, 112, 0},
                                            {end, UINT64_MAX / 56 * 56, 0},
                                            {end, 57, 0},
                                            {0, 0, 0},
                                            {end, 0, 12345},
                                            {24, 112, 0}}) {
    auto copy = b;
    bundle::Trailer t{};
    t.index_offset = offset;
    t.index_bytes = bytes;
    t.file_bytes = file;
    expect_walked(copy.end_with(t));
  }
}

TEST(Malicious_Bundle, IndexThatDisagreesWithTheFileIsFoundWhenReading) {
  auto b = RawBundle().stream(0, 1, 0, "abcd").manifest(0, kOneStream);
  b.index()[0].header.raw_checksum ^= 1;
  b.index()[0].header.checksum = header_checksum(b.index()[0].header);
  expect_unreadable(b.end());
}

TEST(Malicious_Bundle, ManifestBeyondTheLimit) {
  RawBundle b;
  const std::string part(bundle::kMaxChunkRawBytes, ' ');
  for (uint64_t at = 0; at <= bundle::kMaxManifestBytes; at += part.size())
    b.chunk(ChunkType::manifest, 0, 0, at, as_bytes(part));
  EXPECT_EQ(code_of(b.end()), Errc::too_large);
}

TEST(Malicious_Manifest, NestedDeep) {
  EXPECT_EQ(code_of_manifest(manifest_with("\"x\": " + std::string(100000, '['))), Errc::bad_input);
}

TEST(Malicious_Manifest, NotAnObject) {
  for (const char* text : {"[]", "7", "{", "{}{}", "\xff\xfe", "{\"manifest_version\": 1,}"})
    EXPECT_EQ(code_of_manifest(text), Errc::bad_input) << text;
}

TEST(Malicious_Manifest, VersionsThatNobodyKnows) {
  EXPECT_EQ(code_of_manifest(R"({"manifest_version": 2})"), Errc::version);
  EXPECT_EQ(code_of_manifest(R"({"manifest_version": 0})"), Errc::version);
  EXPECT_EQ(code_of_manifest(R"({"manifest_version": 18446744073709551615})"), Errc::version);
  EXPECT_EQ(code_of_manifest(R"({"manifest_version": "1"})"), Errc::bad_input);
  EXPECT_EQ(code_of_manifest(R"({"host": "x"})"), Errc::bad_input);
}

TEST(Malicious_Manifest, ValuesOfTheWrongTypeOrRange) {
  for (const char* keys : {
           R"("host": 7)",
           R"("host": {"hex": "0"})",
           R"("host": {"hex": "zz"})",
           R"("host": {"hex": "2F"})",
           R"("host": null)",
           R"("host": "a\u0000b")",
           R"("created_unix_ns": -1)",
           R"("created_unix_ns": 1.5)",
           R"("created_unix_ns": 18446744073709551616)",
           R"("user_only": 1)",
           R"("pt": [])",
           R"("pt": {"cyc": 1})",
           R"("pt": {"mtc_period": 16})",
           R"("pt": {"mtc_period": 256})",
           R"("cpu": {"family": 65536})",
           R"("clock": {"shift": 33})",
           R"("clock": {"shift": 64})",
           R"("clock": {"known": true, "mult": 0})",
           R"("root_pids": [2147483648])",
           R"("root_pids": [-2147483649])",
           R"("root_pids": {})",
           R"("streams": {})",
           R"("streams": [1])",
           R"("streams": [{"id": 1}])",
           R"("streams": [{"kind": "pt"}])",
           R"("streams": [{"id": 0, "kind": "pt"}])",
           R"("streams": [{"id": 4294967296, "kind": "pt"}])",
           R"("streams": [{"id": 1, "kind": "pt"}, {"id": 1, "kind": "sideband"}])",
           R"("streams": [{"id": 1, "kind": "pt", "cuts": [1]}])",
           R"("streams": [{"id": 1, "kind": "pt", "cuts": ["x"]}])",
           R"("images": [{"id": 1, "kind": 2}])",
           R"("images": [{"id": 1, "kind": "elf"}, {"id": 1, "kind": "elf"}])",
           R"("placements": [{"image": 1, "length": 1}])",
           R"("placements": [{"length": 1}])",
           R"("notes": [1])",
       })
    EXPECT_EQ(code_of_manifest(manifest_with(keys)), Errc::bad_input) << keys;
}

TEST(Malicious_Manifest, PlacementsThatReachOutsideTheirImageOrWrap) {
  for (const char* place : {
           R"("address": "0x1000", "length": 5)",
           R"("address": "0x1000", "length": 4, "image_offset": 1)",
           R"("address": "0x1000", "length": 1, "image_offset": 18446744073709551615)",
           R"("address": "0x1000", "length": 18446744073709551615, "image_offset": 2)",
           R"("address": "0xfffffffffffffffe", "length": 3)",
           R"("address": "0x1000", "length": 0)",
           R"("address": "1000", "length": 1)",
           R"("address": "0x", "length": 1)",
           R"("address": "0x10000000000000000", "length": 1)",
           R"("address": "0x1000", "length": 1, "from": 2, "to": 1)",
       }) {
    const std::string keys = R"("images": [{"id": 1, "kind": "memory", "bytes": 4}], "placements": [{"image": 1, )" +
                             std::string(place) + "}]";
    EXPECT_EQ(code_of(RawBundle().image(0, 1, 0, "abcd").manifest(0, manifest_with(keys)).end()), Errc::bad_input)
        << place;
  }
}

TEST(Malicious_Manifest, TextsBeyondTheLimit) {
  EXPECT_EQ(code_of_manifest(manifest_with("\"host\": \"" + std::string(bundle::kMaxTextBytes + 1, 'x') + "\"")),
            Errc::bad_input);
  std::string many = "\"notes\": [\"\"";
  for (size_t i = 0; i < bundle::kMaxNotes; ++i) many += ",\"\"";
  EXPECT_EQ(code_of_manifest(manifest_with(many + "]")), Errc::bad_input);
}

TEST(Malicious_Manifest, PathsAreOnlyText) {
  const std::string keys = R"("images": [{"id": 1, "kind": "elf", "path": "../../../etc/passwd", "bytes": 4}])";
  const auto file = RawBundle().image(0, 1, 0, "abcd").manifest(0, manifest_with(keys)).end();
  auto r = BundleReader::from_bytes(file.bytes());
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->snapshot(0).images[0].path, "../../../etc/passwd");
  EXPECT_EQ(*r->read_image(0, 1), (std::vector<uint8_t>{'a', 'b', 'c', 'd'}));
}

TEST(BundleVersions, ANewerMajorIsRefusedWithBothNumbers) {
  auto r = BundleReader::from_bytes(RawBundle(2, 7).manifest(0, kOneStream).end().bytes());
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::version);
  EXPECT_NE(r.error().found.find("2.7"), std::string::npos);
}

TEST(BundleVersions, ANewerMinorOnlyAdds) {
  const std::string text = manifest_with(
      R"("new_key": {"a": [1]}, "streams": [{"id": 1, "kind": "pt", "bytes": 4, "new": 1},
                                             {"id": 2, "kind": "telepathy", "bytes": 1}],
          "images": [{"id": 1, "kind": "pe", "bytes": 1}, {"id": 2, "kind": "memory", "bytes": 1}],
          "placements": [{"image": 1, "length": 1}, {"image": 2, "length": 1}])");
  auto b = RawBundle(1, 9);
  b.chunk(static_cast<ChunkType>(77), 0, 3, 0, as_bytes("future"));
  b.stream(0, 1, 0, "abcd").stream(0, 2, 0, "x").image(0, 1, 0, "p").image(0, 2, 0, "m").manifest(0, text);
  b.chunk(static_cast<ChunkType>(78), 9, 0, 5, as_bytes("future"));
  for (const bool cut : {true, false}) {
    auto file = b;
    if (!cut) file.end();
    auto r = BundleReader::from_bytes(file.bytes());
    ASSERT_TRUE(r.ok()) << r.error().text();
    EXPECT_EQ(r->damage().empty(), !cut);
    ASSERT_EQ(r->snapshot(0).streams.size(), 1u);
    EXPECT_TRUE(r->read_stream(0, 1).ok());
    EXPECT_FALSE(r->read_stream(0, 2).ok());
    ASSERT_EQ(r->snapshot(0).images.size(), 1u);
    EXPECT_TRUE(r->read_image(0, 2).ok());
    EXPECT_FALSE(r->read_image(0, 1).ok());
    ASSERT_EQ(r->snapshot(0).placements.size(), 1u);
    EXPECT_EQ(r->snapshot(0).placements[0].image, 2u);
    ASSERT_EQ(r->snapshot(0).notes.size(), 2u);
    EXPECT_NE(r->snapshot(0).notes[0].find("stream 2"), std::string::npos);
    EXPECT_NE(r->snapshot(0).notes[1].find("image 1"), std::string::npos);
  }
}

TEST(BundleVersions, MissingKeysHaveTheirDefaults) {
  const auto file = RawBundle().manifest(0, R"({"manifest_version": 1})").end();
  auto r = BundleReader::from_bytes(file.bytes());
  ASSERT_TRUE(r.ok());
  const SnapshotInfo defaults;
  EXPECT_EQ(r->snapshot(0).pt, defaults.pt);
  EXPECT_EQ(r->snapshot(0).record_clock, "perf");
  EXPECT_TRUE(r->snapshot(0).user_only);
}

TEST(BundleVersions, WhatIsNoBundleIsSaidToBeNone) {
  for (const char* text : {"",
                           "\x7f"
                           "ELF",
                           "PERFILE2 and more bytes than a header has"}) {
    auto r = BundleReader::from_bytes(as_bytes(text));
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error().code, Errc::bad_input);
    EXPECT_NE(r.error().fix.find("import"), std::string::npos);
  }
}

}  // namespace
}  // namespace hindcast::transport
