// One perf data ring: the kernel writes records into it, we take them out whole.
#include "capture/sideband_ring.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace hindcast::capture {

namespace {
constexpr size_t kSmallestRing = size_t{64} << 10;
}

Result<SidebandRing> SidebandRing::open(PerfCalls& calls, const perf_event_attr& attr, pid_t pid, int cpu,
                                        size_t ring_bytes, const std::string& object, unsigned long flags,
                                        const std::string& proc) {
  SidebandRing ring;
  ring.calls_ = &calls;
  const int fd = calls.open(attr, pid, cpu, flags);
  if (fd < 0)
    return perf_open_error(-fd, object, {pid < 0 || flags & PERF_FLAG_PID_CGROUP, !attr.exclude_kernel}, proc);
  ring.fd_ = Fd(fd);
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  size_t size = std::bit_ceil(std::max(ring_bytes, page));
  for (;;) {
    const int e = calls.map(ring.fd_, page + size, PROT_READ | PROT_WRITE, 0, ring.map_);
    if (e == 0) break;
    if (e == -EPERM && size / 2 >= kSmallestRing) {
      size /= 2;
      continue;
    }
    errno = -e;
    return errno_error("cannot map the ring of", object,
                       "raise /proc/sys/kernel/perf_event_mlock_kb, or `ulimit -l`, or grant CAP_IPC_LOCK");
  }
  ring.size_ = size;
  return ring;
}

Result<void> SidebandRing::enable() {
  if (const int e = calls_->control(fd_, PERF_EVENT_IOC_ENABLE, 0); e < 0) {
    errno = -e;
    return errno_error("cannot enable", "a perf event");
  }
  return {};
}

Result<void> SidebandRing::disable() {
  if (const int e = calls_->control(fd_, PERF_EVENT_IOC_DISABLE, 0); e < 0) {
    errno = -e;
    return errno_error("cannot disable", "a perf event");
  }
  return {};
}

void SidebandRing::drain(const std::function<void(ByteSpan)>& sink) {
  perf_event_mmap_page* p = page();
  // pairs with the kernel's write barrier before it publishes data_head: the records below head are whole
  const uint64_t head = __atomic_load_n(&p->data_head, __ATOMIC_ACQUIRE);
  uint64_t tail = p->data_tail;
  const uint8_t* data = static_cast<const uint8_t*>(map_.data()) + (map_.size() - size_);
  while (tail != head) {
    const size_t at = tail & (size_ - 1);
    perf_event_header h;  // 8 bytes at a multiple of 8 in a ring of pages: never wraps
    std::memcpy(&h, data + at, sizeof h);
    if (h.size < sizeof h || h.size % 8 != 0 || h.size > head - tail) {
      damaged_++;
      tail = head;
      break;
    }
    const size_t first = std::min<size_t>(h.size, size_ - at);
    if (first == h.size) {
      sink({data + at, h.size});
    } else {
      wrapped_.resize(h.size);
      std::memcpy(wrapped_.data(), data + at, first);
      std::memcpy(wrapped_.data() + first, data, h.size - first);
      sink(wrapped_);
    }
    tail += h.size;
  }
  // pairs with the kernel's read of data_tail: our reads are done before it may write there again
  __atomic_store_n(&p->data_tail, tail, __ATOMIC_RELEASE);
}

}  // namespace hindcast::capture
