// SPDX-License-Identifier: MIT
// execve under capture: the new program starts under QEMU and this plugin again, not on the bare CPU.
//
// QEMU's user mode passes execve to the kernel as it is, so the new program would run natively, unseen. Instead, the
// plugin does the execve of an x86-64 program itself when the system call is about to be done.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hindcast::sim {

/// How QEMU was started: its path and the options to start it with again, with this plugin's.
struct QemuCommand {
  std::string path;
  std::vector<std::string> options;
};

/// From /proc/self; call it before the program runs. Options that
/// belong to one start only (the environment's, argv[0]) are left out.
QemuCommand read_qemu_command();

enum class ExecTarget : uint8_t {
  follow,   // an x86-64 program, or a script whose interpreter is one
  foreign,  // the kernel will run it, but we cannot
  fails,    // the kernel will refuse
};

/// What a guest's execve or execveat names.
struct ExecRequest {
  ExecTarget target = ExecTarget::fails;
  std::string path;               // of the program (a script's interpreter)
  std::vector<std::string> argv;  // as the program will see it
  std::vector<std::string> envp;
  int carried_fd = -1;  // a descriptor to keep open over the exec: the program is one without a name
};

/// Reads the system call's arguments from guest memory. own_path is what /proc/self/exe means to the guest.
ExecRequest read_exec_request(int64_t number, const uint64_t* args, const std::string& own_path);

/// The argument and environment lists that start it under QEMU.
void qemu_start(const QemuCommand& qemu, const ExecRequest& request, std::vector<std::string>& argv,
                std::vector<std::string>& envp);

/// Does not return when it succeeds. When the kernel refuses, everything is as before.
void exec_under_qemu(const QemuCommand& qemu, const ExecRequest& request);

}  // namespace hindcast::sim
