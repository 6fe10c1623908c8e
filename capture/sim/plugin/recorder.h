// SPDX-License-Identifier: MIT
// What runs in a process becomes words in the channel: the plugin's callbacks, but for the truth.
#pragma once

#include <cstdint>
#include <string>

#include "capture/sim/plugin/exec_follow.h"
#include "capture/sim/plugin/guest_cpu.h"
#include "capture/sim/plugin/qemu_plugin_api.h"

namespace hindcast::sim {

/// To be called once, before the program runs. socket_path is the daemon's.
void recorder_start(const std::string& socket_path);

/// A block has been translated; its executions are recorded from now on.
void recorder_translated(qemu_plugin_tb* tb);

// On the thread that does the system call.
void recorder_syscall(int64_t number, const uint64_t* args);
void recorder_syscall_returned(int64_t number);
/// The execve that recorder_syscall() saw is about to start a program; followed: under this plugin again.
void recorder_exec(bool followed);

/// A signal whose default action ends the process is about to do so; the calling thread is the one it came to.
void recorder_fatal_signal(int signal);

/// The calling thread's registers; null before its first block.
GuestCpu* recorder_cpu();

}  // namespace hindcast::sim
