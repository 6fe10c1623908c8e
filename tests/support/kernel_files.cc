#include "tests/support/kernel_files.h"

#include <elf.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "hindcast/bytes.h"
#include "hindcast/result.h"

namespace hindcast::test {
namespace {

std::string hex(uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(v));
  return text;
}

std::vector<uint8_t> build_id_note(uint8_t id) {
  std::vector<uint8_t> out;
  ByteWriter w(out);
  w.u32(4);
  w.u32(20);
  w.u32(NT_GNU_BUILD_ID);
  w.text({"GNU\0", 4});
  for (int i = 0; i < 20; ++i) w.u8(id);
  return out;
}

template <class Bytes>
void write_file(const std::string& path, const Bytes& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// Every byte is another number than zero.
std::vector<uint8_t> random_code(size_t n, uint32_t seed) {
  std::vector<uint8_t> out(n);
  for (uint8_t& b : out) {
    seed = seed * 1664525 + 1013904223;
    b = static_cast<uint8_t>(seed >> 24 | 1);
  }
  return out;
}

}  // namespace

KernelFiles& KernelFiles::symbol(uint64_t address, char type, const std::string& name, const std::string& module) {
  kallsyms_ += hex(address) + " " + type + " " + name + (module.empty() ? "" : "\t[" + module + "]") + "\n";
  return *this;
}

KernelFiles& KernelFiles::memory(uint64_t address, std::vector<uint8_t> bytes) {
  memory_.push_back({address, std::move(bytes)});
  return *this;
}

KernelFiles& KernelFiles::module(const std::string& name, uint64_t bytes, uint64_t address, uint8_t id,
                                 const std::string& state) {
  modules_.push_back({name, name + " " + std::to_string(bytes) + " 0 - " + state + " 0x" + hex(address) + "\n", id});
  return *this;
}

KernelFiles& KernelFiles::remove_module(const std::string& name) {
  std::erase_if(modules_, [&](const Module& m) { return m.name == name; });
  std::filesystem::remove_all(sys_ + "/module/" + name);
  return *this;
}

KernelFiles& KernelFiles::build_id(uint8_t id) {
  notes_ = build_id_note(id);
  return *this;
}

void KernelFiles::write() const {
  write_file(proc_ + "/kallsyms", kallsyms_);
  write_file(proc_ + "/kcore", core_file(memory_));
  write_file(sys_ + "/kernel/notes", notes_);
  std::string lines;
  for (const Module& m : modules_) {
    lines += m.line;
    write_file(sys_ + "/module/" + m.name + "/notes/.note.gnu.build-id", build_id_note(m.id));
  }
  write_file(proc_ + "/modules", lines);
}

KernelFiles& KernelFiles::small_kernel() {
  build_id(0xab);
  symbol(0, 'A', "fixed_percpu_data").symbol(kText, 'T', "_stext").symbol(kText + 0x40, 'T', "schedule");
  symbol(kText + 0x1080, 't', "do_idle").symbol(kText + kTextBytes, 'T', "_etext");
  symbol(kText + 0x800000, 'D', "init_task");
  memory(kText, random_code(0x3000, 1));
  module("nf_tables", 0x5000, kModule, 0xcd);
  symbol(kModule + 0x20, 't', "nft_do_chain", "nf_tables").symbol(kModule + 0x1010, 'T', "nft_set", "nf_tables");
  symbol(kModule + 0x400000, 'd', "nft_data", "nf_tables");
  symbol(kTrampoline, 't', "ftrace_trampoline", "__builtin__ftrace");
  auto modules = random_code(kModule + 0x8000 - kTrampoline, 2);  // one segment, as in a real one
  memory(kTrampoline, std::move(modules));
  return *this;
}

std::vector<uint8_t> KernelFiles::bytes_at(uint64_t address, uint64_t bytes) const {
  for (const Segment& s : memory_) {
    if (address < s.address || address - s.address + bytes > s.bytes.size()) continue;
    const auto at = s.bytes.begin() + static_cast<ptrdiff_t>(address - s.address);
    return {at, at + static_cast<ptrdiff_t>(bytes)};
  }
  return {};
}

std::vector<uint8_t> KernelFiles::core_file(const std::vector<Segment>& segments) {
  std::vector<uint8_t> out;
  ByteWriter w(out);
  Elf64_Ehdr h{};
  std::copy_n(ELFMAG, SELFMAG, h.e_ident);
  h.e_ident[EI_CLASS] = ELFCLASS64;
  h.e_ident[EI_DATA] = ELFDATA2LSB;
  h.e_ident[EI_VERSION] = EV_CURRENT;
  h.e_type = ET_CORE;
  h.e_machine = EM_X86_64;
  h.e_version = EV_CURRENT;
  h.e_phoff = sizeof h;
  h.e_ehsize = sizeof h;
  h.e_phentsize = sizeof(Elf64_Phdr);
  h.e_phnum = static_cast<uint16_t>(segments.size() + 1);
  w.put(h);
  Elf64_Phdr note{};
  note.p_type = PT_NOTE;
  w.put(note);
  uint64_t offset = sizeof h + (segments.size() + 1) * sizeof(Elf64_Phdr);
  for (const Segment& s : segments) {
    Elf64_Phdr p{};
    p.p_type = PT_LOAD;
    p.p_flags = PF_R | PF_W | PF_X;
    p.p_offset = offset;
    p.p_vaddr = s.address;
    p.p_filesz = p.p_memsz = s.bytes.size();
    w.put(p);
    offset += s.bytes.size();
  }
  for (const Segment& s : segments) w.bytes(s.bytes);
  return out;
}

}  // namespace hindcast::test
