// Signals as something to read instead of something that interrupts.
#pragma once

#include <csignal>
#include <initializer_list>
#include <optional>
#include <utility>

#include <sys/signalfd.h>

#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::capture {

/// Signals blocked while this lives, and readable from fd().
class SignalTrap {
 public:
  static Result<SignalTrap> set(std::initializer_list<int> signals) {
    SignalTrap t;
    sigset_t mask;
    ::sigemptyset(&mask);
    for (const int s : signals) ::sigaddset(&mask, s);
    if (::sigprocmask(SIG_BLOCK, &mask, &t.before_) != 0) return errno_error("cannot block", "signals");
    t.armed_ = true;
    t.fd_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!t.fd_.valid()) return errno_error("cannot make", "a signalfd");
    return t;
  }
  SignalTrap(SignalTrap&& o) noexcept
      : fd_(std::move(o.fd_)), before_(o.before_), armed_(std::exchange(o.armed_, false)) {}
  SignalTrap& operator=(SignalTrap&&) = delete;
  ~SignalTrap() {
    if (armed_) ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  int fd() const { return fd_.get(); }
  const sigset_t& before() const { return before_; }
  /// The next pending one; none when there is none.
  std::optional<signalfd_siginfo> take() {
    signalfd_siginfo info{};
    if (::read(fd_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return info;
  }

 private:
  SignalTrap() = default;
  Fd fd_;
  sigset_t before_{};
  bool armed_ = false;
};

}  // namespace hindcast::capture
