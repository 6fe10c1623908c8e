// Code bytes at an address, as the code of everything.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "decode/code_image.h"

namespace hindcast::test {

/// content: as CodeSection::content.
inline std::shared_ptr<const CodeImage> code_at(uint64_t address, std::vector<uint8_t> code, uint64_t content = 1) {
  const auto owner = std::make_shared<const std::vector<uint8_t>>(std::move(code));
  auto bytes = std::make_shared<const decode::ImageBytes>(std::make_shared<WholeStream>(SharedBytes{owner, *owner}));
  const CodeSection section{Ip(address), owner->size(), content, 0};
  return std::make_shared<decode::SectionImage>(std::vector<decode::SectionImage::Backed>{{section, std::move(bytes)}});
}

}  // namespace hindcast::test
