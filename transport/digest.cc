// libsodium's generic hash, streamed.
#include "transport/digest.h"

#include <sodium.h>

#include "hindcast/result.h"

namespace hindcast::transport {

struct Hasher::Impl {
  crypto_generichash_state state;
};

Hasher::Hasher() : impl_(std::make_unique<Impl>()) {
  HC_CHECK(crypto_generichash_init(&impl_->state, nullptr, 0, sizeof(Digest)) == 0);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::add(ByteSpan bytes) { crypto_generichash_update(&impl_->state, bytes.data(), bytes.size()); }

Digest Hasher::finish() {
  Digest d;
  crypto_generichash_final(&impl_->state, d.data(), d.size());
  return d;
}

std::string hex(const Digest& digest) {
  std::string s;
  for (const uint8_t b : digest) {
    s += "0123456789abcdef"[b >> 4];
    s += "0123456789abcdef"[b & 15];
  }
  return s;
}

}  // namespace hindcast::transport
