// A made-up kernel as /proc and /sys show one: kallsyms, modules, kcore (an ELF core file), notes with build-ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hindcast::test {

/// What is added shows with the next write().
class KernelFiles {
 public:
  /// The folders that stand for /proc and /sys; made when they are not there.
  KernelFiles(std::string proc, std::string sys) : proc_(std::move(proc)), sys_(std::move(sys)) {}

  /// type: as nm has it.
  KernelFiles& symbol(uint64_t address, char type, const std::string& name, const std::string& module = {});
  /// A segment of kcore.
  KernelFiles& memory(uint64_t address, std::vector<uint8_t> bytes);
  /// A line of /proc/modules, and its build-id: 20 bytes of `id`.
  KernelFiles& module(const std::string& name, uint64_t bytes, uint64_t address, uint8_t id,
                      const std::string& state = "Live");
  KernelFiles& remove_module(const std::string& name);
  /// The kernel's build-id: 20 bytes of `id`.
  KernelFiles& build_id(uint8_t id);
  void write() const;

  /// A small kernel with a module and what ftrace made; bytes are pseudo-random, none zero.
  ///   text  0xffffffff81000000, two pages and 100 bytes: _stext, schedule at +0x40, do_idle at +0x1080, _etext
  ///   [nf_tables]  0xffffffffc0a00000, its last function at +0x1010, so two pages; nft_do_chain at +0x20
  ///   ftrace_trampoline  0xffffffffc0201000, known by kallsyms alone
  KernelFiles& small_kernel();
  static constexpr uint64_t kText = 0xffffffff81000000, kTextBytes = 0x2064;
  static constexpr uint64_t kModule = 0xffffffffc0a00000, kModuleBytes = 0x2000;
  static constexpr uint64_t kTrampoline = 0xffffffffc0201000;
  /// What memory() was given for this range of one segment.
  std::vector<uint8_t> bytes_at(uint64_t address, uint64_t bytes) const;

  /// An ELF core file of these segments.
  struct Segment {
    uint64_t address;
    std::vector<uint8_t> bytes;
  };
  static std::vector<uint8_t> core_file(const std::vector<Segment>& segments);

 private:
  struct Module {
    std::string name, line;
    uint8_t id;
  };
  std::string proc_, sys_;
  std::string kallsyms_;
  std::vector<Segment> memory_;
  std::vector<Module> modules_;
  std::vector<uint8_t> notes_;
};

}  // namespace hindcast::test
