// SPDX-License-Identifier: MIT
// Entry of the plugin: arguments, and who hears which of QEMU's callbacks.
//
//   qemu-x86_64 -plugin hindcast-sim.so,channel=SOCKET[,truth=DIR] program ...
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <sys/syscall.h>
#include <unistd.h>

#include "capture/sim/plugin/exec_follow.h"
#include "capture/sim/plugin/fatal_hook.h"
#include "capture/sim/plugin/qemu_plugin_api.h"
#include "capture/sim/plugin/recorder.h"
#include "capture/sim/plugin/truth.h"

namespace hindcast::sim {
namespace {

struct Options {
  std::string channel;  // socket path; empty: none
  std::string truth;    // directory; empty: none
  int close_fd = -1;    // carried over our own execve; the program must not see it
};
Options options;
QemuCommand qemu;

void on_translated(qemu_plugin_id_t, qemu_plugin_tb* tb) {
  if (options.close_fd >= 0) {  // QEMU has read the program from it by now
    close(options.close_fd);
    options.close_fd = -1;
  }
  if (!options.truth.empty()) truth_translated(tb);
  if (!options.channel.empty()) recorder_translated(tb);
}

void follow_exec(int64_t number, const uint64_t* args) {
  const char* own_path = qemu_plugin_path_to_binary();
  const ExecRequest request = read_exec_request(number, args, own_path ? own_path : "");
  std::free(const_cast<char*>(own_path));
  if (request.target == ExecTarget::follow || request.target == ExecTarget::foreign) {
    if (!options.channel.empty()) recorder_exec(request.target == ExecTarget::follow);
    if (!options.truth.empty()) truth_exec();
  }
  if (request.target == ExecTarget::follow) {
    exec_under_qemu(qemu, request);
  } else if (request.carried_fd >= 0) {
    close(request.carried_fd);
  }
}

void on_syscall(qemu_plugin_id_t, unsigned, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                uint64_t a5, uint64_t a6, uint64_t, uint64_t) {
  const uint64_t args[6] = {a1, a2, a3, a4, a5, a6};
  // The channel first: the truth may be busy closing files, and the time of the system call is when it is made.
  if (!options.channel.empty()) recorder_syscall(number, args);
  if (!options.truth.empty()) truth_syscall(number, args);
  if (number == SYS_execve || number == SYS_execveat) follow_exec(number, args);
}

void on_syscall_returned(qemu_plugin_id_t, unsigned, int64_t number, int64_t) {
  if (!options.truth.empty()) truth_syscall_returned(number);
  if (!options.channel.empty()) recorder_syscall_returned(number);
}

void on_fatal_signal(int signal) {
  if (!options.truth.empty()) truth_fatal_signal(signal);
  if (!options.channel.empty()) recorder_fatal_signal(signal);
}

bool parse(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const size_t equals = arg.find('=');
    const std::string_view name = arg.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : arg.substr(equals + 1));
    if (name == "channel" && !value.empty()) {
      options.channel = value;
    } else if (name == "truth" && !value.empty()) {
      options.truth = value;
    } else if (name == "closefd" && !value.empty()) {
      options.close_fd = std::atoi(value.c_str());
    } else {
      std::fprintf(stderr, "hindcast-sim: unknown argument '%s'\n  fix     use channel=SOCKET and truth=DIR\n",
                   argv[i]);
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace hindcast::sim

extern "C" {

[[gnu::visibility("default")]] int qemu_plugin_version = 1;

[[gnu::visibility("default")]] int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc,
                                                       char** argv) {
  using namespace hindcast::sim;
  if (!parse(argc, argv)) return -1;
  if (info->system_emulation || std::strcmp(info->target_name, "x86_64") != 0) {
    std::fprintf(
        stderr,
        "hindcast-sim: made for user-mode programs of x86-64\n  found   target %s%s\n  fix     use qemu-x86_64\n",
        info->target_name, info->system_emulation ? ", a whole system" : "");
    return -1;
  }
  qemu = read_qemu_command();
  if (!options.channel.empty()) recorder_start(options.channel);
  if (!options.truth.empty()) truth_start(options.truth);
  if (!hook_fatal_signals(on_fatal_signal)) {
    std::fprintf(stderr,
                 "hindcast-sim: QEMU's call of kill() was not found: where a fatal signal strikes will not be known\n");
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_vcpu_syscall_ret_cb(id, on_syscall_returned);
  return 0;
}

}  // extern "C"
