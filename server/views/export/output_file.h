// A file that is written front to back, every failure noticed.
#pragma once

#include <string>

#include "hindcast/bytes.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::server::views {

class OutputFile {
 public:
  /// Readable by its owner only, like a bundle: it tells what a process did. What was there is replaced.
  static Result<OutputFile> create(const std::string& path) {
    OutputFile f;
    f.path_ = path;
    f.fd_ = Fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!f.fd_.valid()) return errno_error("cannot write", path);
    return f;
  }
  uint64_t offset() const { return offset_; }
  Result<void> write(ByteSpan bytes) {
    HC_TRY_VOID(write_at(bytes, offset_));
    offset_ += bytes.size();
    return {};
  }
  /// Over bytes that were written before.
  Result<void> write_at(ByteSpan bytes, uint64_t offset) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error("cannot write", path_);
      bytes = bytes.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return {};
  }
  Result<void> close() {
    if (::close(fd_.release()) != 0) return errno_error("cannot write", path_);
    return {};
  }

 private:
  std::string path_;
  Fd fd_;
  uint64_t offset_ = 0;
};

}  // namespace hindcast::server::views
