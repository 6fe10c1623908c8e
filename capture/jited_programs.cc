#include "capture/jited_programs.h"

#include <array>
#include <cstring>
#include <string_view>

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include "capture/build_id.h"
#include "hindcast/fd.h"

namespace hindcast::capture {

namespace {

Error refused(int error, const std::string& what) {
  errno = error;
  Error e = errno_error("cannot ask the kernel for", what);
  if (e.code == Errc::permission) {
    e.found = "CAP_SYS_ADMIN is needed to look at the programs of others";
    e.fix = "run as root, or: setcap cap_sys_admin,cap_syslog+ep HINDCASTD";
  } else if (e.code == Errc::unavailable || error == EINVAL) {
    e.code = Errc::unavailable;
    e.fix = "a kernel with CONFIG_BPF_SYSCALL";
  }
  return e;
}

/// As the kernel makes it: the program's own name belongs to its first function; what the others are called only BTF tells.
std::string name_of(const uint8_t* tag, std::string_view name) {
  std::string text = "bpf_prog_" + to_hex({reinterpret_cast<const char*>(tag), BPF_TAG_SIZE});
  if (!name.empty()) text += "_" + std::string(name);
  return text;
}

class KernelPrograms : public JitedPrograms {
 public:
  Result<std::vector<uint32_t>> ids() override {
    std::vector<uint32_t> out;
    uint32_t id = 0;
    while (out.size() < kMostIds) {
      if (const int r = bpf_prog_get_next_id(id, &id); r < 0) {
        if (r == -ENOENT) break;
        return refused(-r, "its BPF programs");
      }
      out.push_back(id);
    }
    return out;
  }

  Result<std::optional<JitedProgram>> read(uint32_t id) override {
    const std::string what = "the code of BPF program " + std::to_string(id);
    const int opened = bpf_prog_get_fd_by_id(id);
    if (opened == -ENOENT) return std::optional<JitedProgram>();
    if (opened < 0) return refused(-opened, what);
    const Fd fd(opened);  // while it is open, the program stays
    bpf_prog_info sizes{};
    uint32_t size = sizeof sizes;
    if (const int r = bpf_obj_get_info_by_fd(fd.get(), &sizes, &size); r < 0) return refused(-r, what);
    if (sizes.jited_prog_len == 0) return std::optional<JitedProgram>();  // interpreted
    if (sizes.jited_prog_len > kMostCode || sizes.nr_jited_ksyms > kMostFunctions ||
        sizes.nr_jited_func_lens > kMostFunctions || sizes.nr_prog_tags > kMostFunctions)
      return Error{
          Errc::too_large,
          what + " is larger than the limit",
          std::to_string(sizes.jited_prog_len) + " bytes, " + std::to_string(sizes.nr_jited_ksyms) + " functions",
          {}};
    std::vector<uint8_t> code(sizes.jited_prog_len);
    std::vector<uint64_t> addresses(sizes.nr_jited_ksyms);
    std::vector<uint32_t> lengths(sizes.nr_jited_func_lens);
    std::vector<std::array<uint8_t, BPF_TAG_SIZE>> tags(sizes.nr_prog_tags);
    bpf_prog_info info{};
    const auto at = [](auto& vector) { return reinterpret_cast<uint64_t>(vector.data()); };
    info.jited_prog_len = sizes.jited_prog_len;
    info.jited_prog_insns = at(code);
    info.nr_jited_ksyms = sizes.nr_jited_ksyms;
    info.jited_ksyms = at(addresses);
    info.nr_jited_func_lens = sizes.nr_jited_func_lens;
    info.jited_func_lens = at(lengths);
    info.nr_prog_tags = sizes.nr_prog_tags;
    info.prog_tags = at(tags);
    size = sizeof info;
    if (const int r = bpf_obj_get_info_by_fd(fd.get(), &info, &size); r < 0) return refused(-r, what);
    // the kernel leaves out the pointers of what it does not show
    if (info.jited_prog_insns == 0 || info.jited_ksyms == 0)
      return Error{Errc::permission, what + " is not shown", "kernel addresses are hidden from this process",
                   "sysctl kernel.kptr_restrict=1, and run as root, or: setcap cap_sys_admin,cap_syslog+ep HINDCASTD"};
    if (info.jited_prog_len != code.size() || info.nr_jited_ksyms != addresses.size() ||
        info.nr_jited_func_lens != lengths.size() || addresses.size() != lengths.size() || addresses.empty() ||
        (addresses.size() > 1 && (info.nr_prog_tags != tags.size() || tags.size() != addresses.size())))
      return Error{Errc::bad_input, what + ": the kernel's answer contradicts itself", {}, {}};
    JitedProgram program;
    program.id = id;
    program.loaded_ns = info.load_time;
    size_t done = 0;
    for (size_t i = 0; i < addresses.size(); ++i) {
      if (lengths[i] > code.size() - done)
        return Error{Errc::bad_input, what + ": its functions are longer than it", {}, {}};
      JitedFunction f;
      f.address = addresses[i];
      if (i == 0)
        f.name = name_of(info.tag, {info.name, strnlen(info.name, sizeof info.name)});
      else
        f.name = name_of(tags[i].data(), "F");  // what perf calls a function whose name it does not know
      f.code.assign(code.begin() + static_cast<ptrdiff_t>(done),
                    code.begin() + static_cast<ptrdiff_t>(done + lengths[i]));
      done += lengths[i];
      program.functions.push_back(std::move(f));
    }
    return std::optional(std::move(program));
  }
};

}  // namespace

JitedPrograms& kernel_programs() {
  static KernelPrograms programs;
  return programs;
}

}  // namespace hindcast::capture
