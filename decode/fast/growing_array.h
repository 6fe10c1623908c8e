// A vector of plain values that has hardly more memory than it needs, however large it grows.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <type_traits>

namespace hindcast::decode {

/// std::vector doubles, and has two copies while it does. This one doubles its addresses, of which no more become memory than
/// are written to, and the kernel moves the pages when it must: growing copies nothing. Errors: std::bad_alloc.
template <class T>
class GrowingArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  GrowingArray() = default;
  ~GrowingArray() {
    if (data_) ::munmap(data_, bytes_);
  }
  GrowingArray(const GrowingArray&) = delete;
  GrowingArray& operator=(const GrowingArray&) = delete;

  size_t size() const { return size_; }
  /// Until something is added.
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  /// What it takes, in bytes.
  size_t memory() const { return (size_ * sizeof(T) + kPage - 1) / kPage * kPage; }

  /// So many whose bytes are all zero; when it is empty.
  void make_zeros(size_t n) {
    while (n * sizeof(T) > bytes_) grow();
    size_ = n;
  }

  void push_back(const T& value) {
    if ((size_ + 1) * sizeof(T) > bytes_) [[unlikely]]
      grow();
    data_[size_++] = value;
  }

 private:
  static constexpr size_t kPage = 4096;  // the smallest that x86-64 has
  static constexpr size_t kFirst = size_t{256} << 10;

  void grow() {
    const size_t bytes = std::max(kFirst, bytes_ * 2);
    void* const at = data_ ? ::mremap(data_, bytes_, bytes, MREMAP_MAYMOVE)
                           : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(at);
    bytes_ = bytes;
  }

  T* data_ = nullptr;
  size_t size_ = 0, bytes_ = 0;
};

}  // namespace hindcast::decode
