// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/fatal_hook.h"

#include <csignal>
#include <cstdint>
#include <cstring>

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

namespace hindcast::sim {
namespace {

FatalSignalListener on_fatal;

int kill_told(pid_t pid, int signal) {
  if (pid == getpid()) on_fatal(signal);
  return kill(pid, signal);
}

struct DynamicInfo {
  const Elf64_Rela* plt = nullptr;
  size_t plt_bytes = 0;
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
};

DynamicInfo read_dynamic(const Elf64_Dyn* dynamic) {
  DynamicInfo info;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    switch (dynamic->d_tag) {  // glibc has relocated the addresses
      case DT_JMPREL:
        info.plt = reinterpret_cast<const Elf64_Rela*>(dynamic->d_un.d_ptr);
        break;
      case DT_PLTRELSZ:
        info.plt_bytes = dynamic->d_un.d_val;
        break;
      case DT_SYMTAB:
        info.symbols = reinterpret_cast<const Elf64_Sym*>(dynamic->d_un.d_ptr);
        break;
      case DT_STRTAB:
        info.strings = reinterpret_cast<const char*>(dynamic->d_un.d_ptr);
        break;
    }
  }
  return info;
}

// The main program comes first (dl_iterate_phdr(3)).
int patch_main_program(dl_phdr_info* object, size_t, void* patched) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    if (object->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const auto* dynamic = reinterpret_cast<const Elf64_Dyn*>(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    const DynamicInfo info = read_dynamic(dynamic);
    if (!info.plt || !info.symbols || !info.strings) return 1;
    for (size_t k = 0; k < info.plt_bytes / sizeof(Elf64_Rela); ++k) {
      const Elf64_Rela& r = info.plt[k];
      if (std::strcmp(info.strings + info.symbols[ELF64_R_SYM(r.r_info)].st_name, "kill") != 0) continue;
      // The slot was made read-only after linking (RELRO); it is again when we are done.
      const uint64_t slot = object->dlpi_addr + r.r_offset;
      void* page = reinterpret_cast<void*>(slot & ~uint64_t{4095});
      if (mprotect(page, 4096, PROT_READ | PROT_WRITE) != 0) return 1;
      *reinterpret_cast<decltype(&kill_told)*>(slot) = kill_told;
      mprotect(page, 4096, PROT_READ);
      *static_cast<bool*>(patched) = true;
    }
  }
  return 1;
}

}  // namespace

bool hook_fatal_signals(FatalSignalListener listener) {
  on_fatal = listener;
  bool patched = false;
  dl_iterate_phdr(patch_main_program, &patched);
  return patched;
}

}  // namespace hindcast::sim
