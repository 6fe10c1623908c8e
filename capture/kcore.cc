#include "capture/kcore.h"

#include <algorithm>
#include <limits>
#include <memory>

#include <elf.h>
#include <linux/capability.h>

#include "capture/privilege.h"
#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMostHeaders = 4096;
constexpr size_t kPiece = size_t{1} << 20;  // of one read: an interrupted one costs no more

/// "none" of "[none] integrity confidentiality"; empty where the kernel knows no lockdown.
std::string lockdown(const std::string& sys) {
  const auto text = read_text_file(sys + "/kernel/security/lockdown", 4096);
  if (!text) return {};
  const size_t from = text->find('['), to = text->find(']');
  return from == std::string::npos || to == std::string::npos || to < from ? std::string()
                                                                           : text->substr(from + 1, to - from - 1);
}

Error refused(const std::string& path, const std::string& proc, const std::string& sys) {
  Error e = errno_error("cannot open", path);
  if (e.code == Errc::not_found) {
    e.code = Errc::unavailable;
    e.found = "this kernel does not show its memory";
    e.fix = "a kernel with CONFIG_PROC_KCORE";
  } else if (e.code == Errc::permission) {
    const std::string lock = lockdown(sys);
    const bool rawio = has_capability(proc, CAP_SYS_RAWIO);
    e.found = std::string("CAP_SYS_RAWIO is ") + (rawio ? "held" : "not held");
    if (!lock.empty()) e.found += "; kernel lockdown: " + lock;
    e.fix = lock == "confidentiality" ? "boot without lockdown=confidentiality"
                                      : "run as root, or: setcap cap_sys_rawio,cap_dac_read_search+ep HINDCASTD";
  }
  return e;
}

}  // namespace

Result<Kcore> Kcore::open(const std::string& proc, const std::string& sys) {
  const std::string path = proc + "/kcore";
  auto file = std::make_shared<Fd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file->valid()) return refused(path, proc, sys);
  auto core = over([file](uint64_t offset, std::span<uint8_t> out) -> size_t {
    size_t got = 0;
    while (got < out.size()) {
      if (offset + got > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) break;
      const ssize_t n = ::pread(file->get(), out.data() + got, out.size() - got, static_cast<off_t>(offset + got));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    return got;
  });
  if (core) return core;
  Error e = std::move(core).error();
  e.what = "cannot read " + path + ": " + e.what;
  return e;
}

Result<Kcore> Kcore::over(ReadAt read) {
  Elf64_Ehdr h{};
  if (read(0, {reinterpret_cast<uint8_t*>(&h), sizeof h}) != sizeof h || std::memcmp(h.e_ident, ELFMAG, SELFMAG) != 0)
    return Error{Errc::bad_input, "it is no ELF file", {}, {}};
  if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64 ||
      h.e_type != ET_CORE)
    return Error{Errc::unsupported, "it is no ELF core file of x86-64", {}, {}};
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum > kMostHeaders)
    return Error{
        Errc::unsupported,
        "its program headers are " + std::to_string(h.e_phnum) + " of " + std::to_string(h.e_phentsize) + " bytes",
        {},
        {}};
  std::vector<Elf64_Phdr> headers(h.e_phnum);
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(headers.data()), headers.size() * sizeof(Elf64_Phdr));
  if (read(h.e_phoff, bytes) != bytes.size())
    return Error{Errc::bad_input, "its program headers are cut short", {}, {}};
  Kcore core;
  core.read_ = std::move(read);
  for (const Elf64_Phdr& p : headers) {
    uint64_t end = 0;
    if (p.p_type != PT_LOAD || p.p_filesz == 0 || __builtin_add_overflow(p.p_vaddr, p.p_filesz - 1, &end) ||
        __builtin_add_overflow(p.p_offset, p.p_filesz, &end))
      continue;
    core.segments_.push_back({p.p_vaddr, p.p_filesz, p.p_offset});
  }
  return core;
}

Result<std::vector<uint8_t>> Kcore::read(uint64_t address, uint64_t bytes) const {
  const auto segment = std::find_if(segments_.begin(), segments_.end(), [&](const Segment& s) {
    return address >= s.address && address - s.address < s.bytes && bytes <= s.bytes - (address - s.address);
  });
  if (segment == segments_.end())
    return Error{Errc::not_found,
                 "the kernel's core file does not hold this memory",
                 "none of its " + std::to_string(segments_.size()) + " segments reaches over it",
                 {}};
  std::vector<uint8_t> out(bytes);
  for (size_t at = 0; at < out.size();) {
    const std::span<uint8_t> piece = std::span(out).subspan(at, std::min(kPiece, out.size() - at));
    if (read_(segment->offset + (address - segment->address) + at, piece) != piece.size())
      return Error{Errc::io, "the kernel's core file ends inside of this memory, or cannot be read there", {}, {}};
    at += piece.size();
  }
  return out;
}

}  // namespace hindcast::capture
