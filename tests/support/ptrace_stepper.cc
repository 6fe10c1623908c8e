#include "tests/support/ptrace_stepper.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <unordered_map>

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hindcast/fd.h"

namespace hindcast::test {
namespace {

enum class Kind { plain, repeated, trap, jump };

// What a stop after this instruction needs to know of it.
Kind kind_of(const uint8_t* b, size_t n) {
  size_t i = 0;
  bool repeat = false;
  while (i < n && std::strchr("\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65", b[i]) && b[i] != 0) {
    repeat |= b[i] == 0xf2 || b[i] == 0xf3;
    ++i;
  }
  if (i < n && (b[i] & 0xf0) == 0x40) ++i;
  if (i >= n) return Kind::plain;
  const uint8_t op = b[i];
  if (op == 0xcc || op == 0xcd || op == 0xf1) return Kind::trap;
  if (repeat && ((op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf) || (op >= 0x6c && op <= 0x6f)))
    return Kind::repeated;
  if (op == 0xeb || op == 0xe9 || (op >= 0xe0 && op <= 0xe3) || (op & 0xf0) == 0x70 || op == 0x0f || op == 0xff)
    return Kind::jump;
  return Kind::plain;
}

Kind read_kind(pid_t pid, uint64_t at) {
  uint8_t code[15] = {};
  size_t want = sizeof code;
  ssize_t n = -1;
  for (int tries = 0; tries < 2 && n < 0; ++tries) {
    iovec mine{code, want}, theirs{reinterpret_cast<void*>(at), want};
    n = process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
    want = std::min<size_t>(want, 4096 - at % 4096);  // the next page may be missing
  }
  return kind_of(code, n > 0 ? static_cast<size_t>(n) : 0);
}

// Tracer and tracee take turns: on one CPU each turn is a switch, on two it is a wake-up of the other.
void pin_to_this_cpu() {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
}

struct Tracee {
  pid_t pid;
  ~Tracee() {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
};

}  // namespace

Result<SteppedRun> step_program(const std::vector<std::string>& argv, uint64_t limit,
                                const std::function<void(uint64_t ip)>& executed) {
  std::vector<char*> args;
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  pin_to_this_cpu();
  struct Unpin {
    cpu_set_t& set;
    ~Unpin() { sched_setaffinity(0, sizeof set, &set); }
  } unpin{before};
  const pid_t pid = fork();
  if (pid < 0) return errno_error("cannot fork for", argv[0]);
  if (pid == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(126);
    execv(args[0], args.data());
    _exit(127);
  }
  Tracee tracee{pid};
  SteppedRun run;
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
    tracee.pid = 0;
    return Error{Errc::unavailable, "cannot step " + argv[0], "it ended before its first instruction",
                 "the container must allow ptrace"};
  }
  const auto rip = [&](uint64_t& ip) {
    errno = 0;
    ip = static_cast<uint64_t>(ptrace(PTRACE_PEEKUSER, pid, offsetof(user_regs_struct, rip), nullptr));
    return errno == 0;
  };
  std::unordered_map<uint64_t, Kind> kinds;  // a static program does not change its code
  uint64_t at = 0;
  if (!rip(at)) return errno_error("cannot read registers of", argv[0]);
  for (;;) {
    if (run.instructions > limit) return Error{Errc::too_large, "stepping goes on and on: " + argv[0], {}, {}};
    const auto [entry, fresh] = kinds.try_emplace(at, Kind::plain);
    if (fresh) entry->second = read_kind(pid, at);
    const Kind kind = entry->second;
    if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr) != 0) return errno_error("cannot step", argv[0]);
    if (waitpid(pid, &status, 0) != pid) return errno_error("cannot wait for", argv[0]);
    if (WIFEXITED(status) || WIFSIGNALED(status)) {  // the SYSCALL that ended it ran
      if (WIFEXITED(status)) {
        executed(at);
        ++run.instructions;
        run.exit_code = WEXITSTATUS(status);
      } else {
        run.end_signal = WTERMSIG(status);
      }
      tracee.pid = 0;
      return run;
    }
    uint64_t now = 0;
    if (!rip(now)) return errno_error("cannot read registers of", argv[0]);
    siginfo_t info{};
    int signal = WSTOPSIG(status);
    info.si_code = TRAP_TRACE;
    if (kind == Kind::trap || now == at || signal != SIGTRAP) ptrace(PTRACE_GETSIGINFO, pid, nullptr, &info);
    // A finished step is a SIGTRAP (TRAP_TRACE or TRAP_BRKPT); INT3's says SI_KERNEL, and a sent one who sent it.
    const bool step_done = signal == SIGTRAP && info.si_code != SI_KERNEL && info.si_code > 0;
    const bool moved = now != at || (kind == Kind::jump && step_done);
    if (moved && kind != Kind::trap) {
      executed(at);
      ++run.instructions;
    }
    at = now;
    // A signal goes on to the program; the step that delivers it stops before the handler's first instruction, having
    // executed nothing.
    while (!step_done && signal != 0) {
      ++run.signals;
      if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, signal) != 0) return errno_error("cannot step", argv[0]);
      if (waitpid(pid, &status, 0) != pid) return errno_error("cannot wait for", argv[0]);
      if (!WIFSTOPPED(status)) {
        if (WIFSIGNALED(status)) run.end_signal = WTERMSIG(status);
        if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
        tracee.pid = 0;
        return run;
      }
      signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
      if (!rip(at)) return errno_error("cannot read registers of", argv[0]);
    }
  }
}

}  // namespace hindcast::test
