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
  struct Range {
    uint64_t begin, end;
    bool operator==(const Range&) const = default;
  };
  /// Sections are sorted here; they must not overlap. Empty ones are dropped. unknown: where there was code of which nobody
  /// knows the bytes; ascending, without sections in them.
  explicit SectionImage(std::vector<Backed> sections, std::vector<Range> unknown = {});

  std::span<const CodeSection> sections() const override { return sections_; }
  size_t read(Ip ip, std::span<uint8_t> out) const override;
  bool version_unknown(Ip ip) const override;
  /// They say the same of every address.
  bool same_as(const SectionImage& other) const { return sections_ == other.sections_ && unknown_ == other.unknown_; }

 private:
  std::vector<Range> unknown_;
  std::vector<CodeSection> sections_;
  std::vector<std::shared_ptr<const ImageBytes>> bytes_;  // of each section
};

}  // namespace hindcast::decode
