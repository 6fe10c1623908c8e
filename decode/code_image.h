// A CodeImage made of sections: the code of one process at one time, immutable.
#pragma once

#include <vector>

#include "hindcast/decoder.h"

namespace hindcast::decode {

class SectionImage final : public CodeImage {
 public:
  /// Sections are sorted here; they must not overlap. Empty ones are dropped.
  explicit SectionImage(std::vector<CodeSection> sections);

  std::span<const CodeSection> sections() const override { return sections_; }
  size_t read(Ip ip, std::span<uint8_t> out) const override;

 private:
  std::vector<CodeSection> sections_;
};

}  // namespace hindcast::decode
