// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/code_pages.h"

#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/sim/channel.h"
#include "capture/sim/plugin/guest_memory.h"
#include "capture/sim/plugin/thread_stream.h"

namespace hindcast::sim {
namespace {

// A program that rewrites its code without end must not fill the daemon's memory with copies; the blocks that ran keep
// their bytes in the defs in any case.
constexpr uint64_t kMaxSentBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxRunPages = 4096;  // one message

// /proc/PID/pagemap, one u64 a page (linux/Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kFileOrShared = uint64_t{1} << 61;

// True for private memory that was written: no file holds these bytes, even when the mapping has one.
bool only_in_memory(int pagemap, uint64_t page) {
  uint64_t entry = 0;
  if (pread(pagemap, &entry, sizeof entry, static_cast<off_t>(page * 8)) != sizeof entry) return false;
  return (entry & (kPresent | kSwapped)) != 0 && (entry & kFileOrShared) == 0;
}

}  // namespace

void CodePages::on_code(uint64_t from, uint64_t to) {
  std::lock_guard lock(mutex_);
  for (uint64_t page = from / kPageBytes; page <= (to - 1) / kPageBytes; ++page) {
    if (page == last_page_) continue;
    pages_.insert(page);
    last_page_ = page;
  }
}

void CodePages::on_syscall(int64_t number, uint64_t address, uint64_t length, uint64_t flags, Courier& courier) {
  switch (number) {
    case SYS_mmap:
      if ((flags & MAP_FIXED) == 0) return;
      break;
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_pkey_mprotect:
    case SYS_mremap:
      break;
    case SYS_madvise:
      if (flags != MADV_DONTNEED) return;
      break;
    default:
      return;
  }
  const uint64_t to = address + length;
  if (length == 0 || to < address) return;
  std::lock_guard lock(mutex_);
  send_range(address / kPageBytes, (to + kPageBytes - 1) / kPageBytes, courier);
}

void CodePages::send_all(Courier& courier) {
  std::lock_guard lock(mutex_);
  send_range(0, ~uint64_t{0}, courier);
}

void CodePages::send_range(uint64_t from, uint64_t to, Courier& courier) {
  auto at = pages_.lower_bound(from);
  if (at == pages_.end() || *at >= to) return;
  std::vector<uint64_t> wanted(at, pages_.lower_bound(to));
  pages_.erase(at, pages_.lower_bound(to));
  last_page_ = 0;
  courier.run([&] {
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    std::erase_if(wanted, [&](uint64_t page) { return pagemap < 0 || !only_in_memory(pagemap, page); });
    if (pagemap >= 0) close(pagemap);
  });

  for (size_t i = 0; i < wanted.size();) {
    size_t n = 1;
    while (i + n < wanted.size() && wanted[i + n] == wanted[i] + n && n < kMaxRunPages) ++n;
    const uint64_t bytes = n * kPageBytes;
    if (sent_bytes_ + bytes > kMaxSentBytes) return;
    Message message;
    message.kind = MessageKind::memory;
    message.pid = getpid();
    message.tid = gettid();
    message.prot = PROT_READ | PROT_EXEC;
    message.address = wanted[i] * kPageBytes;
    message.length = bytes;
    message.tsc = time_and_cpu().tsc;
    void* copy = courier.send_shared(message, bytes, [&](void* p) { read_guest_bytes(message.address, p, bytes); });
    if (!copy) return;
    munmap(copy, bytes);
    sent_bytes_ += bytes;
    i += n;
  }
}

}  // namespace hindcast::sim
