// Programs that are made up, and a CPU that runs and traces them: every instruction that ran is known.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/support/pt_bytes.h"

namespace hindcast::test {

using Random = std::mt19937_64;

inline size_t below(Random& random, size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); }
inline bool one_in(Random& random, size_t n) { return below(random, n) == 0; }

/// Blocks of machine code, one behind the other, each a few NOPs and an instruction that ends it. The bytes mean the same
/// in 32-bit and 64-bit mode, and instruction i of a unit lies at ip + i.
struct RandomProgram {
  enum class Ends : uint8_t {
    branch,
    jump,
    call,  // up to here those with a target of their own
    ret,
    indirect_jump,
    indirect_call,
    far_return,  // from here on only where there is a kernel
    syscall,
    ptwrite,
    mov_cr3,
    vmptrld,
  };
  struct Unit {
    uint64_t ip = 0, behind = 0;
    Ends ends = Ends::ret;
    uint32_t instructions = 0;
    size_t to = 0;  // of direct ones
    double taken = 0;
  };
  std::vector<Unit> units;
  std::vector<uint8_t> code;
  uint64_t base = 0;

  RandomProgram(Random& random, size_t n, uint64_t base, bool kernel);
};

/// A CPU that runs a program from its first unit on and traces, as hardware may.
class RandomCpu {
 public:
  struct Options {
    bool ret_compression = true;
    bool deferred_returns = false;  // TIPs of RETs too may wait for bits of later branches; not with ret_compression
    bool long_tnt = false;          // TNT packets of up to 47 bits
    bool kernel = false;  // control goes on behind events: FUP and TIP, PIP, VMCS, MODE, transactions, PTWRITE, sleep
    bool announces = false;   // a PSB+ may do so of the TIP.PGE behind it, as with erratum BDM70
    bool overflows = false;   // and packets are lost
    bool psbs_apart = false;  // branches used trace between any two while tracing is on
    bool timing = false;
    unsigned events_per_1000 = 0;  // units before or in which something happens
    uint8_t mtc_period = 3;        // one tick of the TSC is one of CTC
  };

  RandomCpu(const RandomProgram& program, Random& random, const Options& options);

  /// PSB+, and tracing is on at the program's first unit: by the PSB's FUP, or by a TIP.PGE behind it.
  void begin();
  /// Runs until that many branches used trace, or it goes round without using any.
  void run(size_t branches);
  /// Tracing goes off, so that all that ran is shown.
  void end();
  /// What waits is sent; nothing shows how it went on.
  void stop();

  const PtBytes& trace() const { return trace_; }
  bool circles() const { return circles_; }

  /// Instructions one behind the other.
  struct Piece {
    uint64_t ip = 0;
    uint32_t count = 0;
  };
  /// Pieces in the order in which they ran. Between two parts something is lost.
  struct Part {
    std::vector<Piece> ran;
    size_t shown = 0;  // pieces that the packets prove
  };
  std::span<const Part> parts() const { return parts_; }

 private:
  using Ends = RandomProgram::Ends;

  void run_unit();
  void leave_at_branch(const RandomProgram::Unit& unit);
  void happen(uint32_t instruction);
  void turn_on(size_t unit, uint32_t instruction);
  void overflow();
  void psb(bool on);
  void timing();
  void mode_of(int bits);
  int some_mode();
  void pip() { trace_.pip(below(random_, 16) << 12); }
  void vmcs() { trace_.vmcs(below(random_, 16) << 12); }
  void flush();
  void bit(bool taken);
  void tip(uint64_t ip, bool may_wait = true);
  void ip_packet(PtBytes& (PtBytes::*packet)(uint64_t, int), uint64_t ip);
  void call(size_t back);
  void used();
  void lose();
  void ran(uint32_t from, uint32_t to);
  size_t any_unit() { return below(random_, program_.units.size()); }
  uint64_t here() const { return program_.units[at_].ip + skip_; }

  const RandomProgram& program_;
  Random& random_;
  const Options options_;
  PtBytes trace_;
  std::vector<Part> parts_ = std::vector<Part>(1);
  bool circles_ = false;

  size_t at_ = 0;                     // the unit that runs
  uint32_t skip_ = 0;                 // and its instructions that ran
  size_t branches_ = 0;               // that may still use trace
  size_t psb_branches_ = ~size_t{0};  // at the last PSB
  std::string bits_;
  std::vector<uint64_t> held_;     // deferred TIPs: bits of what came behind them go first
  std::vector<size_t> calls_;      // all of them
  std::vector<size_t> processor_;  // those that the CPU remembers, at most 64
  uint64_t last_ip_ = 0;
  int mode_ = 1;  // the payload of MODE.Exec
  bool in_transaction_ = false;
  bool ptwrite_traced_;
  bool cr3_set_ = false;  // since trace was used: a TIP.PGD without an address would be its
  uint64_t now_ = 1000, mtc_ = 0, cyc_end_ = 0;
  // Where a FUP stands must be passed once only since trace was used: the first time counts.
  std::vector<uint64_t> passed_;  // per unit: the count of uses when it ran last
  uint64_t uses_ = 1;
  size_t free_ = 0;  // units since then
};

}  // namespace hindcast::test
