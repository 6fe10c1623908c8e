#include "server/views/export/code_files.h"

#include <cstring>
#include <filesystem>

#include <xxhash.h>

#include "hindcast/bundle_format.h"
#include "server/views/export/memory_elf.h"
#include "server/views/export/output_file.h"

namespace hindcast::server::views {
namespace {

/// The kernel pads build-ids with zeros to 20 bytes and counts the bytes apart; either form may be stored.
std::string_view without_padding(std::string_view digits) {
  while (digits.ends_with("00")) digits.remove_suffix(2);
  return digits;
}

bool from_hex(std::string_view digits, BuildId& out) {
  if (digits.empty() || digits.size() % 2 != 0 || digits.size() > 2 * out.size()) return false;
  out.fill(0);
  for (size_t i = 0; i < digits.size(); ++i) {
    const char c = digits[i];
    const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (v < 0) return false;
    out[i / 2] = static_cast<uint8_t>(out[i / 2] << 4 | v);
  }
  return true;
}

/// 16 bytes of hash and the length: two images share it only if they are the same.
BuildId content_id(ByteSpan bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  const auto length = static_cast<uint32_t>(bytes.size());
  BuildId id;
  std::memcpy(id.data(), &h.low64, 8);
  std::memcpy(id.data() + 8, &h.high64, 8);
  std::memcpy(id.data() + 16, &length, 4);
  id.back() |= 1;  // a last byte of zero would be taken for padding
  return id;
}

}  // namespace

std::string hex_of(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string s;
  for (const uint8_t b : bytes) {
    s += kDigits[b >> 4];
    s += kDigits[b & 15];
  }
  return s;
}

const ImageInfo* CodeFiles::find(std::string_view path, ByteSpan build_id) const {
  const std::string id = hex_of(build_id);
  const ImageInfo* found = nullptr;
  for (const ImageInfo& i : info_.images)
    if (!id.empty() && i.kind == ImageKind::elf && !i.build_id.empty() &&
        without_padding(i.build_id) == without_padding(id))
      return &i;
  for (const ImageInfo& i : info_.images) {
    if (i.kind != ImageKind::elf || i.path != path || (!id.empty() && !i.build_id.empty())) continue;
    if (found) return nullptr;
    found = &i;
  }
  return found;
}

const ImageInfo* CodeFiles::find(uint32_t id) const {
  for (const ImageInfo& i : info_.images)
    if (i.id == id) return &i;
  return nullptr;
}

Result<BuildId> CodeFiles::use(const ImageInfo& image, ByteSpan recorded) {
  BuildId id{};
  if (!recorded.empty() && recorded.size() <= id.size()) {
    std::memcpy(id.data(), recorded.data(), recorded.size());
  } else if (const auto known = own_.find(image.id); known != own_.end()) {
    id = known->second;
  } else {
    if (!from_hex(image.build_id, id)) {
      HC_TRY(const SharedBytes bytes, query_.image_bytes(snapshot_, image.id));
      id = content_id(bytes.bytes);
    }
    own_.emplace(image.id, id);
  }
  used_.emplace(hex_of(id), Used{&image, id});
  return id;
}

std::string CodeFiles::path_of(const ImageInfo& image) {
  if (image.kind == ImageKind::memory) return "/hindcast/memory-" + std::to_string(image.id);
  return image.path.empty() ? "/hindcast/file-" + std::to_string(image.id) : image.path;
}

uint64_t CodeFiles::file_offset(const ImageInfo& image, uint64_t offset) {
  return image.kind == ImageKind::memory ? kMemoryElfCode + offset : offset;
}

Result<void> CodeFiles::write(const std::string& folder) const {
  for (const auto& [digits, used] : used_) {
    const std::string dir = folder + "/.build-id/" + digits.substr(0, 2) + "/" + digits.substr(2);
    std::error_code failed;
    std::filesystem::create_directories(dir, failed);
    if (failed) return Error{Errc::io, "cannot make the folder " + dir + ": " + failed.message(), {}, {}};
    HC_TRY(const SharedBytes bytes, query_.image_bytes(snapshot_, used.image->id));
    HC_TRY(OutputFile file, OutputFile::create(dir + "/elf"));
    if (used.image->kind == ImageKind::memory) {
      HC_TRY_VOID(file.write(memory_elf(bytes.bytes, used.build_id, path_of(*used.image).substr(10))));
    } else {
      HC_TRY_VOID(file.write(bytes.bytes));
    }
    HC_TRY_VOID(file.close());
  }
  return {};
}

}  // namespace hindcast::server::views
