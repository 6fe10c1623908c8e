// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/thread_stream.h"

#include <ctime>
#include <new>

#include <sys/mman.h>

namespace hindcast::sim {

void ThreadStream::open(Courier& to_daemon, int pid, int tid) {
  Message message;
  message.kind = MessageKind::thread;
  message.pid = pid;
  message.tid = tid;
  message.tsc = time_and_cpu().tsc;
  void* map = to_daemon.send_shared(message, kMapBytes, [&](void* p) {
    auto* h = new (p) RingHeader{};
    h->magic = kChannelMagic;
    h->version = kChannelVersion;
    h->pid = pid;
    h->tid = tid;
    h->capacity = kRingWords;
  });
  ready = true;
  if (!map) {
    switch_off();
    return;
  }
  off = false;
  header = static_cast<RingHeader*>(map);
  words = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(map) + kPageBytes);
  mask = kRingWords - 1;
  shared_position = &header->position;
  courier = &to_daemon;
  position = limit = after_special = taken = 0;
}

void ThreadStream::push_special(Word type, uint32_t low24, uint64_t a, uint64_t b) {
  if (off || !reserve(kMarkEvery)) return;
  uint64_t at = position;
  const auto put = [&](uint32_t w) { words[at++ & mask] = w; };
  put(special(type, low24));
  const uint32_t more = words_after(type);
  if (more >= 2) {
    put(static_cast<uint32_t>(a));
    put(static_cast<uint32_t>(a >> 32));
  }
  if (more >= 4) {
    put(static_cast<uint32_t>(b));
    put(static_cast<uint32_t>(b >> 32));
  }
  advance(at - position);
  after_special = position;
  after_sigreturn = false;
  publish();
}

uint64_t ThreadStream::mark() {
  const TimeAndCpu now = time_and_cpu();
  if (off) return now.tsc;
  push_special(Word::mark, now.cpu, now.tsc);
  if (!off && reserve(2 * kMarkEvery)) limit = position + kMarkEvery;
  return now.tsc;
}

bool ThreadStream::reserve(uint64_t n) {
  if (position + n - taken <= kRingWords) return true;
  for (uint32_t tries = 0;; ++tries) {
    taken = header->taken.load(std::memory_order_acquire);
    if (taken > position) break;  // not our daemon's doing
    if (position + n - taken <= kRingWords) return true;
    publish();
    const timespec nap{0, 50'000};
    nanosleep(&nap, nullptr);
    if (tries % 64 == 63 && !courier->alive()) break;
  }
  switch_off();
  return false;
}

void ThreadStream::close() {
  if (!header) return;
  push_special(Word::exit, 0, time_and_cpu().tsc);
  if (header) header->closed.store(1, std::memory_order_release);
  RingHeader* map = header;
  switch_off();
  if (map) munmap(map, kMapBytes);
}

void ThreadStream::switch_off() {
  off = true;
  header = nullptr;
  words = &scratch_word;
  mask = 0;
  shared_position = &scratch_position;
  limit = ~uint64_t{0};
}

}  // namespace hindcast::sim
