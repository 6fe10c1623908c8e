// How a call says it failed (Result), and how code says it is wrong (HC_CHECK).
//
// Four kinds of bad news are kept apart: an Error is the outside world's fault and says what to do; a Gap
// (event.h) is lost trace and is data; a status enum is for inner loops; HC_CHECK is our own bug.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace hindcast {

enum class Errc : uint8_t {
  bad_input,    // bytes from outside that break their format's rules
  too_large,    // within the format, beyond a limit of ours
  not_found,    // a file, stream, thread or image that is not there
  unsupported,  // well-formed, but nothing here can handle it
  permission,   // the kernel or the file system said no
  unavailable,  // the machine lacks an ability (no PT, no QEMU, ...)
  io,           // a read, write, map or socket failed
  usage,        // the caller asked for something contradictory
  version,      // made by an incompatible version
  corrupt,      // a checksum or invariant says the bytes are damaged
};

/// What went wrong, in the shape every message of ours is printed in:
///   what   one line: the action and the object, then the cause
///   found  the value found and the value needed; may be empty
///   fix    what the reader can do about it; may be empty
struct Error {
  Errc code = Errc::bad_input;
  std::string what;
  std::string found;
  std::string fix;

  /// "what\n  found   ...\n  fix     ..." without a trailing newline.
  std::string text() const {
    std::string s = what;
    if (!found.empty()) s += "\n  found   " + found;
    if (!fix.empty()) s += "\n  fix     " + fix;
    return s;
  }
};

/// A value or an Error. Must be looked at; never holds neither.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(v_); }
  const T& value() const& { return std::get<0>(v_); }
  T&& value() && { return std::get<0>(std::move(v_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& { return std::get<1>(v_); }
  Error&& error() && { return std::get<1>(std::move(v_)); }

 private:
  std::variant<T, Error> v_;
};

struct Unit {};

/// A call that returns nothing but may fail.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() : v_(std::in_place_index<0>) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  const Error& error() const& { return std::get<1>(v_); }
  Error&& error() && { return std::get<1>(std::move(v_)); }

 private:
  std::variant<Unit, Error> v_;
};

#define HC_CONCAT_(a, b) a##b
#define HC_CONCAT(a, b) HC_CONCAT_(a, b)

/// HC_TRY(Fd fd, open_read_only(path)); declares fd, or returns the Error from the enclosing function.
#define HC_TRY(decl, expr)                                                                        \
  auto HC_CONCAT(hc_try_, __LINE__) = (expr);                                                     \
  if (!HC_CONCAT(hc_try_, __LINE__).ok()) return std::move(HC_CONCAT(hc_try_, __LINE__)).error(); \
  decl = std::move(HC_CONCAT(hc_try_, __LINE__)).value()

/// HC_TRY_VOID(expr): for Result<void>.
#define HC_TRY_VOID(expr)                                         \
  do {                                                            \
    auto hc_try_void = (expr);                                    \
    if (!hc_try_void.ok()) return std::move(hc_try_void).error(); \
  } while (0)

/// Our bug, not the input's: print where and stop, in release builds too.
#define HC_CHECK(cond)                                                                \
  do {                                                                                \
    if (!(cond)) {                                                                    \
      std::fprintf(stderr, "%s:%d: internal error: %s\n", __FILE__, __LINE__, #cond); \
      std::abort();                                                                   \
    }                                                                                 \
  } while (0)

}  // namespace hindcast
