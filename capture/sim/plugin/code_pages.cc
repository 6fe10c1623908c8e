// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/code_pages.h"

#include <iterator>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/sim/channel.h"
#include "capture/sim/plugin/thread_stream.h"

namespace hindcast::sim {
namespace {

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

void CodePages::on_block(uint32_t id, uint64_t from, uint64_t to, Courier* courier,
                         const std::function<uint64_t()>& name_time) {
  const Waiting block{id, from, to, time_and_cpu().tsc};
  std::lock_guard lock(mutex_);
  if (courier)
    tell(block, *courier, name_time);
  else
    waiting_.push_back(block);
}

void CodePages::on_connected(Courier& courier) {
  std::lock_guard lock(mutex_);
  for (const Waiting& block : waiting_) tell(block, courier, [&] { return block.tsc; });
  waiting_.clear();
}

void CodePages::tell(const Waiting& block, Courier& courier, const std::function<uint64_t()>& name_time) {
  const uint64_t first = block.from / kPageBytes, last = (block.to - 1) / kPageBytes;
  bool in_memory = false;
  for (uint64_t page = first; page <= last; ++page) {
    auto known = pages_.find(page);
    if (known == pages_.end()) {
      bool answer = true;
      courier.run([&] {
        const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        answer = pagemap >= 0 && only_in_memory(pagemap, page);
        if (pagemap >= 0) close(pagemap);
      });
      known = pages_.emplace(page, answer).first;
    }
    in_memory |= known->second;
  }
  if (!in_memory) return;
  Message message;
  message.kind = MessageKind::code;
  message.pid = getpid();
  message.tid = gettid();
  message.value = block.id;
  message.tsc = name_time();
  courier.send(message);
}

void CodePages::on_syscall(int64_t number, const uint64_t* args, Courier& courier) {
  bool goes = true;
  switch (number) {
    case SYS_mmap:
      if ((args[3] & MAP_FIXED) == 0) return;
      break;
    case SYS_mprotect:
    case SYS_pkey_mprotect:
      goes = false;
      break;
    case SYS_madvise:
      if (args[2] != MADV_DONTNEED) return;
      break;
    case SYS_munmap:
    case SYS_mremap:
      break;
    default:
      return;
  }
  const uint64_t address = args[0], length = args[1];
  const uint64_t to = address + length;
  if (length == 0 || to < address) return;
  std::lock_guard lock(mutex_);
  const auto end = pages_.lower_bound((to + kPageBytes - 1) / kPageBytes);
  bool any = false;
  for (auto it = pages_.lower_bound(address / kPageBytes); it != end;) {
    any |= it->second;
    // What a file held may be written from now on.
    it = goes || !it->second ? pages_.erase(it) : std::next(it);
  }
  if (!any) return;
  Message message;
  message.kind = MessageKind::mapping;
  message.pid = getpid();
  message.tid = gettid();
  message.value = goes ? 0 : 1;
  message.prot = goes ? 0 : static_cast<uint32_t>(args[2]);
  message.address = address;
  message.length = length;
  message.tsc = time_and_cpu().tsc;
  courier.send(message);
}

}  // namespace hindcast::sim
