#include "server/service/run_command.h"

#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

namespace hindcast::server {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kFrameBytes = 65536;
constexpr int kBackgroundNice = 10;

/// Between fork and exec: only what is safe in a process of many threads.
[[noreturn]] void become(char* const* argv, char* const* env, const char* folder, bool in_background, int out, int err,
                         int trouble) {
  ::setpgid(0, 0);
  if (in_background) ::setpriority(PRIO_PROCESS, 0, kBackgroundNice);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (const int s : {SIGPIPE, SIGTERM, SIGINT, SIGHUP}) ::sigaction(s, &plain, nullptr);
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) (void)!::write(score, "1000", 4);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  const int null = ::open("/dev/null", O_RDONLY);
  // 0 to 3 are ours from here on; the sources may not lie among them (see start()).
  if (null >= 0 && ::dup2(null, 0) == 0 && ::dup2(out, 1) == 1 && ::dup2(err, 2) == 2 && ::dup2(trouble, 3) == 3) {
    ::fcntl(3, F_SETFD, FD_CLOEXEC);
    ::syscall(SYS_close_range, 4U, ~0U, 0U);
    if (::chdir(folder) == 0) ::execve(argv[0], argv, env);
  }
  const int e = errno;
  (void)!::write(3, &e, sizeof e);
  ::_exit(127);
}

/// A pipe whose ends are above the descriptors that the child fills.
Result<std::pair<Fd, Fd>> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return errno_error("cannot make", "a pipe");
  Fd low_read(fds[0]), low_write(fds[1]);
  Fd read_end(::fcntl(fds[0], F_DUPFD_CLOEXEC, 10)), write_end(::fcntl(fds[1], F_DUPFD_CLOEXEC, 10));
  if (!read_end.valid() || !write_end.valid()) return errno_error("cannot make", "a pipe");
  return std::pair(std::move(read_end), std::move(write_end));
}

}  // namespace

std::string frame_bytes(const RunFrame& frame) {
  std::string s(1, static_cast<char>(frame.kind));
  for (int i = 0; i < 4; ++i) s += static_cast<char>(frame.bytes.size() >> (8 * i) & 0xff);
  return s + frame.bytes;
}

Result<std::unique_ptr<RunCommand>> RunCommand::start(const std::vector<std::string>& argv, const RunOptions& options) {
  HC_TRY(auto out, make_pipe());
  HC_TRY(auto err, make_pipe());
  HC_TRY(auto trouble, make_pipe());
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  const std::string cache = "HINDCAST_CACHE=" + options.cache;
  const char* const environment[] = {
      "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "COLUMNS=100", "NO_COLOR=1", cache.c_str(), nullptr};
  const pid_t child = ::fork();
  if (child < 0) return errno_error("cannot start", argv[0]);
  if (child == 0)
    become(args.data(), const_cast<char* const*>(environment), options.folder.c_str(), options.in_background,
           out.second.get(), err.second.get(), trouble.second.get());
  ::setpgid(child, child);  // here too: whoever of us comes first
  std::unique_ptr<RunCommand> run(new RunCommand);
  run->pid_ = child;
  run->limit_ = options.limit;
  run->deadline_ = Clock::now() + options.limit;
  trouble.second = Fd();
  int e = 0;
  ssize_t n = 0;
  while ((n = ::read(trouble.first.get(), &e, sizeof e)) < 0 && errno == EINTR) {
  }
  if (n == sizeof e) {
    errno = e;
    return errno_error("cannot run", argv[0], "install hindcast beside hindcast-server");
  }
  run->out_ = std::move(out.first);
  run->err_ = std::move(err.first);
  return run;
}

RunCommand::~RunCommand() {
  if (pid_ <= 0) return;
  kill_group();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void RunCommand::kill_group() {
  // Not reaped yet, so neither number can be another's.
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);
}

RunFrame RunCommand::next(milliseconds wait) {
  const auto until = std::min(Clock::now() + wait, deadline_);
  while (out_.valid() || err_.valid()) {
    const auto now = Clock::now();
    if (!late_ && now >= deadline_) {
      late_ = true;
      kill_group();
      return {RunFrame::Kind::err,
              "hindcast-server: stopped: it took longer than " + std::to_string(limit_.count()) + " s\n"};
    }
    pollfd fds[2] = {{out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}};  // -1 is skipped
    const auto left =
        late_ ? milliseconds(1000) : std::chrono::ceil<milliseconds>(std::max(until - now, Clock::duration::zero()));
    const int ready = ::poll(fds, 2, static_cast<int>(left.count()));
    if (ready == 0 && (late_ || Clock::now() >= until)) {
      if (!late_ && Clock::now() >= deadline_) continue;
      return {};
    }
    if (ready <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (!fds[i].revents) continue;
      Fd& fd = i == 0 ? out_ : err_;
      std::string bytes(kFrameBytes, '\0');
      const ssize_t n = ::read(fd.get(), bytes.data(), bytes.size());
      if (n > 0) {
        bytes.resize(static_cast<size_t>(n));
        return {i == 0 ? RunFrame::Kind::out : RunFrame::Kind::err, std::move(bytes)};
      }
      if (n == 0 || (errno != EINTR && errno != EAGAIN)) fd = Fd();
    }
  }
  return end();
}

RunFrame RunCommand::end() {
  HC_CHECK(!done_);
  int status = 0;
  // Both pipes are closed, but it may still run.
  for (;;) {
    const pid_t ended = ::waitpid(pid_, &status, late_ ? 0 : WNOHANG);
    if (ended == pid_) break;
    if (ended < 0 && errno != EINTR) break;
    if (ended == 0 && Clock::now() >= deadline_) {
      late_ = true;
      kill_group();
    } else if (ended == 0) {
      ::poll(nullptr, 0, 10);
    }
  }
  pid_ = -1;
  done_ = true;
  const uint32_t code = static_cast<uint32_t>(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                              : WIFEXITED(status) ? WEXITSTATUS(status)
                                                                  : 1);
  RunFrame frame{RunFrame::Kind::exit, {}};
  for (int i = 0; i < 4; ++i) frame.bytes += static_cast<char>(code >> (8 * i) & 0xff);
  return frame;
}

}  // namespace hindcast::server
