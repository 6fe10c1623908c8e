#include "transport/stream_parts.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "transport/on_all_cpus.h"

namespace hindcast::transport {
namespace {

constexpr size_t kAlone = 4;  // parts that are not worth a thread

uint64_t whole_pages(uint64_t bytes) {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

/// Whole pages of addresses that nobody can read: new ones (at: nullptr), or those at `at`, whose memory goes back at once.
/// MAP_FAILED: there are none.
void* unreadable(void* at, uint64_t size) {
  constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return ::mmap(at, size, PROT_NONE, at ? kKind | MAP_FIXED : kKind, -1, 0);
}

}  // namespace

Result<std::shared_ptr<StreamParts>> StreamParts::open(std::vector<Chunk> chunks, Read read,
                                                       std::shared_ptr<IdleParts> idle) {
  const uint64_t size = chunks.empty() ? 0 : chunks.back().offset + chunks.back().bytes;
  ByteSpan place;
  if (size != 0) {
    void* const at = unreadable(nullptr, whole_pages(size));
    if (at == MAP_FAILED)
      return Error{Errc::too_large, "cannot open a stream: the process has no addresses left for it",
                   std::to_string(size) + " bytes; " + std::strerror(errno), "raise its limit (ulimit -v)"};
    place = {static_cast<const uint8_t*>(at), size};
  }
  return std::shared_ptr<StreamParts>(new StreamParts(place, std::move(chunks), std::move(read), std::move(idle)));
}

StreamParts::StreamParts(ByteSpan place, std::vector<Chunk> chunks, Read read, std::shared_ptr<IdleParts> idle)
    : StreamBytes(place), chunks_(std::move(chunks)), read_(std::move(read)), idle_(std::move(idle)) {
  for (size_t i = 0; i < chunks_.size(); ++i) {
    if (parts_.empty() || whole_pages(parts_.back().end) == parts_.back().end) {
      parts_.emplace_back();
      parts_.back().begin = chunks_[i].offset;
      parts_.back().first_chunk = i;
    }
    ++parts_.back().chunks;
    parts_.back().end = chunks_[i].offset + chunks_[i].bytes;
  }
}

StreamParts::~StreamParts() {
  if (bytes().empty()) return;
  const std::lock_guard lock(idle_->mutex_);
  for (Part& part : parts_) {
    if (part.state != Part::State::here || part.holders != 0) continue;
    idle_->bytes_ -= part.end - part.begin;
    idle_->idle_.erase(part.idle);
  }
  ::munmap(address(0), whole_pages(bytes().size()));
}

/// The part that has it.
size_t StreamParts::part_at(uint64_t offset) const {
  const auto behind =
      std::upper_bound(parts_.begin(), parts_.end(), offset, [](uint64_t at, const Part& p) { return at < p.begin; });
  return static_cast<size_t>(behind - parts_.begin()) - 1;
}

uint64_t StreamParts::hold(uint64_t from, uint64_t to) {
  HC_CHECK(from <= to && to <= bytes().size());
  if (from == to) return to;
  const size_t first = part_at(from), last = part_at(to - 1);
  std::unique_lock lock(idle_->mutex_);
  std::vector<size_t> wanted;
  for (size_t i = first; i <= last; ++i) {
    Part& part = parts_[i];
    if (part.holders++ == 0 && part.state == Part::State::here) {
      idle_->bytes_ -= part.end - part.begin;
      idle_->idle_.erase(part.idle);
    }
    if (part.state != Part::State::absent) continue;
    part.state = Part::State::coming;
    wanted.push_back(i);
  }
  if (!wanted.empty()) {
    lock.unlock();
    load(wanted);
    lock.lock();
    for (const size_t i : wanted) parts_[i].state = Part::State::here;
    idle_->came_.notify_all();
  }
  for (size_t i = first; i <= last; ++i) idle_->came_.wait(lock, [&] { return parts_[i].state == Part::State::here; });
  for (const Loss& loss : losses_)
    if (loss.offset + loss.bytes > from) return std::min(to, std::max(from, loss.offset));
  return to;
}

void StreamParts::release(uint64_t from, uint64_t to) {
  if (from == to) return;
  const std::lock_guard lock(idle_->mutex_);
  for (size_t i = part_at(from); i <= part_at(to - 1); ++i) {
    Part& part = parts_[i];
    HC_CHECK(part.holders != 0);
    if (--part.holders != 0) continue;
    part.idle = idle_->idle_.insert(idle_->idle_.end(), {this, i});
    idle_->bytes_ += part.end - part.begin;
  }
  while (idle_->bytes_ > idle_->most_) {
    const IdleParts::Idle oldest = idle_->idle_.front();
    idle_->idle_.pop_front();
    Part& part = oldest.stream->parts_[oldest.part];
    idle_->bytes_ -= part.end - part.begin;
    oldest.stream->drop(part);
  }
}

std::vector<StreamParts::Loss> StreamParts::losses() const {
  const std::lock_guard lock(idle_->mutex_);
  return losses_;
}

void StreamParts::load(const std::vector<size_t>& wanted) {
  on_all_cpus(wanted.size(), kAlone, [&] {
    return [&, decoder = std::make_unique<ChunkDecoder>()](size_t i) { load(parts_[wanted[i]], *decoder); };
  });
}

/// Nobody else touches a part that is coming.
void StreamParts::load(Part& part, ChunkDecoder& decoder) {
  uint8_t* const at = address(part.begin);
  const uint64_t size = whole_pages(part.end - part.begin);
  if (::mprotect(at, size, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  // Only a hint: all pages at once cost less than one fault each.
  (void)::madvise(at, size, MADV_POPULATE_WRITE);
  for (size_t i = part.first_chunk; i < part.first_chunk + part.chunks; ++i) {
    const Chunk& chunk = chunks_[i];
    const auto read = read_(chunk.number, decoder, {address(chunk.offset), chunk.bytes});
    if (read.ok()) continue;
    std::memset(address(chunk.offset), kDamageFill, chunk.bytes);
    Loss loss{chunk.offset, chunk.bytes, read.error().what};
    const std::lock_guard lock(idle_->mutex_);
    const auto behind = std::upper_bound(losses_.begin(), losses_.end(), loss.offset,
                                         [](uint64_t offset, const Loss& l) { return offset < l.offset; });
    const bool known = behind != losses_.begin() && behind[-1].offset == loss.offset;
    if (!known) losses_.insert(behind, std::move(loss));
  }
  if (::mprotect(at, size, PROT_READ) != 0) throw std::bad_alloc();
}

void StreamParts::drop(Part& part) {
  part.state = Part::State::absent;
  if (unreadable(address(part.begin), whole_pages(part.end - part.begin)) == MAP_FAILED) throw std::bad_alloc();
}

}  // namespace hindcast::transport
