#include "decode/code_image.h"

#include <algorithm>

namespace hindcast::decode {

SectionImage::SectionImage(std::vector<Backed> sections, std::vector<Range> unknown) : unknown_(std::move(unknown)) {
  std::erase_if(sections, [](const Backed& s) { return s.section.size == 0; });
  std::sort(sections.begin(), sections.end(),
            [](const Backed& a, const Backed& b) { return a.section.address < b.section.address; });
  for (Backed& s : sections) {
    sections_.push_back(s.section);
    bytes_.push_back(std::move(s.bytes));
  }
}

size_t SectionImage::read(Ip ip, std::span<uint8_t> out) const {
  const auto behind = std::upper_bound(sections_.begin(), sections_.end(), ip,
                                       [](Ip at, const CodeSection& s) { return at < s.address; });
  if (behind == sections_.begin()) return 0;
  const CodeSection& s = behind[-1];
  const uint64_t offset = ip.value() - s.address.value();
  if (offset >= s.size) return 0;
  return bytes_[static_cast<size_t>(behind - sections_.begin()) - 1]->read(
      s.content_offset + offset, out.first(std::min<uint64_t>(out.size(), s.size - offset)));
}

bool SectionImage::version_unknown(Ip ip) const {
  const auto behind = std::upper_bound(unknown_.begin(), unknown_.end(), ip.value(),
                                       [](uint64_t at, const Range& r) { return at < r.begin; });
  return behind != unknown_.begin() && ip.value() < behind[-1].end;
}

}  // namespace hindcast::decode
