// Bytes at an offset, from a file or from memory: what the bundle reader stands on.
//
// A file is read with pread, not mapped: a file that somebody truncates while it is open must give an error,
// not SIGBUS.
#pragma once

#include <cerrno>
#include <cstring>
#include <span>
#include <string>

#include "hindcast/bytes.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::transport {

class BundleBytes {
 public:
  explicit BundleBytes(ByteSpan borrowed) : memory_(borrowed), size_(borrowed.size()) {}
  static Result<BundleBytes> file(const std::string& path) {
    HC_TRY(Fd fd, open_read_only(path));
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat", path);
    if (!S_ISREG(st.st_mode)) return Error{Errc::bad_input, "cannot read " + path + ": not a regular file", {}, {}};
    BundleBytes source{ByteSpan{}};
    source.fd_ = std::move(fd);
    source.size_ = static_cast<uint64_t>(st.st_size);
    return source;
  }

  uint64_t size() const { return size_; }

  /// False when the range is not all there (any more) or cannot be read. May be called from several threads.
  bool read(uint64_t offset, std::span<uint8_t> out) const {
    if (offset > size_ || out.size() > size_ - offset) return false;
    if (!fd_.valid()) {
      if (!out.empty()) std::memcpy(out.data(), memory_.data() + offset, out.size());
      return true;
    }
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      out = out.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return true;
  }
  template <class T>
  bool read_struct(uint64_t offset, T& out) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return read(offset, {reinterpret_cast<uint8_t*>(&out), sizeof(T)});
  }

 private:
  Fd fd_;
  ByteSpan memory_;
  uint64_t size_ = 0;
};

}  // namespace hindcast::transport
