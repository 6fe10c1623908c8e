// The GNU build-id note of an ELF file: what tells two builds apart when their paths are the same.
#include "capture/build_id.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include <elf.h>

namespace hindcast::capture {

namespace {

constexpr size_t kMaxHeaders = 1024;
constexpr size_t kMaxNotes = size_t{1} << 20;
constexpr size_t kMaxBuildId = 20;

template <class T>
bool read_value(const ReadAt& read, uint64_t offset, T& out) {
  return read(offset, {reinterpret_cast<uint8_t*>(&out), sizeof out}) == sizeof out;
}

template <class Header, class Segment>
std::string build_id_of(const ReadAt& read) {
  Header h{};
  if (!read_value(read, 0, h) || h.e_phentsize < sizeof(Segment)) return {};
  const size_t count = std::min<size_t>(h.e_phnum, kMaxHeaders);
  for (size_t i = 0; i < count; i++) {
    Segment s{};
    uint64_t at = 0;
    if (__builtin_add_overflow(uint64_t{h.e_phoff}, i * h.e_phentsize, &at) || !read_value(read, at, s)) break;
    if (s.p_type != PT_NOTE) continue;
    std::vector<uint8_t> notes(std::min<uint64_t>(s.p_filesz, kMaxNotes));
    notes.resize(read(s.p_offset, notes));
    if (auto id = find_build_id_note(notes)) return *id;
  }
  return {};
}

}  // namespace

std::optional<std::string> find_build_id_note(ByteSpan notes) {
  ByteReader r(notes);
  while (r.left() >= sizeof(Elf64_Nhdr)) {
    const uint32_t name_size = r.u32(), content_size = r.u32(), type = r.u32();
    const auto padded = [](uint32_t n) { return (uint64_t{n} + 3) & ~uint64_t{3}; };
    if (padded(name_size) + content_size > r.left()) return std::nullopt;
    const ByteSpan name = r.take(padded(name_size));
    const ByteSpan content = r.take(content_size);
    r.skip(std::min<uint64_t>(padded(content_size) - content_size, r.left()));
    constexpr uint8_t kGnu[] = {'G', 'N', 'U', 0};
    if (type != NT_GNU_BUILD_ID || name_size != sizeof kGnu ||
        !std::equal(std::begin(kGnu), std::end(kGnu), name.begin()))
      continue;
    if (content.empty() || content.size() > kMaxBuildId) return std::nullopt;
    return std::string(content.begin(), content.end());
  }
  return std::nullopt;
}

ElfIdentity read_elf_identity(const ReadAt& read) {
  uint8_t ident[EI_NIDENT] = {};
  ElfIdentity out;
  if (read(0, ident) != sizeof ident || std::memcmp(ident, ELFMAG, SELFMAG) != 0) return out;
  out.is_elf = true;
  if (ident[EI_DATA] != ELFDATA2LSB) return out;
  if (ident[EI_CLASS] == ELFCLASS64) out.build_id = build_id_of<Elf64_Ehdr, Elf64_Phdr>(read);
  if (ident[EI_CLASS] == ELFCLASS32) out.build_id = build_id_of<Elf32_Ehdr, Elf32_Phdr>(read);
  return out;
}

ElfIdentity read_elf_identity(const Fd& fd) {
  return read_elf_identity([&fd](uint64_t offset, std::span<uint8_t> out) -> size_t {
    size_t got = 0;
    while (got < out.size()) {
      if (offset + got > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) break;
      const ssize_t n = ::pread(fd.get(), out.data() + got, out.size() - got, static_cast<off_t>(offset + got));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    return got;
  });
}

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto b = static_cast<uint8_t>(c);
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

}  // namespace hindcast::capture
