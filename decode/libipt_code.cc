#include "decode/libipt_code.h"

#include <sys/mman.h>

#include <intel-pt.h>

#include <algorithm>
#include <string>
#include <vector>

namespace hindcast::decode {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 20;

/// How much is known from ip on, without a break.
size_t read_all(const CodeImage& code, uint64_t ip, std::span<uint8_t> out) {
  size_t have = 0;
  while (have < out.size()) {
    const size_t n = code.read(Ip(ip + have), out.subspan(have));
    if (n == 0) break;
    have += n;
  }
  return have;
}

int read_code(uint8_t* buffer, size_t size, const pt_asid*, uint64_t ip, void* context) {
  const size_t have = read_all(*static_cast<const CodeImage*>(context), ip, {buffer, size});
  return have > 0 ? static_cast<int>(have) : -pte_nomap;
}

/// No file when some bytes of the section are not known.
Fd memory_file(const CodeImage& code, const CodeSection& section) {
  Fd fd(::memfd_create("hindcast-code", MFD_CLOEXEC));
  std::vector<uint8_t> piece(kPiece);
  for (uint64_t done = 0; fd.valid() && done < section.size; done += piece.size()) {
    piece.resize(std::min<uint64_t>(kPiece, section.size - done));
    if (read_all(code, section.address.value() + done, piece) != piece.size()) return Fd();
    for (size_t written = 0; written < piece.size();) {
      const ssize_t n = ::write(fd.get(), piece.data() + written, piece.size() - written);
      if (n <= 0) return Fd();
      written += static_cast<size_t>(n);
    }
  }
  return fd;
}

}  // namespace

IptCode::IptCode() : sections_(pt_iscache_alloc(nullptr)) {
  if (sections_) pt_iscache_set_limit(sections_, kMappedLimit);
}

IptCode::~IptCode() {
  recent_.clear();
  if (sections_) pt_iscache_free(sections_);
}

int IptCode::section_id(const CodeImage& code, const CodeSection& section, int bits) {
  if (!sections_ || section.content == 0 || section.size == 0) return -pte_invalid;
  const ContentKey content{section.content, section.content_offset, section.size, bits};
  const auto key = std::pair(content, section.address.value());
  if (const auto it = ids_.find(key); it != ids_.end()) return it->second;
  auto file = files_.find(content);
  if (file == files_.end()) file = files_.emplace(content, memory_file(code, section)).first;
  int id = -pte_bad_file;
  if (file->second.valid()) {
    const std::string path = "/proc/self/fd/" + std::to_string(file->second.get());
    id = pt_iscache_add_file(sections_, path.c_str(), 0, section.size, section.address.value());
  }
  ids_.emplace(key, id);
  return id;
}

std::shared_ptr<pt_image> IptCode::image_of(const std::shared_ptr<const CodeImage>& code, int bits) {
  for (auto it = recent_.begin(); it != recent_.end(); ++it) {
    if (it->code == code && it->bits == bits) {
      recent_.splice(recent_.begin(), recent_, it);
      return recent_.front().image;
    }
  }
  pt_image* raw = pt_image_alloc(nullptr);
  if (!raw) return nullptr;
  // The callback reads `code`, so the image keeps it alive.
  std::shared_ptr<pt_image> image(raw, [code](pt_image* i) { pt_image_free(i); });
  for (const CodeSection& section : code->sections()) {
    const int id = section_id(*code, section, bits);
    // A section that libipt does not take is left to the callback.
    if (id > 0) (void)pt_image_add_cached(raw, sections_, id, nullptr);
  }
  pt_image_set_callback(raw, read_code, const_cast<CodeImage*>(code.get()));
  if (recent_.size() == kImages) recent_.pop_back();
  recent_.push_front({code, bits, image});
  return image;
}

}  // namespace hindcast::decode
