// A made-up machine with a kernel of its own: one CPU, processes with threads and different code at the same addresses, system
// calls, interrupts, context switches; traced as hardware traces user and kernel, with the records that the kernel writes. Every
// instruction that ran is known, with its thread and time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/random_program.h"
#include "tests/support/tiny_host.h"

namespace hindcast::test {

class TinyOs {
 public:
  struct Options {
    bool ret_compression = true;
    bool separate_tables = false;  // the kernel has page tables of its own: CR3 changes where it is entered and left
    bool maps = false;             // processes map other code over what they have
    bool pokes = false;            // the kernel changes its code
    bool overflows = false;        // and packets are lost
    bool kernel_code_known = true;
    unsigned processes = 3, threads = 2;  // of each
    unsigned slice = 6000;                // ticks between two interrupts that switch
    unsigned psb_every = 4096;            // bytes
  };
  struct Ran {
    uint64_t ip = 0;
    Tid tid;
    uint64_t time = 0;
  };

  TinyOs(uint64_t seed, const Options& options);
  void run(size_t instructions);
  /// The snapshot so far.
  TinyHost host() const;
  const std::vector<Ran>& ran() const { return ran_; }
  /// When a switch was under way, or code was changed.
  const std::vector<uint64_t>& unsure() const { return unsure_; }
  std::vector<Tid> tids() const;
  bool loses() const { return options_.overflows; }

  static constexpr uint64_t kKernel = 0xffff'ffff'8100'0000, kUser = 0x40'0000, kLibrary = 0x7f00'0000'0000;

 private:
  struct Process {
    int32_t pid = 0;
    uint64_t cr3 = 0;
    std::vector<uint8_t> code;
    std::vector<std::vector<uint8_t>> libraries;  // mapped one over the other
    std::vector<std::string> paths;               // of the code and of each library
  };
  struct Thread {
    size_t process = 0;
    int32_t tid = 0;
    std::vector<uint64_t> stack;
    uint64_t user_ip = 0;  // where the kernel returns to
    uint64_t ip = 0;
  };

  void step();
  void interrupt();
  void set_cr3(uint64_t cr3);
  void map_library(size_t process);
  void poke();
  void tick(uint64_t ticks);
  void psb();
  void overflow();
  void flush();
  void bit(bool taken);
  void tip(uint64_t ip);
  uint8_t byte(uint64_t ip) const;
  Thread& self() { return threads_[current_]; }
  Process& own() { return processes_[self().process]; }
  static bool in_kernel(uint64_t ip) { return ip >> 63; }

  const Options options_;
  Random random_;
  std::vector<Process> processes_;
  std::vector<Thread> threads_;
  std::vector<uint8_t> kernel_;
  size_t entry_ = 0, interrupt_ = 0, switch_ = 0, stack_switch_ = 0, maybe_ = 0, switched_ = 0, poked_ = 0;
  size_t current_ = 0, next_ = 0;
  bool wants_switch_ = false;
  uint64_t now_ = 100000, next_mtc_ = 0, next_switch_ = 0;
  uint64_t cr3_ = 0;
  uint64_t last_psb_ = 0;
  uint64_t lost_from_ = 0, lost_until_ = 0;  // bytes; time. 0: nothing is being lost
  std::vector<uint64_t> calls_;              // those that the CPU remembers
  std::string bits_;
  PtBytes trace_;
  PerfBytes records_;
  std::vector<Ran> ran_;
  std::vector<uint64_t> unsure_;
};

}  // namespace hindcast::test
