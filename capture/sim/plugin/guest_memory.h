// SPDX-License-Identifier: MIT
// Reads of guest memory that may not be there: an unmapped address is an answer, not a fault.
#pragma once

#include <cstdint>
#include <string>

#include <sys/uio.h>
#include <unistd.h>

namespace hindcast::sim {

/// Copies up to n bytes and returns how many could be read (from the start, without holes).
inline size_t read_guest_bytes(uint64_t address, void* to, size_t n) {
  iovec local{to, n};
  iovec remote{reinterpret_cast<void*>(address), n};
  const ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  return got < 0 ? 0 : static_cast<size_t>(got);
}

template <class T>
bool read_guest(uint64_t address, T& value) {
  return read_guest_bytes(address, &value, sizeof value) == sizeof value;
}

/// The NUL-terminated string at address, of at most `limit` bytes; false when it is not readable or longer.
inline bool read_guest_string(uint64_t address, std::string& text, size_t limit) {
  text.clear();
  char chunk[256];
  while (text.size() < limit) {
    const uint64_t at = address + text.size();
    size_t want = sizeof chunk - at % sizeof chunk;  // chunks end at page ends: a page behind may be missing
    want = read_guest_bytes(at, chunk, want);
    if (want == 0) return false;
    for (size_t i = 0; i < want; ++i) {
      if (chunk[i] == 0) return true;
      text.push_back(chunk[i]);
    }
  }
  return false;
}

}  // namespace hindcast::sim
