// A double for the kernel's perf calls: events are memfds, rings are written by the test.
#pragma once

#include <cstring>
#include <functional>
#include <set>
#include <vector>

#include <sys/ioctl.h>
#include <sys/mman.h>

#include "capture/perf_event.h"

namespace hindcast::capture {

class FakePerf : public PerfCalls {
 public:
  int open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) override {
    opened.push_back({attr, pid, cpu, flags});
    if (refuse)
      if (const int e = refuse(attr)) return -e;
    return ::memfd_create("fake-perf", MFD_CLOEXEC);
  }
  /// The first map is the ring with its page, a later one at an offset is the AUX area.
  int map(const Fd& fd, size_t bytes, int prot, off_t offset, Mapping& out) override {
    if (bytes > most_mapped) return -EPERM;
    if (offset > 0 && aux_error) return -aux_error;
    if (offset > 0) aux_prots.push_back(prot);
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0) return -errno;
    const off_t end = offset + static_cast<off_t>(bytes);
    if (st.st_size < end && ::ftruncate(fd.get(), end) != 0) return -errno;
    auto m = Mapping::map(fd, bytes, prot, MAP_SHARED, offset);
    if (!m) return -errno;
    out = std::move(m).value();
    if (offset == 0) {
      auto* page = static_cast<perf_event_mmap_page*>(out.data());
      page->data_offset = 4096;
      page->data_size = bytes - 4096;
      pages_.push_back(page);
    } else {
      // the test writes through a map of its own: ours is read-only
      auto writable = Mapping::map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, offset);
      if (writable) aux.push_back(std::move(writable).value());
    }
    return 0;
  }
  int control(const Fd&, unsigned long request, unsigned long) override {
    controls.push_back(request);
    if (request == PERF_EVENT_IOC_DISABLE && on_disable) on_disable();
    return 0;
  }
  /// The map page of the n-th ring. Valid while the ring lives.
  perf_event_mmap_page* page(size_t n) { return pages_.at(n); }

  struct Opened {
    perf_event_attr attr;
    pid_t pid;
    int cpu;
    unsigned long flags;
  };
  std::vector<Opened> opened;
  std::function<int(const perf_event_attr&)> refuse;  // an errno, or 0
  std::function<void()> on_disable;
  std::vector<unsigned long> controls;
  std::vector<int> aux_prots;
  std::vector<Mapping> aux;
  size_t most_mapped = ~size_t{0};
  int aux_error = 0;

 private:
  std::vector<perf_event_mmap_page*> pages_;
};

/// Writes records as the kernel does.
class FakeRing {
 public:
  explicit FakeRing(perf_event_mmap_page* page) : page_(page) {}
  void write(const std::vector<uint8_t>& record) {
    auto* data = reinterpret_cast<uint8_t*>(page_) + page_->data_offset;
    uint64_t head = page_->data_head;
    for (const uint8_t b : record) data[head++ & (page_->data_size - 1)] = b;
    __atomic_store_n(&page_->data_head, head, __ATOMIC_RELEASE);
  }

 private:
  perf_event_mmap_page* page_;
};

}  // namespace hindcast::capture
