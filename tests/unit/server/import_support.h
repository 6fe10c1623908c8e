// Inputs for import tests and fuzzers, without a disk: a folder in memory, small ELF files, perf records.
#pragma once

#include <elf.h>

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/perf_record.h"
#include "server/import/input_files.h"

namespace hindcast::server {

class MemoryFolder : public InputFolder {
 public:
  std::map<std::string, std::vector<uint8_t>> files;

  Result<std::vector<uint8_t>> read(const std::string& name, uint64_t limit) const override {
    if (const char* why = unsafe_name(name)) return Error{Errc::bad_input, "unsafe name", why, {}};
    const auto it = files.find(name);
    if (it == files.end()) return Error{Errc::not_found, "no file " + name, {}, {}};
    if (it->second.size() > limit) return Error{Errc::too_large, "too large", {}, {}};
    return it->second;
  }
};

/// An ELF file with these PT_LOAD segments, each filled with its number + 1; optionally a GNU build-id of 20 equal bytes.
struct SmallElf {
  struct Load {
    uint64_t address, offset, file_size, memory_size;
  };
  uint16_t type = ET_EXEC;
  std::vector<Load> loads{{0x400000, 0, 0x300, 0x300}};
  uint64_t file_size = 0x1000;
  uint16_t machine = EM_X86_64;

  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> out(file_size);
    Elf64_Ehdr h{};
    std::memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    h.e_ident[EI_VERSION] = EV_CURRENT;
    h.e_type = type;
    h.e_machine = machine;
    h.e_version = EV_CURRENT;
    h.e_phoff = sizeof h;
    h.e_phentsize = sizeof(Elf64_Phdr);
    h.e_phnum = static_cast<uint16_t>(loads.size());
    put(out, 0, h);
    for (size_t i = 0; i < loads.size(); ++i) {
      Elf64_Phdr p{};
      p.p_type = PT_LOAD;
      p.p_flags = PF_R | PF_X;
      p.p_offset = loads[i].offset;
      p.p_vaddr = loads[i].address;
      p.p_filesz = loads[i].file_size;
      p.p_memsz = loads[i].memory_size;
      put(out, sizeof h + i * sizeof p, p);
    }
    return out;
  }

 private:
  template <class T>
  static void put(std::vector<uint8_t>& out, size_t at, const T& v) {
    if (at + sizeof v <= out.size()) std::memcpy(out.data() + at, &v, sizeof v);
  }
};

/// perf records with the trailer of sample_type 0x10086.
class RecordFile {
 public:
  RecordFile& mmap2(const std::string& name, uint32_t prot, uint32_t cpu, uint64_t time = 5) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(1), w.u32(1);
    w.u64(0x400000), w.u64(0x1000), w.u64(0);
    w.u32(0), w.u32(0), w.u64(0), w.u64(0);
    w.u32(prot), w.u32(0);
    w.text(name);
    do w.u8(0);
    while (body.size() % 8);
    return record(perf::kMmap2, body, cpu, time);
  }
  RecordFile& switch_in(uint32_t cpu, uint64_t time = 5) { return record(perf::kSwitch, {}, cpu, time); }
  RecordFile& time_conv(uint64_t shift, uint64_t mult, uint64_t zero) {
    ByteWriter w(bytes_);
    w.u32(perf::kTimeConv), w.u16(0), w.u16(32);
    w.u64(shift), w.u64(mult), w.u64(zero);
    return *this;
  }
  RecordFile& record(uint32_t type, const std::vector<uint8_t>& body, uint32_t cpu, uint64_t time) {
    ByteWriter w(bytes_);
    w.u32(type), w.u16(0), w.u16(static_cast<uint16_t>(8 + body.size() + 32));
    w.bytes(body);
    w.u32(1), w.u32(1), w.u64(time), w.u32(cpu), w.u32(0), w.u64(0);
    return *this;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace hindcast::server
