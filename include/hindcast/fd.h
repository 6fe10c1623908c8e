// Owned file descriptors and owned maps: closed and unmapped exactly once, self-move safe.
#pragma once

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    Fd old(std::exchange(fd_, std::exchange(o.fd_, -1)));
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// The Error for a failed system call: "action path: strerror". Reads errno; call it at once.
inline Error errno_error(const std::string& action, const std::string& object, std::string fix = {}) {
  const int e = errno;
  const Errc code = e == ENOENT || e == ESRCH                       ? Errc::not_found
                    : e == EACCES || e == EPERM                     ? Errc::permission
                    : e == ENODEV || e == EOPNOTSUPP || e == ENOSYS ? Errc::unavailable
                                                                    : Errc::io;
  return Error{code, action + " " + object + ": " + std::strerror(e), {}, std::move(fix)};
}

inline Result<Fd> open_read_only(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open", path);
  return fd;
}

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& o) noexcept : p_(std::exchange(o.p_, nullptr)), n_(std::exchange(o.n_, 0)) {}
  Mapping& operator=(Mapping&& o) noexcept {
    Mapping old(std::move(*this));
    p_ = std::exchange(o.p_, nullptr);
    n_ = std::exchange(o.n_, 0);
    return *this;
  }
  ~Mapping() {
    if (p_) ::munmap(p_, n_);
  }

  /// Maps bytes (> 0) of fd from offset; a live Mapping is always valid memory of exactly that length.
  static Result<Mapping> map(const Fd& fd, size_t bytes, int prot, int flags, off_t offset = 0) {
    void* p = ::mmap(nullptr, bytes, prot, flags, fd.get(), offset);
    if (p == MAP_FAILED) return errno_error("cannot map", std::to_string(bytes) + " bytes");
    Mapping m;
    m.p_ = p;
    m.n_ = bytes;
    return m;
  }
  void* data() const { return p_; }
  size_t size() const { return n_; }
  ByteSpan bytes() const { return {static_cast<const uint8_t*>(p_), n_}; }

 private:
  void* p_ = nullptr;
  size_t n_ = 0;
};

/// A whole regular file, mapped read-only. An empty file gives an empty Mapping.
inline Result<Mapping> map_file(const std::string& path) {
  HC_TRY(Fd fd, open_read_only(path));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat", path);
  if (!S_ISREG(st.st_mode)) return Error{Errc::bad_input, "cannot map " + path + ": not a regular file", {}, {}};
  if (st.st_size == 0) return Mapping{};
  return Mapping::map(fd, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE);
}

}  // namespace hindcast
