// The test support itself: SHA-256 against published vectors, the corpus against its own digests.
#include <gtest/gtest.h>

#include "hindcast/bytes.h"
#include "tests/support/corpus.h"
#include "tests/support/sha256.h"

namespace hindcast::test {
namespace {

ByteSpan text(std::string_view s) { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }

// FIPS 180-4 example values.
TEST(Sha256, MatchesPublishedVectors) {
  EXPECT_EQ(sha256_hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(text("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, AnySplitGivesTheSameDigest) {
  std::vector<uint8_t> data(300);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7);
  for (size_t cut = 0; cut <= data.size(); ++cut) {
    Sha256 h;
    h.update(ByteSpan(data).first(cut));
    h.update(ByteSpan(data).subspan(cut));
    ASSERT_EQ(h.hex(), sha256_hex(data)) << cut;
  }
}

TEST(Corpus, TracesHaveTheirStatedDigests) {
  HC_REQUIRE_CORPUS();
  ASSERT_FALSE(corpus_names().empty());
  for (const std::string& name : corpus_names()) {
    const CorpusTrace t = corpus_trace(name);
    const auto bytes = file_bytes(t.trace);
    EXPECT_EQ(bytes.size(), t.trace_bytes) << name;
    EXPECT_EQ(sha256_hex(bytes), t.trace_sha256) << name;
    EXPECT_GT(t.packets.at("psb"), 0u) << name;
  }
}

TEST(Corpus, ReferenceRowsAddUp) {
  HC_REQUIRE_CORPUS();
  for (const std::string& name : corpus_names()) {
    const CorpusTrace t = corpus_trace(name);
    if (!t.has_flow) continue;
    uint64_t count = 0;
    for (const CheckpointRow& row : checkpoint_rows(t)) count += row.count;
    EXPECT_EQ(count, t.insns) << name;
    uint64_t events = 0;
    for (const auto& [kind, n] : t.control_events) events += n;
    EXPECT_EQ(control_event_rows(t).size(), events) << name;
    if (const auto insns = insn_rows(t)) {
      Sha256 h;
      for (uint64_t ip : *insns) h.update_u64(ip);
      EXPECT_EQ(h.hex(), t.insn_sha256) << name;
    }
  }
}

}  // namespace
}  // namespace hindcast::test
