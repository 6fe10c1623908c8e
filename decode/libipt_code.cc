#include "decode/libipt_code.h"

#include <sys/mman.h>

#include <intel-pt.h>

#include <string>

namespace hindcast::decode {
namespace {

int read_code(uint8_t* buffer, size_t size, const pt_asid*, uint64_t ip, void* context) {
  const auto* code = static_cast<const CodeImage*>(context);
  size_t have = 0;
  while (have < size) {
    const size_t n = code->read(Ip(ip + have), {buffer + have, size - have});
    if (n == 0) break;
    have += n;
  }
  return have > 0 ? static_cast<int>(have) : -pte_nomap;
}

Fd memory_file(ByteSpan bytes) {
  Fd fd(::memfd_create("hindcast-code", MFD_CLOEXEC));
  size_t done = 0;
  while (fd.valid() && done < bytes.size()) {
    const ssize_t n = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n <= 0) return Fd();
    done += static_cast<size_t>(n);
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

int IptCode::section_id(const CodeSection& section, int bits) {
  if (!sections_ || section.content == 0 || section.bytes.bytes.empty()) return -pte_invalid;
  const ContentKey content{section.content, section.content_offset, section.bytes.bytes.size(), bits};
  const auto key = std::pair(content, section.address.value());
  if (const auto it = ids_.find(key); it != ids_.end()) return it->second;
  auto file = files_.find(content);
  if (file == files_.end()) file = files_.emplace(content, memory_file(section.bytes.bytes)).first;
  int id = -pte_bad_file;
  if (file->second.valid()) {
    const std::string path = "/proc/self/fd/" + std::to_string(file->second.get());
    id = pt_iscache_add_file(sections_, path.c_str(), 0, section.bytes.bytes.size(), section.address.value());
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
    const int id = section_id(section, bits);
    // A section that libipt does not take is left to the callback.
    if (id > 0) (void)pt_image_add_cached(raw, sections_, id, nullptr);
  }
  pt_image_set_callback(raw, read_code, const_cast<CodeImage*>(code.get()));
  if (recent_.size() == kImages) recent_.pop_back();
  recent_.push_front({code, bits, image});
  return image;
}

}  // namespace hindcast::decode
