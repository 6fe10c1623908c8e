// The digest that corpus tests rest on, against the published examples.
#include "tests/support/sha256.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hindcast::test {
namespace {

std::string digest(const std::string& text) {
  return sha256_hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// NIST, "Cryptographic Standards and Guidelines, Example Values", SHA-256.
TEST(Sha256, PublishedExamples) {
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(digest(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameDigestAsTheWhole) {
  std::vector<uint8_t> bytes(300);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  for (size_t piece : {1u, 3u, 63u, 64u, 65u, 128u}) {
    Sha256 h;
    for (size_t at = 0; at < bytes.size(); at += piece)
      h.update(std::span<const uint8_t>(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    EXPECT_EQ(h.hex(), sha256_hex(bytes)) << "pieces of " << piece;
  }
}

}  // namespace
}  // namespace hindcast::test
