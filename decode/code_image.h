// A CodeImage made of sections: the code of one process at one time, immutable.
#pragma once

#include <memory>
#include <vector>

#include "decode/image_bytes.h"
#include "hindcast/decoder.h"

namespace hindcast::decode {

class SectionImage final : public CodeImage {
 public:
  /// bytes: of the whole image, of which the section is [content_offset, content_offset + size).
  struct Backed {
    CodeSection section;
    std::shared_ptr<const ImageBytes> bytes;
  };
  /// Sections are sorted here; they must not overlap. Empty ones are dropped.
  explicit SectionImage(std::vector<Backed> sections);

  std::span<const CodeSection> sections() const override { return sections_; }
  size_t read(Ip ip, std::span<uint8_t> out) const override;

 private:
  std::vector<CodeSection> sections_;
  std::vector<std::shared_ptr<const ImageBytes>> bytes_;  // of each section
};

}  // namespace hindcast::decode
