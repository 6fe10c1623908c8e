// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/truth_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace hindcast::sim {

bool TruthFile::create(const std::string& directory, const std::string& stem, const std::string& extension,
                       TruthHeader header) {
  int fd = -1;
  for (sequence_ = 0; fd < 0; ++sequence_) {
    path_ = directory + "/" + stem + "." + std::to_string(sequence_) + "." + extension;
    fd = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno != EEXIST) return false;
  }
  --sequence_;
  if (ftruncate(fd, sysconf(_SC_PAGESIZE)) == 0) {
    void* p = mmap(nullptr, sizeof header, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) header_ = static_cast<TruthHeader*>(p);
  }
  ::close(fd);
  if (!header_) return false;
  *header_ = header;
  if (!move_window()) return false;
  at_ += sizeof header;  // the first window repeats the header's page
  return true;
}

bool TruthFile::move_window() {
  if (!header_ || header_->failed) return false;
  if (window_) munmap(window_, kWindow);
  window_ = at_ = window_end_ = nullptr;
  const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  void* p = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(file_bytes_ + kWindow)) == 0) {
    p = mmap(nullptr, kWindow, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(file_bytes_));
  }
  if (fd >= 0) ::close(fd);
  if (p == MAP_FAILED) {
    header_->failed = 1;
    return false;
  }
  file_bytes_ += kWindow;
  window_ = at_ = static_cast<uint8_t*>(p);
  window_end_ = window_ + kWindow;
  return true;
}

void TruthFile::append(const void* bytes, size_t n) {
  const uint8_t* from = static_cast<const uint8_t*>(bytes);
  while (n > 0) {
    if (at_ == window_end_ && !move_window()) return;
    const size_t part = std::min<size_t>(n, static_cast<size_t>(window_end_ - at_));
    std::memcpy(at_, from, part);
    at_ += part;
    from += part;
    n -= part;
  }
}

void TruthFile::close() {
  if (window_) munmap(window_, kWindow);
  if (header_) munmap(header_, sizeof *header_);
  window_ = at_ = window_end_ = nullptr;
  header_ = nullptr;
}

}  // namespace hindcast::sim
