// Bounded little-endian reads and appends. Nothing here can read past the end it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace hindcast {

using ByteSpan = std::span<const uint8_t>;

/// A cursor over borrowed bytes. A read that does not fit sets failed(), consumes nothing and yields zero; it stays
/// failed, so a caller may read a whole record and test once.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  size_t offset() const { return pos_; }
  size_t left() const { return bytes_.size() - pos_; }
  bool failed() const { return failed_; }

  template <class T>
  T read() {
    static_assert(std::is_trivially_copyable_v<T>);
    T v{};
    if (failed_ || left() < sizeof(T)) {
      failed_ = true;
      return v;
    }
    std::memcpy(&v, bytes_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return v;
  }
  uint8_t u8() { return read<uint8_t>(); }
  uint16_t u16() { return read<uint16_t>(); }
  uint32_t u32() { return read<uint32_t>(); }
  uint64_t u64() { return read<uint64_t>(); }

  /// n bytes, borrowed; empty and failed() when fewer are left.
  ByteSpan take(size_t n) {
    if (failed_ || left() < n) {
      failed_ = true;
      return {};
    }
    ByteSpan s = bytes_.subspan(pos_, n);
    pos_ += n;
    return s;
  }
  void skip(size_t n) { (void)take(n); }

  /// Characters up to a NUL within the next max bytes; the field's bytes up to and including the NUL are consumed.
  /// Fails when there is no NUL within max.
  std::string_view c_string(size_t max) {
    if (failed_) return {};
    const size_t n = max < left() ? max : left();
    const void* nul = n ? std::memchr(bytes_.data() + pos_, 0, n) : nullptr;
    if (!nul) {
      failed_ = true;
      return {};
    }
    const auto* begin = bytes_.data() + pos_;
    const size_t len = static_cast<size_t>(static_cast<const uint8_t*>(nul) - begin);
    pos_ += len + 1;
    return {reinterpret_cast<const char*>(begin), len};
  }

 private:
  ByteSpan bytes_;
  size_t pos_ = 0;
  bool failed_ = false;
};

/// Appends little-endian values to a byte vector it does not own.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<uint8_t>& out) : out_(out) {}
  template <class T>
  void put(T v) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    std::memcpy(out_.data() + at, &v, sizeof(T));
  }
  void u8(uint8_t v) { out_.push_back(v); }
  void u16(uint16_t v) { put(v); }
  void u32(uint32_t v) { put(v); }
  void u64(uint64_t v) { put(v); }
  void bytes(ByteSpan b) { out_.insert(out_.end(), b.begin(), b.end()); }
  void text(std::string_view s) { out_.insert(out_.end(), s.begin(), s.end()); }

 private:
  std::vector<uint8_t>& out_;
};

}  // namespace hindcast
