// SHA-256 (FIPS 180-4) for tests: reference results of the corpus are given as digests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hindcast::test {

/// Fed in pieces of any size; hex() may be called once, at the end.
class Sha256 {
 public:
  void update(std::span<const uint8_t> bytes);
  /// The value's eight bytes, little-endian: how the corpus hashes addresses.
  void update_u64(uint64_t value);
  /// 64 lower-case hex digits.
  std::string hex();

 private:
  void compress(const uint8_t* block);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> block_{};
  size_t filled_ = 0;
  uint64_t total_bytes_ = 0;
};

std::string sha256_hex(std::span<const uint8_t> bytes);

}  // namespace hindcast::test
