// A first-in first-out queue of perf records in memory, each with the key that orders it among all rings.
#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <span>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// Where a record belongs in the order of all records: by time, then by arrival. The time is made monotonic
/// within its ring, because the kernel stamps a LOST record after the record that follows it.
struct OrderKey {
  uint64_t time = 0;
  uint64_t arrival = 0;
  auto operator<=>(const OrderKey&) const = default;
};

/// Pages of 256 KiB, freed as they empty. A record handed out is borrowed until it is popped.
class RecordFifo {
 public:
  void push(const OrderKey& key, ByteSpan record) {
    const size_t need = sizeof(OrderKey) + sizeof(uint32_t) + record.size();
    if (pages_.empty() || pages_.back().used + need > pages_.back().size) add_page(need);
    Page& p = pages_.back();
    uint8_t* at = p.bytes.get() + p.used;
    const auto size = static_cast<uint32_t>(record.size());
    std::memcpy(at, &key, sizeof key);
    std::memcpy(at + sizeof key, &size, sizeof size);
    std::memcpy(at + sizeof key + sizeof size, record.data(), record.size());
    p.used += need;
    bytes_ += need;
  }
  bool empty() const { return bytes_ == 0; }
  /// Bytes in use, with 20 of ours for each record.
  size_t bytes() const { return bytes_; }

  OrderKey front_key() const { return key_at(pages_.front(), pages_.front().taken); }
  std::span<uint8_t> front() { return record_at(pages_.front(), pages_.front().taken); }
  void pop() {
    HC_CHECK(!empty());
    Page& p = pages_.front();
    const size_t n = sizeof(OrderKey) + sizeof(uint32_t) + record_at(p, p.taken).size();
    p.taken += n;
    bytes_ -= n;
    if (p.taken == p.used) pages_.pop_front();
  }

  /// Visits every record from the oldest on: visit(key, record).
  template <class Visit>
  void each(Visit visit) const {
    for (const Page& p : pages_)
      for (size_t at = p.taken; at < p.used;) {
        const ByteSpan r = record_at(p, at);
        visit(key_at(p, at), r);
        at += sizeof(OrderKey) + sizeof(uint32_t) + r.size();
      }
  }

 private:
  struct Page {
    std::unique_ptr<uint8_t[]> bytes;
    size_t size = 0, used = 0, taken = 0;
  };
  void add_page(size_t need) {
    constexpr size_t kPage = size_t{256} << 10;
    Page p;
    p.size = need > kPage ? need : kPage;
    p.bytes.reset(new uint8_t[p.size]);
    pages_.push_back(std::move(p));
  }
  static OrderKey key_at(const Page& p, size_t at) {
    OrderKey k;
    std::memcpy(&k, p.bytes.get() + at, sizeof k);
    return k;
  }
  static std::span<uint8_t> record_at(const Page& p, size_t at) {
    uint32_t size;
    std::memcpy(&size, p.bytes.get() + at + sizeof(OrderKey), sizeof size);
    return {p.bytes.get() + at + sizeof(OrderKey) + sizeof(uint32_t), size};
  }

  std::deque<Page> pages_;
  size_t bytes_ = 0;
};

}  // namespace hindcast::capture
