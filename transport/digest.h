// BLAKE2b-256 of content that an attacker may choose: names of snapshots and images must not be forgeable.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "hindcast/bytes.h"

namespace hindcast::transport {

using Digest = std::array<uint8_t, 32>;

std::string hex(const Digest& digest);

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void add(ByteSpan bytes);
  Digest finish();  // once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::transport
