#include "decode/code_image.h"

#include <algorithm>
#include <cstring>

namespace hindcast::decode {

SectionImage::SectionImage(std::vector<CodeSection> sections) : sections_(std::move(sections)) {
  std::erase_if(sections_, [](const CodeSection& s) { return s.bytes.bytes.empty(); });
  std::sort(sections_.begin(), sections_.end(),
            [](const CodeSection& a, const CodeSection& b) { return a.address < b.address; });
}

size_t SectionImage::read(Ip ip, std::span<uint8_t> out) const {
  auto it = std::upper_bound(sections_.begin(), sections_.end(), ip,
                             [](Ip at, const CodeSection& s) { return at < s.address; });
  if (it == sections_.begin()) return 0;
  --it;
  const uint64_t offset = ip.value() - it->address.value();
  if (offset >= it->bytes.bytes.size()) return 0;
  const size_t n = std::min<uint64_t>(out.size(), it->bytes.bytes.size() - offset);
  if (n != 0) std::memcpy(out.data(), it->bytes.bytes.data() + offset, n);
  return n;
}

}  // namespace hindcast::decode
