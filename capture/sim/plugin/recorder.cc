// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/recorder.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/sim/channel.h"
#include "capture/sim/plugin/block_table.h"
#include "capture/sim/plugin/code_pages.h"
#include "capture/sim/plugin/courier.h"
#include "capture/sim/plugin/guest_memory.h"
#include "capture/sim/plugin/signal_tracker.h"
#include "capture/sim/plugin/thread_stream.h"

namespace hindcast::sim {
namespace {

// Of the whole process. Never destroyed: threads run until the kernel ends them.
struct Process {
  std::string socket_path;
  uint64_t guest_low = 0, guest_high = 0;
  BlockTable blocks;
  SignalHandlers handlers;
  CodePages code;
  std::mutex mutex;  // guards what follows
  Courier* courier = nullptr;
  std::atomic<bool> connected = false;
  bool failed = false;   // no daemon: nothing is recorded any more
  bool checked = false;  // the registers are where we look for them
  int parent = 0;        // pid, in a fork's child
  uint32_t first_id = 0;
  std::vector<RingHeader*> rings;
  uint32_t live_threads = 0;
};
Process* process;

// Small enough for the room that glibc keeps for libraries loaded late; the fastest model matters in every block.
[[gnu::tls_model("initial-exec")]] thread_local ThreadStream stream;

// QEMU's mappings are there before the program's. Those of the program lie below them: QEMU places it by its own rules,
// from 0x400000 and from 0x4000000000 up.
uint64_t lowest_mapping() {
  FILE* maps = std::fopen("/proc/self/maps", "re");
  uint64_t low = 0;
  if (!maps || std::fscanf(maps, "%" SCNx64, &low) != 1) low = 0;
  if (maps) std::fclose(maps);
  return low;
}

uint64_t lowest_allowed_mapping() {
  FILE* f = std::fopen("/proc/sys/vm/mmap_min_addr", "re");
  uint64_t low = 0;
  if (!f || std::fscanf(f, "%" SCNu64, &low) != 1) low = kPageBytes;
  if (f) std::fclose(f);
  return low;
}

// A program starts with RSP at argc, argv[], a null, envp[] (System V ABI, AMD64 supplement, "Initial Process Stack").
void check_guest_cpu(const Block& first, const GuestCpu& cpu) {
  uint64_t argc = 0, end_of_argv = 1, argv0 = 0;
  const uint64_t sp = cpu.regs[rsp];
  const bool plausible = cpu.ip == first.ip && sp >= process->guest_low && sp < process->guest_high && sp % 16 == 0 &&
                         read_guest(sp, argc) && argc < (1u << 22) && read_guest(sp + 8 + argc * 8, end_of_argv) &&
                         end_of_argv == 0 && (argc == 0 || (read_guest(sp + 8, argv0) && argv0 != 0));
  if (plausible) return;
  std::fprintf(stderr,
               "hindcast-sim: this QEMU keeps the guest's registers elsewhere, so nothing can be recorded\n"
               "  found   at the first block (0x%" PRIx64 "): ip 0x%" PRIx64 ", rsp 0x%" PRIx64 ", argc %" PRIu64
               "\n"
               "  fix     use qemu-x86_64 7.2 (Debian 12, package qemu-user) on an x86-64 host\n",
               first.ip, cpu.ip, sp, argc);
  _exit(1);
}

bool connect_process() {
  std::lock_guard lock(process->mutex);
  if (process->connected || process->failed) return process->connected;
  process->courier = new Courier;  // the old one is the parent's, and its thread is not here
  Message message;
  message.kind = MessageKind::process;
  message.pid = getpid();
  message.tid = gettid();
  message.value = static_cast<uint64_t>(process->parent);
  message.tsc = time_and_cpu().tsc;
  message.guest_low = process->guest_low;
  message.guest_high = process->guest_high;
  void* defs = nullptr;
  if (process->courier->start(process->socket_path)) {
    defs = process->courier->send_shared(message, kDefsBytes, [](void* p) {
      auto* h = new (p) DefsHeader{};
      h->magic = kChannelMagic;
      h->version = kChannelVersion;
      h->first_id = process->first_id;
    });
  }
  process->failed = defs == nullptr;
  if (!defs) return false;
  process->blocks.set_defs(static_cast<DefsHeader*>(defs), kDefsBytes - kPageBytes, process->first_id);
  process->code.on_connected(*process->courier);
  process->connected = true;
  return true;
}

void open_thread() {
  ThreadStream& t = stream;
  if (!connect_process()) {
    t.ready = true;
    t.switch_off();
    return;
  }
  t.open(*process->courier, getpid(), gettid());
  if (!t.header) return;
  std::lock_guard lock(process->mutex);
  process->rings.push_back(t.header);
  ++process->live_threads;
}

void close_thread() {
  ThreadStream& t = stream;
  if (!t.header) return;
  {
    std::lock_guard lock(process->mutex);
    std::erase(process->rings, t.header);
    --process->live_threads;
  }
  t.close();
}

const Block* last_block() {
  uint32_t id;
  return stream.last_is_block(id) ? &process->blocks.by_id(id) : nullptr;
}

// Says what a signal did to the block before it.
void cut_before_signal(const Block& last, const Delivery& d, uint64_t& ip) {
  ThreadStream& t = stream;
  if (d.fault && d.cause == SIGTRAP) {
    // A trap comes after the instruction; for INT3 a trace names the instruction itself, as not executed.
    if (last.last == InsnClass::breakpoint && d.interrupted == last.end()) {
      t.cut(last.instructions - 1u);
      ip = last.last_ip;
    }
    return;
  }
  if (d.fault) {
    if (!last.contains(d.interrupted)) return;  // the fetch of what comes next, or a signal that was sent
    const int n = last.index_of(d.interrupted);
    if (n < 0) {
      t.push_special(Word::lost, 0, 0);
    } else {
      t.cut(static_cast<uint32_t>(n));
    }
    return;
  }
  // QEMU takes other signals between blocks only, and between the rounds of a repeated string instruction.
  if (last.last == InsnClass::rep_string && d.interrupted == last.last_ip) t.cut(last.instructions - 1u);
}

void signal_arrived(const Block* last, const Delivery& d) {
  uint64_t ip = d.interrupted;
  if (last) cut_before_signal(*last, d, ip);
  stream.push_special(Word::signal, d.signal, time_and_cpu().tsc, ip);
}

// The way of a block that needs more than its word written. Not inlined: the fast way must stay short.
[[gnu::noinline]] void block_with_care(const Block& b, GuestCpu* cpu) {
  ThreadStream& t = stream;
  if (!t.ready) {
    open_thread();
    t.cpu = cpu;
    if (!process->checked) {
      process->checked = true;  // before a second thread exists
      check_guest_cpu(b, *cpu);
    }
  }
  t.cpu = cpu;
  if (t.off) return;
  const Block* last = last_block();
  // QEMU runs a repeated string instruction as one block per round: the next round is the same execution.
  if (b.begins_repeated && last && last->last == InsnClass::rep_string && last->last_ip == b.ip) return;
  if (b.is_handler) {
    Delivery d;
    if (t.signals.is_delivery(process->handlers, b, *cpu, last, t.after_sigreturn, d)) signal_arrived(last, d);
  } else if (b.may_restart && last && last->contains(b.ip)) {
    const int n = last->index_of(b.ip);
    if (n >= 0) t.cut(static_cast<uint32_t>(n));
  }
  if (t.position >= t.limit) t.mark();
  t.push_block(b.id);
}

// Bounds what one translation reports; QEMU's limit is 512 instructions and two pages.
constexpr size_t kMaxInstructions = 1024;
constexpr uint32_t kMaxInstructionBytes = 15;
constexpr uint64_t kVsyscallPage = 0xffffffffff600000;

void fork_prepare() {
  process->mutex.lock();
  process->handlers.mutex().lock();
  process->code.mutex().lock();
  process->blocks.mutex().lock();
}

void fork_parent() {
  process->blocks.mutex().unlock();
  process->code.mutex().unlock();
  process->handlers.mutex().unlock();
  process->mutex.unlock();
}

// The child has the parent's blocks and generated code, and must not touch the parent's rings. It connects with its
// first event, when QEMU's own fork handling is through.
void fork_child() {
  for (RingHeader* ring : process->rings) munmap(ring, ThreadStream::kMapBytes);
  process->rings.clear();
  process->live_threads = 0;
  process->connected = false;
  process->parent = getppid();
  process->first_id = process->blocks.count();
  process->blocks.forget_defs();
  ThreadStream& t = stream;
  t.switch_off();
  t.ready = false;
  t.limit = 0;
  fork_parent();
}

}  // namespace

// Every block of every thread comes here: about 2 ns.
extern "C" [[gnu::visibility("hidden")]] void hindcast_channel_block(unsigned, Block* b, GuestCpu* cpu) {
  ThreadStream& t = stream;
  const uint32_t word = b->word.load(std::memory_order_relaxed);
  if (t.position >= t.limit || (word & Block::kSecondLook)) [[unlikely]] {
    block_with_care(*b, cpu);
    return;
  }
  t.push_block(word);
}

void recorder_start(const std::string& socket_path) {
  process = new Process;
  process->socket_path = socket_path;
  process->guest_low = lowest_allowed_mapping();
  process->guest_high = lowest_mapping();
  pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void recorder_translated(qemu_plugin_tb* tb) {
  if (process->failed) return;
  const uint64_t ip = qemu_plugin_tb_vaddr(tb);
  const size_t n = std::min(qemu_plugin_tb_n_insns(tb), kMaxInstructions);
  if (n == 0 || ip >= kVsyscallPage) return;  // that page's code is not run but emulated
  uint8_t code[kMaxInstructions * kMaxInstructionBytes];
  uint8_t lengths[kMaxInstructions];
  uint32_t bytes = 0;
  uint16_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
    size_t size = qemu_plugin_insn_size(insn);
    const uint64_t at = ip + bytes;
    const uint8_t* data = static_cast<const uint8_t*>(qemu_plugin_insn_data(insn));
    uint8_t whole[kMaxInstructionBytes];
    if (i + 1 == n) {
      // QEMU ends a block before an instruction that crosses a page, yet reports what it had read of it.
      const size_t readable = read_guest_bytes(at, whole, sizeof whole);
      const InsnInfo info = inspect_instruction(at, whole, readable);
      const bool crosses = at / kPageBytes != (at + std::max<size_t>(info.length, 1) - 1) / kPageBytes;
      if (i > 0 && (crosses || size == 0)) break;
      if (info.length > size) {
        size = info.length;
        data = whole;
      }
    }
    if (size == 0 || size > kMaxInstructionBytes) break;
    std::memcpy(code + bytes, data, size);
    lengths[count++] = static_cast<uint8_t>(size);
    bytes += static_cast<uint32_t>(size);
  }
  if (count == 0) return;
  Block* b = process->blocks.intern(ip, code, static_cast<uint16_t>(bytes), lengths, count);
  if (!b) {
    process->failed = true;
    return;
  }
  process->code.on_block(b->id, ip, ip + bytes, process->connected ? process->courier : nullptr, [b] {
    // What such blocks say of the block before must stand directly behind it.
    const bool no_mark = b->may_restart || b->is_handler || !stream.ready;
    return no_mark ? time_and_cpu().tsc : stream.mark();
  });
  qemu_plugin_register_vcpu_tb_exec_cb(tb, reinterpret_cast<qemu_plugin_vcpu_udata_cb_t>(hindcast_channel_block_entry),
                                       QEMU_PLUGIN_CB_NO_REGS, b);
}

void recorder_syscall(int64_t number, const uint64_t* args) {
  ThreadStream& t = stream;
  if (!t.ready || t.off) return;
  const Block* last = last_block();
  if (last && last->last == InsnClass::soft_int) {
    t.cut(last->instructions - 1u);
    t.push_special(Word::signal, 0, time_and_cpu().tsc, last->last_ip);
    t.in_soft_interrupt = true;
  } else {
    t.push_special(Word::syscall_enter, static_cast<uint32_t>(number), time_and_cpu().tsc);
  }
  switch (number) {
    case SYS_rt_sigaction:
      if (const uint64_t handler = process->handlers.on_sigaction(args[0], args[1]))
        process->blocks.mark_handler(handler);
      break;
    case SYS_rt_sigreturn:
      if (t.cpu) t.signals.on_sigreturn(t.cpu->regs[rsp]);
      break;
    case SYS_mmap:
    case SYS_madvise:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_pkey_mprotect:
    case SYS_mremap:
      process->code.on_syscall(number, args, *process->courier);
      break;
    case SYS_exit:
      close_thread();
      break;
    case SYS_exit_group:
      close_thread();
      break;
    default:
      break;
  }
}

void recorder_syscall_returned(int64_t number) {
  ThreadStream& t = stream;
  if (!t.ready) open_thread();  // a fork's child
  if (t.off) return;
  if (t.in_soft_interrupt) {
    t.in_soft_interrupt = false;
  } else {
    const TimeAndCpu now = time_and_cpu();
    t.push_special(Word::syscall_return, now.cpu, now.tsc);
    t.after_sigreturn = number == SYS_rt_sigreturn;
  }
}

void recorder_exec(bool followed) {
  ThreadStream& t = stream;
  if (!t.ready || t.off) return;
  Message message;
  message.kind = MessageKind::exec;
  message.pid = getpid();
  message.tid = gettid();
  message.value = followed ? 0 : 1;
  message.tsc = time_and_cpu().tsc;
  process->courier->send(message);
}

void recorder_fatal_signal(int signal) {
  ThreadStream& t = stream;
  if (!t.header || !t.cpu) return;
  Delivery d;
  d.signal = d.cause = static_cast<uint32_t>(signal);
  d.interrupted = t.cpu->ip;
  const Block* last = last_block();
  // Whether the instruction raised it or somebody sent it cannot be seen here. Both agree where it struck, unless the
  // block might have run to its end and begun again there.
  const bool fault_signal =
      signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE || signal == SIGTRAP;
  d.fault = fault_signal;
  if (fault_signal && last && last->contains(d.interrupted) && last->leads_to(d.interrupted)) {
    t.push_special(Word::lost, 0, 0);
    last = nullptr;
  }
  signal_arrived(last, d);
  close_thread();
}

GuestCpu* recorder_cpu() { return stream.cpu; }

}  // namespace hindcast::sim
