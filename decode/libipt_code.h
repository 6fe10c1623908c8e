// Code bytes in the form libipt wants them: sections it can map, so that it may remember the blocks it decoded.
//
// libipt remembers decoded blocks only for sections that are files. A section's bytes are therefore copied once into
// a memfd, and libipt maps that.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <tuple>

#include "hindcast/decoder.h"
#include "hindcast/fd.h"

struct pt_image;
struct pt_image_section_cache;

namespace hindcast::decode {

/// Shared by all decoders of a HostTrace, which then share what libipt learned. One thread at a time.
class IptCode {
 public:
  IptCode();
  ~IptCode();
  IptCode(const IptCode&) = delete;
  IptCode& operator=(const IptCode&) = delete;

  /// The libipt image with this code for a mode of execution (16, 32 or 64 bits): what libipt remembers of a section it
  /// uses in all modes. nullptr when memory ran out. Sections that cannot be made into files (no memfd,
  /// no descriptors) are read through a callback: slower, the same result.
  std::shared_ptr<struct pt_image> image_of(const std::shared_ptr<const CodeImage>& code, int bits);

 private:
  static constexpr size_t kImages = 64;
  static constexpr uint64_t kMappedLimit = uint64_t{1} << 30;  // bytes of sections that libipt keeps mapped

  struct Entry {
    std::shared_ptr<const CodeImage> code;  // held: its address must not be reused for other code
    int bits;
    std::shared_ptr<struct pt_image> image;
  };
  using ContentKey = std::tuple<uint64_t, uint64_t, uint64_t, int>;  // content, offset, size; mode

  /// libipt's id of the section, or a negative number.
  int section_id(const CodeImage& code, const CodeSection& section, int bits);

  struct pt_image_section_cache* sections_ = nullptr;
  std::map<ContentKey, Fd> files_;
  std::map<std::pair<ContentKey, uint64_t>, int> ids_;  // with the address
  std::list<Entry> recent_;                             // most recently used first
};

}  // namespace hindcast::decode
