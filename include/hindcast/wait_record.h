// Reads the records of a `waits` or `net` stream (wait_layout.h) from bytes that anybody may have written.
#pragma once

#include <cstddef>
#include <optional>

#include "hindcast/bytes.h"
#include "hindcast/units.h"
#include "hindcast/wait_layout.h"

namespace hindcast::wait {

static_assert(sizeof(Header) == 24 && offsetof(Header, time) == 16);
static_assert(sizeof(Object) == 64 && offsetof(Object, local) == 24 && offsetof(Object, protocol) == 60);
static_assert(sizeof(Sleep) == 104 && offsetof(Sleep, on) == 40);
static_assert(sizeof(Wake) == 40);
static_assert(sizeof(Futex) == 72 && offsetof(Futex, result) == 48);
static_assert(sizeof(Message) == 128 && offsetof(Message, action) == 56 && offsetof(Message, on) == 64);
static_assert(sizeof(SignalSent) == 48);
static_assert(sizeof(SignalTaken) == 48 && offsetof(SignalTaken, handler) == 32);
static_assert(sizeof(Exit) == 40);
static_assert(sizeof(Lost) == 40);
static_assert(sizeof(Packet) == 96 && offsetof(Packet, direction) == 48 && offsetof(Packet, remote) == 80);

/// The kind of a record of type T.
template <class T>
inline constexpr Kind kKindOf{};
template <>
inline constexpr Kind kKindOf<Sleep> = kSleep;
template <>
inline constexpr Kind kKindOf<Wake> = kWake;
template <>
inline constexpr Kind kKindOf<Futex> = kFutex;
template <>
inline constexpr Kind kKindOf<Message> = kMessage;
template <>
inline constexpr Kind kKindOf<SignalSent> = kSignalSent;
template <>
inline constexpr Kind kKindOf<SignalTaken> = kSignalTaken;
template <>
inline constexpr Kind kKindOf<Exit> = kExit;
template <>
inline constexpr Kind kKindOf<Lost> = kLost;
template <>
inline constexpr Kind kKindOf<Packet> = kPacket;

/// The fewest bytes that a record of type T has: an object without addresses leaves their room out.
template <class T>
constexpr size_t least_bytes() {
  if constexpr (requires(T t) { t.on; })
    return sizeof(T) - (sizeof(Object) - offsetof(Object, local));
  else
    return sizeof(T);
}

/// One record as it stands. bytes: all of it, header included; borrowed.
struct Record {
  Header header{};
  ByteSpan bytes;
  uint64_t offset = 0;
};

/// Its fields; what a shorter record leaves out is 0. None when it is of another kind or too short for its own. What
/// stands behind the fields that we know is ignored.
template <class T>
std::optional<T> as(const Record& record) {
  if (record.header.kind != kKindOf<T> || record.bytes.size() < least_bytes<T>()) return std::nullopt;
  T out{};
  std::memcpy(&out, record.bytes.data(), record.bytes.size() < sizeof out ? record.bytes.size() : sizeof out);
  return out;
}

/// Steps over records. Never reads beyond the bytes; stops at the first that cannot be one, since nothing shows where the
/// next begins.
class Reader {
 public:
  explicit Reader(ByteSpan bytes) : bytes_(bytes) {}

  /// False at the end and before a malformed record; malformed() tells which.
  bool next(Record& out) {
    if (malformed_ || pos_ == bytes_.size()) return false;
    ByteReader r(bytes_.subspan(pos_));
    out.header = r.read<Header>();
    const size_t size = out.header.size;
    if (r.failed() || size < sizeof(Header) || size % 8 != 0 || size > bytes_.size() - pos_) {
      malformed_ = true;
      return false;
    }
    out.bytes = bytes_.subspan(pos_, size);
    out.offset = pos_;
    pos_ += size;
    return true;
  }
  bool malformed() const { return malformed_; }
  uint64_t offset() const { return pos_; }

 private:
  ByteSpan bytes_;
  size_t pos_ = 0;
  bool malformed_ = false;
};

}  // namespace hindcast::wait
