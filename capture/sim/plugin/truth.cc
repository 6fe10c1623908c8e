// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/truth.h"

#include <algorithm>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <capstone/capstone.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "capture/sim/plugin/guest_cpu.h"
#include "capture/sim/plugin/truth_file.h"

namespace hindcast::sim {
namespace {

struct Insn {
  uint64_t ip;
  uint8_t length;
  TruthClass kind;
  bool repeated;  // a string instruction with REP
  bool trap;      // INT3
  bool soft_int;  // INT n
  uint64_t jump;  // where a direct jump goes, else 0
};

// Immutable once made, but for the flag.
struct Piece {
  uint32_t number;
  std::vector<Insn> insns;
  std::vector<uint8_t> bytes;
  uint64_t end() const { return insns.back().ip + insns.back().length; }
};

struct World {
  std::string directory;
  std::mutex mutex;
  std::multimap<uint64_t, Piece*> pieces;
  std::vector<Piece*> by_number;
  std::set<std::pair<uint64_t, uint64_t>> handlers;  // address, restorer
  std::set<uint64_t> with_siginfo;                   // signals; the others leave the siginfo's place as it was
  TruthFile blocks;
  bool begun = false;
  int parent = 0;
  csh capstone = 0;
};
World* world;

struct TruthThread {
  const Piece* piece = nullptr;  // begun last; null when what came after it is written already
  uint32_t started = 0;          // instructions of it that began
  uint32_t until_mark = 0;
  bool ready = false;
  bool ended = false;
  bool sigreturned = false;  // nothing ran since rt_sigreturn
  GuestCpu* cpu = nullptr;
  TruthFile* file = nullptr;
  std::vector<uint64_t>* running = nullptr;  // frames of handlers that began
  std::vector<uint64_t>* waiting = nullptr;  // frames of handlers that were delivered below another
};
[[gnu::tls_model("initial-exec")]] thread_local TruthThread self;

constexpr uint32_t kBlocksPerMark = 64;

uint64_t read_clock(uint32_t& cpu) {
  unsigned aux;
  const uint64_t tsc = __builtin_ia32_rdtscp(&aux);
  cpu = aux & 0xfff;
  return tsc;
}

size_t peek(uint64_t address, void* to, size_t n) {
  iovec mine{to, n};
  iovec theirs{reinterpret_cast<void*>(address), n};
  const ssize_t got = process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

// The classes that the truth tells apart, from the opcode behind the prefixes.
Insn classify(uint64_t ip, const uint8_t* b, size_t n) {
  Insn insn{ip, static_cast<uint8_t>(n), TruthClass::other, false, false, false, 0};
  size_t i = 0;
  bool rep = false;
  for (; i < n; ++i) {
    const uint8_t c = b[i];
    if (c == 0xf2 || c == 0xf3) {
      rep = true;
    } else if (c != 0x66 && c != 0x67 && c != 0xf0 && c != 0x26 && c != 0x2e && c != 0x36 && c != 0x3e && c != 0x64 &&
               c != 0x65) {
      break;
    }
  }
  if (i < n && (b[i] & 0xf0) == 0x40) ++i;  // REX
  if (i >= n) return insn;
  const uint8_t op = b[i];
  const int reg = i + 1 < n ? b[i + 1] >> 3 & 7 : 0;
  insn.repeated = rep && ((op >= 0x6c && op <= 0x6f) || (op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf));
  insn.trap = op == 0xcc || op == 0xf1;
  insn.soft_int = op == 0xcd;
  if (op == 0xe8 || op == 0x9a || (op == 0xff && (reg == 2 || reg == 3))) insn.kind = TruthClass::call;
  if (op == 0xc3 || op == 0xc2 || op == 0xcb || op == 0xca) insn.kind = TruthClass::ret;
  if (op == 0xeb || (op & 0xf0) == 0x70 || (op >= 0xe0 && op <= 0xe3)) {
    insn.jump = ip + n + static_cast<uint64_t>(int64_t{static_cast<int8_t>(b[n - 1])});
  }
  if (n >= 5 && (op == 0xe9 || (op == 0x0f && i + 1 < n && (b[i + 1] & 0xf0) == 0x80))) {
    int32_t distance;
    std::memcpy(&distance, b + n - 4, 4);
    insn.jump = ip + n + static_cast<uint64_t>(int64_t{distance});
  }
  return insn;
}

// True when the bytes at ip, as a whole instruction, reach into the next page: QEMU then did not take it into the block,
// though it is in the list.
bool left_out(uint64_t ip, size_t reported) {
  if (reported == 0) return true;
  if ((ip & 0xfff) + 15 <= 0x1000) return false;
  uint8_t b[15];
  const size_t n = peek(ip, b, sizeof b);
  const uint8_t* code = b;
  size_t left = n;
  uint64_t address = ip;
  cs_insn* out = cs_malloc(world->capstone);
  const bool known = cs_disasm_iter(world->capstone, &code, &left, &address, out);
  const size_t length = known ? out->size : reported;
  cs_free(out, 1);
  return (ip & 0xfff) + length > 0x1000;
}

void write_entry(const Piece& p) {
  const TruthBlock head{p.number, static_cast<uint32_t>(p.insns.size())};
  world->blocks.append(&head, sizeof head);
  for (const Insn& i : p.insns) {
    const TruthInstruction t{i.ip, i.length, i.kind, {}};
    world->blocks.append(&t, sizeof t);
  }
}

TruthHeader header_for(int tid) {
  TruthHeader h{};
  uint32_t cpu;
  h.magic = kTruthMagic;
  h.version = kTruthVersion;
  h.pid = getpid();
  h.tid = tid;
  h.tsc = read_clock(cpu);
  return h;
}

void complain(const char* what) {
  static bool once;
  if (std::exchange(once, true)) return;
  std::fprintf(stderr, "hindcast-sim: cannot write %s in %s: there will be no ground truth of it\n", what,
               world->directory.c_str());
}

// The process's blocks file. With the lock held.
void begin_process() {
  if (world->begun) return;
  world->begun = true;
  TruthHeader h = header_for(0);
  h.parent_pid = world->parent;
  if (!world->blocks.create(world->directory, std::to_string(h.pid), "blocks", h)) complain("a blocks file");
  for (const Piece* p : world->by_number) write_entry(*p);
}

void begin_thread() {
  TruthThread& t = self;
  std::lock_guard lock(world->mutex);
  begin_process();
  const TruthHeader h = header_for(gettid());
  t.file = new TruthFile;
  t.running = new std::vector<uint64_t>;
  t.waiting = new std::vector<uint64_t>;
  const std::string stem =
      std::to_string(h.pid) + "." + std::to_string(world->blocks.sequence()) + "." + std::to_string(h.tid);
  if (!t.file->create(world->directory, stem, "thread", h)) complain("a thread's file");
  t.ready = true;
  t.ended = false;
  t.until_mark = 0;
}

void put(TruthWord type, uint32_t low24) { self.file->append_word(truth_word(type, low24)); }
void put64(uint64_t v) {
  self.file->append_word(static_cast<uint32_t>(v));
  self.file->append_word(static_cast<uint32_t>(v >> 32));
}
void put_timed(TruthWord type, uint32_t low24) {
  uint32_t cpu;
  const uint64_t tsc = read_clock(cpu);
  put(type, low24);
  put64(tsc);
}

// The block begun last is over: `executed` of its instructions count.
void settle(size_t executed) {
  TruthThread& t = self;
  if (t.piece && executed != t.piece->insns.size()) put(TruthWord::partial, static_cast<uint32_t>(executed));
  t.piece = nullptr;
}

bool has(const std::vector<uint64_t>& v, uint64_t x) { return std::find(v.begin(), v.end(), x) != v.end(); }

bool is_handler(uint64_t address, uint64_t restorer) {
  std::lock_guard lock(world->mutex);
  return world->handlers.count({address, restorer}) != 0;
}

struct Arrival {
  uint32_t signal;
  uint64_t from;
  bool fault;  // what stands at `from` raised it
};

// A handler's first block is about to run; is it because a signal came?
bool signal_came(const Piece& p, const GuestCpu& cpu, Arrival& a) {
  TruthThread& t = self;
  const uint64_t sp = cpu.regs[rsp];
  GuestSignalFrame f;
  if (cpu.regs[rdx] != sp + 8 || cpu.regs[rax] != 0) return false;
  if (peek(sp, &f, sizeof f) != sizeof f || !is_handler(p.insns[0].ip, f.restorer)) return false;
  const uint64_t now[] = {cpu.regs[rbx], cpu.regs[rbp], cpu.regs[rcx], cpu.regs[r8],  cpu.regs[r9], cpu.regs[r10],
                          cpu.regs[r11], cpu.regs[r12], cpu.regs[r13], cpu.regs[r14], cpu.regs[r15]};
  const uint64_t saved[] = {f.rbx, f.rbp, f.rcx, f.r8, f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15};
  if (std::memcmp(now, saved, sizeof now) != 0) return false;
  if (t.sigreturned && has(*t.waiting, sp)) {
    std::erase(*t.waiting, sp);
    t.running->push_back(sp);
    return false;
  }
  if (has(*t.running, sp)) {
    if (t.piece && t.piece->insns.back().jump == p.insns[0].ip) return false;  // the handler loops to its start
  } else {
    t.running->push_back(sp);
    if (t.running->size() > 64) t.running->erase(t.running->begin());  // left by longjmp
  }
  a.signal = static_cast<uint32_t>(cpu.regs[rdi]);
  uint64_t info = cpu.regs[rsi], number = cpu.regs[rdi];
  for (int depth = 0; depth < 32; ++depth) {
    GuestSignalFrame outer;
    if (f.rdx != f.rsp + 8 || has(*t.running, f.rsp) || peek(f.rsp, &outer, sizeof outer) != sizeof outer ||
        !is_handler(f.rip, outer.restorer)) {
      break;
    }
    if (!has(*t.waiting, f.rsp)) t.waiting->push_back(f.rsp);
    info = f.rsi;
    number = f.rdi;
    f = outer;
  }
  bool sent = false;
  int32_t words[3] = {};  // si_signo, si_errno, si_code
  {
    std::lock_guard lock(world->mutex);
    sent = world->with_siginfo.count(number) != 0;
  }
  sent = sent && peek(info, words, sizeof words) == sizeof words && words[2] <= 0;
  a.from = f.rip;
  a.fault = !sent && (number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL);
  if (number == SIGTRAP && !sent && t.piece && t.started > 0) {
    const Insn& last = t.piece->insns[t.started - 1];
    if (last.trap && a.from == last.ip + last.length) {
      a.from = last.ip;
      a.fault = true;
    }
  }
  return true;
}

// How many instructions of the last block had been executed when control stood at `from`.
size_t executed_at(uint64_t from, bool fault) {
  const TruthThread& t = self;
  const size_t n = t.piece->insns.size();
  if (t.started < n) return t.started > 0 ? t.started - 1 : 0;  // only the one that began last can have failed
  const Insn& last = t.piece->insns[n - 1];
  return from == last.ip && (fault || last.repeated) ? n - 1 : n;
}

void fork_lock() { world->mutex.lock(); }
void fork_unlock() { world->mutex.unlock(); }
void fork_child() {
  world->blocks = TruthFile();
  world->begun = false;
  world->parent = getppid();
  self.ready = false;
  self.file = nullptr;
  fork_unlock();
}

void count_instruction(unsigned, void*) { ++self.started; }

}  // namespace

extern "C" [[gnu::visibility("hidden")]] void hindcast_truth_block(unsigned, const Piece* p, GuestCpu* cpu) {
  TruthThread& t = self;
  if (!t.ready) begin_thread();
  t.cpu = cpu;
  if (t.ended) return;
  const Insn& first = p->insns[0];
  if (t.piece) {
    const size_t n = t.piece->insns.size();
    const Insn& last = t.piece->insns[n - 1];
    if (t.started == n && last.repeated && last.ip == first.ip) {
      --t.started;  // its next round: the instruction's callback counts it again
      return;
    }
  }
  bool told = false;
  {
    // Asked for every block that may be a handler: few begin with RDX just above RSP.
    Arrival a;
    if (cpu->regs[rdx] == cpu->regs[rsp] + 8 && signal_came(*p, *cpu, a)) {
      if (t.piece) settle(executed_at(a.from, a.fault));
      uint32_t cpu_number;
      const uint64_t tsc = read_clock(cpu_number);
      put(TruthWord::signal, a.signal);
      put64(a.from);
      put64(tsc);
      told = true;
    }
  }
  if (!told && t.piece) {
    const size_t n = t.piece->insns.size();
    const Insn& last = t.piece->insns[n - 1];
    // QEMU gave the block up and does its last instruction again, alone.
    const bool again = t.started < n || (last.ip == first.ip && p->insns.size() == 1 &&
                                         last.kind == TruthClass::other && last.jump == 0);
    settle(again ? t.started - 1 : n);
  }
  if (t.until_mark == 0) {
    uint32_t cpu_number;
    const uint64_t tsc = read_clock(cpu_number);
    put(TruthWord::mark, cpu_number);
    put64(tsc);
    t.until_mark = kBlocksPerMark;
  }
  --t.until_mark;
  t.sigreturned = false;
  t.file->append_word(p->number);
  t.piece = p;
  t.started = 0;
}

void truth_start(const std::string& directory) {
  world = new World;
  world->directory = directory;
  if (cs_open(CS_ARCH_X86, CS_MODE_64, &world->capstone) != CS_ERR_OK) complain("anything without Capstone");
  pthread_atfork(fork_lock, fork_unlock, fork_child);
}

void truth_translated(qemu_plugin_tb* tb) {
  const size_t n = qemu_plugin_tb_n_insns(tb);
  const uint64_t start = qemu_plugin_tb_vaddr(tb);
  if (n == 0 || start >= 0xffffffffff600000) return;  // the vsyscall page is emulated, not run
  std::lock_guard lock(world->mutex);
  auto made = std::make_unique<Piece>();
  for (size_t i = 0; i < n; ++i) {
    qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
    const uint64_t ip = qemu_plugin_insn_vaddr(insn);
    const size_t size = qemu_plugin_insn_size(insn);
    if (i > 0 && i + 1 == n && left_out(ip, size)) break;
    const uint8_t* data = static_cast<const uint8_t*>(qemu_plugin_insn_data(insn));
    made->insns.push_back(classify(ip, data, size));
    made->bytes.insert(made->bytes.end(), data, data + size);
  }
  const Piece* piece = nullptr;
  for (auto [at, end] = world->pieces.equal_range(start); at != end; ++at) {
    if (at->second->bytes == made->bytes && at->second->insns.size() == made->insns.size()) piece = at->second;
  }
  if (!piece) {
    made->number = static_cast<uint32_t>(world->by_number.size() + 1);
    Piece* kept = made.release();  // generated code holds its address
    world->pieces.emplace(start, kept);
    world->by_number.push_back(kept);
    piece = kept;
    if (world->begun) {
      write_entry(*kept);
    } else {
      begin_process();
    }
  }
  qemu_plugin_register_vcpu_tb_exec_cb(tb, reinterpret_cast<qemu_plugin_vcpu_udata_cb_t>(hindcast_truth_block_entry),
                                       QEMU_PLUGIN_CB_NO_REGS, const_cast<Piece*>(piece));
  for (size_t i = 0; i < piece->insns.size(); ++i) {
    qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_tb_get_insn(tb, i), count_instruction, QEMU_PLUGIN_CB_NO_REGS,
                                           nullptr);
  }
}

void truth_syscall(int64_t number, const uint64_t* args) {
  TruthThread& t = self;
  if (!t.ready || t.ended) return;
  const bool by_int = t.piece && t.piece->insns.back().soft_int;
  const uint64_t at = t.piece ? t.piece->insns.back().ip : 0;
  if (t.piece) settle(t.piece->insns.size() - (by_int ? 1 : 0));
  if (by_int) {
    uint32_t cpu;
    const uint64_t tsc = read_clock(cpu);
    put(TruthWord::signal, 0);
    put64(at);
    put64(tsc);
  } else {
    put_timed(TruthWord::syscall_enter, static_cast<uint32_t>(number));
  }
  GuestSigaction action;
  if (number == SYS_rt_sigaction && args[1] != 0 && peek(args[1], &action, sizeof action) == sizeof action &&
      action.handler > 1) {
    std::lock_guard lock(world->mutex);
    world->handlers.insert({action.handler, action.restorer});
    world->with_siginfo.erase(args[0]);
    if (action.flags & SA_SIGINFO) world->with_siginfo.insert(args[0]);
  }
  if (number == SYS_rt_sigreturn && t.cpu) std::erase(*t.running, t.cpu->regs[rsp] - 8);
  if (number == SYS_exit || number == SYS_exit_group) {
    put_timed(TruthWord::end, 0);
    t.ended = true;
    t.file->close();
  }
}

void truth_syscall_returned(int64_t number) {
  TruthThread& t = self;
  if (!t.ready) begin_thread();  // a fork's child
  if (t.ended) return;
  uint32_t cpu;
  const uint64_t tsc = read_clock(cpu);
  put(TruthWord::syscall_return, cpu);
  put64(tsc);
  t.sigreturned = number == SYS_rt_sigreturn;
}

void truth_exec() {
  if (self.ready && !self.ended) put_timed(TruthWord::end, 0);
}

void truth_fatal_signal(int signal) {
  TruthThread& t = self;
  if (!t.ready || t.ended || !t.cpu) return;
  const bool can_fault = signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL;
  uint64_t from = t.cpu->ip;
  if (t.piece && t.started > 0) {
    const Insn& last = t.piece->insns[t.started - 1];
    const bool trap = signal == SIGTRAP && last.trap && from == last.ip + last.length;
    if (trap) from = last.ip;
    settle(executed_at(from, can_fault || trap));
  }
  uint32_t cpu;
  const uint64_t tsc = read_clock(cpu);
  put(TruthWord::signal, static_cast<uint32_t>(signal));
  put64(from);
  put64(tsc);
  put_timed(TruthWord::end, 0);
  t.ended = true;
}

}  // namespace hindcast::sim
