// tiny_program() as the code of everything.
#pragma once

#include <algorithm>

#include "hindcast/decoder.h"
#include "tests/support/tiny_program.h"

namespace hindcast::test {

class TinyImage final : public CodeImage {
 public:
  size_t read(Ip ip, std::span<uint8_t> out) const override {
    if (ip.value() < kTinyBase || ip.value() - kTinyBase >= code_.size()) return 0;
    const uint64_t at = ip.value() - kTinyBase;
    const size_t n = std::min<size_t>(out.size(), code_.size() - at);
    std::copy_n(code_.begin() + static_cast<ptrdiff_t>(at), n, out.begin());
    return n;
  }

 private:
  const std::vector<uint8_t> code_ = tiny_program();
};

}  // namespace hindcast::test
