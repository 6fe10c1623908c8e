// The recorded command as a child process: forked first, let go when everything is ready to see it.
#include "capture/child.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <sys/syscall.h>
#include <sys/wait.h>

namespace hindcast::capture {

namespace {

Result<std::pair<Fd, Fd>> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return errno_error("cannot make", "a pipe");
  return std::pair<Fd, Fd>(Fd(fds[0]), Fd(fds[1]));
}

ssize_t read_again(int fd, void* out, size_t size) {
  ssize_t n;
  do n = ::read(fd, out, size);
  while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

std::string ChildEnd::text() const {
  if (!signaled) return "exited with status " + std::to_string(number);
  const char* name = ::strsignal(number);
  return "was killed by signal " + std::to_string(number) + " (" + (name ? name : "?") + ")";
}

Result<Child> Child::fork_stopped(const std::vector<std::string>& argv, const sigset_t& mask, const rlimit& files) {
  if (argv.empty()) return Error{Errc::usage, "no command given", {}, {}};
  HC_TRY(auto go, make_pipe());
  HC_TRY(auto failed, make_pipe());
  // all memory is got before the fork: the child of a threaded process may only make plain system calls
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("cannot fork for", argv[0]);
  if (pid == 0) {
    ::close(go.second.get());  // else the child would keep its own pipe open and never learn of our end
    char byte;
    if (read_again(go.first.get(), &byte, 1) != 1) ::_exit(127);
    ::setrlimit(RLIMIT_NOFILE, &files);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    ::execvp(args[0], args.data());
    const int e = errno;
    (void)!::write(failed.second.get(), &e, sizeof e);
    ::_exit(127);
  }
  Child child;
  child.pid_ = Pid(pid);
  child.program_ = argv[0];
  child.go_ = std::move(go.second);
  child.failed_ = std::move(failed.first);
  child.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd_.valid()) return errno_error("cannot watch", "the child process (pidfd_open)");
  return child;
}

Result<void> Child::release() {
  const char byte = 1;
  if (::write(go_.get(), &byte, 1) != 1) return errno_error("cannot start", program_);
  go_ = Fd();
  int e = 0;
  const ssize_t n = read_again(failed_.get(), &e, sizeof e);  // 0 bytes: exec closed the pipe
  if (n == sizeof e) {
    errno = e;
    return errno_error("cannot execute", program_);
  }
  return {};
}

std::optional<ChildEnd> Child::poll_end() {
  if (end_) return end_;
  int status = 0;
  const pid_t got = ::waitpid(pid_.value(), &status, WNOHANG);
  if (got != pid_.value()) return std::nullopt;
  if (WIFSIGNALED(status))
    end_ = ChildEnd{true, WTERMSIG(status)};
  else
    end_ = ChildEnd{false, WEXITSTATUS(status)};
  return end_;
}

void Child::send(int signal) {
  if (!end_) ::kill(pid_.value(), signal);
}

}  // namespace hindcast::capture
