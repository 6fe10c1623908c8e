// SPDX-License-Identifier: MIT
// Writes the ground truth (truth_format.h). Shares no code with what writes the channel.
//
// It also works in another way: a callback on every instruction counts how many of a block were begun, so that how far a
// block ran is seen and not concluded.
#pragma once

#include <cstdint>
#include <string>

#include "capture/sim/plugin/qemu_plugin_api.h"

namespace hindcast::sim {

/// directory must exist. Called once, before the program runs.
void truth_start(const std::string& directory);
void truth_translated(qemu_plugin_tb* tb);
void truth_syscall(int64_t number, const uint64_t* args);
void truth_syscall_returned(int64_t number);
/// The execve that truth_syscall() saw is about to start a program.
void truth_exec();
void truth_fatal_signal(int signal);

}  // namespace hindcast::sim
