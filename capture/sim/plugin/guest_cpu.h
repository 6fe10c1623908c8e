// SPDX-License-Identifier: MIT
// The guest's registers, as the code that QEMU generates keeps them.
//
// The plugin interface, version 1, gives no registers. On an x86-64 host TCG keeps the address of CPUX86State in RBP
// (TCG_AREG0) while generated code runs, and every register is stored there when a block starts. CPUX86State begins with
// the members below (target/i386/cpu.h). Nobody promised this: check_guest_cpu() refuses a QEMU where it is not so.
#pragma once

#include <cstdint>

namespace hindcast::sim {

enum GuestRegister { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };

struct GuestCpu {
  uint64_t regs[16];  // by GuestRegister
  uint64_t ip;        // current when QEMU has left generated code, or is about to enter it from its main loop
  uint64_t flags;
};

/// What stands at the stack pointer when a signal handler begins: QEMU's struct rt_sigframe, which is the kernel's.
/// Source: linux/arch/x86/include/asm/sigframe.h and uapi/asm/sigcontext.h.
struct GuestSignalFrame {
  uint64_t restorer;
  uint64_t uc_flags, uc_link, ss_sp, ss_flags, ss_size;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
};
static_assert(sizeof(GuestSignalFrame) == 184);

/// The kernel's struct sigaction, as rt_sigaction takes it.
struct GuestSigaction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

// Called by generated code with two arguments; they pass RBP on as the third and continue at the function they are
// named after (block_entry.cc).
extern "C" void hindcast_channel_block_entry(unsigned vcpu_index, void* block);
extern "C" void hindcast_truth_block_entry(unsigned vcpu_index, void* block);

}  // namespace hindcast::sim
