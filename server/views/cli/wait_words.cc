#include "server/views/cli/wait_words.h"

#include <arpa/inet.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstring>

#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

std::string number(int64_t n) { return std::to_string(n); }

std::string syscall_text(int32_t nr) {
  static constexpr struct {
    int32_t nr;
    const char* name;
  } kNames[] = {{SYS_read, "read"},
                {SYS_write, "write"},
                {SYS_close, "close"},
                {SYS_poll, "poll"},
                {SYS_readv, "readv"},
                {SYS_writev, "writev"},
                {SYS_select, "select"},
                {SYS_pause, "pause"},
                {SYS_nanosleep, "nanosleep"},
                {SYS_sendfile, "sendfile"},
                {SYS_connect, "connect"},
                {SYS_accept, "accept"},
                {SYS_sendto, "sendto"},
                {SYS_recvfrom, "recvfrom"},
                {SYS_sendmsg, "sendmsg"},
                {SYS_recvmsg, "recvmsg"},
                {SYS_shutdown, "shutdown"},
                {SYS_wait4, "wait4"},
                {SYS_fsync, "fsync"},
                {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
                {SYS_futex, "futex"},
                {SYS_clock_nanosleep, "clock_nanosleep"},
                {SYS_epoll_wait, "epoll_wait"},
                {SYS_waitid, "waitid"},
                {SYS_pselect6, "pselect6"},
                {SYS_ppoll, "ppoll"},
                {SYS_epoll_pwait, "epoll_pwait"},
                {SYS_accept4, "accept4"},
                {SYS_recvmmsg, "recvmmsg"},
                {SYS_sendmmsg, "sendmmsg"},
                {SYS_preadv2, "preadv2"},
                {SYS_pwritev2, "pwritev2"}};
  for (const auto& n : kNames)
    if (n.nr == nr) return n.name;
  return "system call " + number(nr);
}

std::string signal_text(int32_t signal) {
  const char* name = ::sigabbrev_np(signal);
  return name ? "SIG" + std::string(name) : "signal " + number(signal);
}

std::string address_text(uint16_t family, const __u8 (&bytes)[16], uint16_t port) {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(family, bytes, text, sizeof text);
  const std::string host = family == AF_INET6 ? "[" + std::string(text) + "]" : text;
  return host + ":" + number(port);
}

bool has_addresses(const wait::Object& o) {
  return o.kind == wait::kSocketObject && (o.family == AF_INET || o.family == AF_INET6);
}

std::string object_text(const wait::Object& o) {
  switch (o.kind) {
    case wait::kFutexObject:
      return "futex " + hex_text(o.id);
    case wait::kPipeObject:
      return "pipe " + std::to_string(o.id);
    case wait::kSocketObject: {
      const std::string name = "socket " + std::to_string(o.id);
      if (o.family == AF_UNIX) return "unix " + name + (o.peer ? ", other end " + std::to_string(o.peer) : "");
      if (!has_addresses(o)) return name + " of family " + number(o.family);
      const char* protocol = o.protocol == IPPROTO_TCP ? "TCP " : o.protocol == IPPROTO_UDP ? "UDP " : "";
      const std::string here = protocol + address_text(o.family, o.local, o.local_port);
      return o.remote_port ? here + " to " + address_text(o.family, o.remote, o.remote_port) : here;
    }
    default:
      return {};
  }
}

std::string interrupt_text(uint32_t flags) {
  if (flags & wait::kHardInterrupt) return ", from an interrupt";
  if (flags & wait::kSoftInterrupt) return ", from a softirq";
  return flags & wait::kContextUnknown ? ", maybe from an interrupt" : "";
}

/// " = -1 (strerror)" for what failed.
std::string failure(int64_t result) {
  if (result <= -512 && result >= -516) return ": interrupted by a signal";
  return ": " + std::string(std::strerror(static_cast<int>(-result)));
}
bool failed(int64_t result) { return result < 0 && result >= -4095; }

std::string text(const wait::Sleep& s) {
  std::string what = "sleeps";
  if (s.syscall >= 0) what += " in " + syscall_text(s.syscall);
  if (const std::string on = object_text(s.on); !on.empty()) what += " on " + on;
  if (s.state & 4 || s.state & 8) return what + " (stopped)";
  return s.state & 2 ? what + " (uninterruptible)" : what;
}

std::string text(const wait::Wake& w) {
  return "wakes thread " + number(w.woken_tid) + (w.woken_pid != w.woken_tid ? " of " + number(w.woken_pid) : "") +
         interrupt_text(w.flags);
}

std::string futex_command(const wait::Futex& f) {
  static constexpr const char* kCommands[] = {
      "wait",      "wake",           "fd",          "requeue",     "requeue if",         "wake op",       "lock pi",
      "unlock pi", "try to lock pi", "wait bitset", "wake bitset", "wait to requeue pi", "requeue if pi", "lock pi"};
  if (f.syscall == SYS_futex) {
    const uint32_t command = f.op & FUTEX_CMD_MASK;
    return command < std::size(kCommands) ? kCommands[command] : "command " + number(command);
  }
  return f.syscall == 449 ? "waitv" : f.syscall == 454 ? "wake" : f.syscall == 455 ? "wait" : "requeue";
}

std::string text(const wait::Futex& f) {
  const std::string s = "futex " + futex_command(f) + " " + hex_text(f.address);
  return s + (failed(f.result) ? failure(f.result) : " = " + number(f.result));
}

std::string text(const wait::Message& m) {
  static constexpr const char* kVerbs[] = {"?", "sends", "receives", "accepts", "connects", "closes", "shuts down"};
  const char* verb = m.action < std::size(kVerbs) ? kVerbs[m.action] : kVerbs[0];
  const bool bytes = m.action == wait::kSend || m.action == wait::kReceive;
  const bool messages = m.syscall == SYS_sendmmsg || m.syscall == SYS_recvmmsg;
  std::string s = verb;
  if (bytes && !failed(m.result)) s += " " + number(m.result) + (messages ? " messages" : " bytes");
  s += std::string(bytes ? ", " : " ") + object_text(m.on) + " (fd " + number(m.fd) + ")";
  if (failed(m.result)) return s + failure(m.result);
  if (m.flags & wait::kHasRange && m.after != m.before)
    s += ", seq " + std::to_string(m.before) + ".." + std::to_string(m.after);
  return s;
}

std::string text(const wait::SignalSent& s) {
  static constexpr const char* kResults[] = {"", ", ignored", ", already pending", ", lost: queue full",
                                             ", its details lost: queue full"};
  const bool known = s.result >= 0 && s.result < static_cast<int32_t>(std::size(kResults));
  return "sends " + signal_text(s.signal) +
         (s.flags & wait::kToProcess ? " to process " + number(s.to_pid) : " to thread " + number(s.to_tid)) +
         (known ? kResults[s.result] : "") + interrupt_text(s.flags);
}

std::string text(const wait::SignalTaken& s) {
  return "takes " + signal_text(s.signal) +
         (s.handler == 0   ? ", default action"
          : s.handler == 1 ? ", handler not known"
                           : ", handler " + hex_text(s.handler));
}

std::string text(const wait::Exit& e) {
  const int32_t signal = e.status & 0x7f;
  std::string s = e.last ? "ends, the last thread of its process" : "ends";
  s += signal ? ": killed by " + signal_text(signal) : ": status " + number(e.status >> 8 & 0xff);
  return e.status & 0x80 ? s + ", core dumped" : s;
}

std::string text(const wait::Lost& l) {
  return "-- " + std::to_string(l.count) + " records lost here or in the " +
         span_text(static_cast<double>(l.header.time - l.from)) + " before";
}

std::string tcp_flags_text(uint8_t flags) {
  static constexpr const char* kNames[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG"};
  std::string s;
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (flags >> i & 1) s += std::string(" ") + kNames[i];
  return s;
}

std::string text(const wait::Packet& p) {
  const bool in = p.direction == wait::kIn, tcp = p.protocol == IPPROTO_TCP;
  std::string s = std::string(in ? "in  " : "out ") +
                  (tcp                         ? "TCP "
                   : p.protocol == IPPROTO_UDP ? "UDP "
                                               : "IP ") +
                  address_text(p.family, p.local, p.local_port) + (in ? " < " : " > ") +
                  address_text(p.family, p.remote, p.remote_port) + ", " + std::to_string(p.payload) + " bytes";
  if (tcp && !(p.flags & wait::kUnread)) {
    s += ", seq " + std::to_string(p.sequence) + ".." + std::to_string(p.sequence + p.payload);
    if (p.tcp_flags & 16) s += ", ack " + std::to_string(p.acknowledged);
    s += tcp_flags_text(p.tcp_flags);
  }
  if (p.flags & wait::kFragment)
    s += ", fragment of " + std::to_string(p.id) + (p.flags & wait::kMoreFragments ? "" : ", the last");
  if (p.flags & wait::kUnread) s += ", headers not read";
  if (p.segments > 1) s += ", " + std::to_string(p.segments) + " segments";
  return s + " (interface " + std::to_string(p.interface) + ")";
}

Json object_json(const wait::Object& o) {
  static constexpr const char* kKinds[] = {"none", "futex", "pipe", "socket"};
  if (o.kind == wait::kNoObject) return {};
  Json j{{"kind", o.kind < std::size(kKinds) ? kKinds[o.kind] : "unknown"}};
  if (o.kind == wait::kFutexObject) {
    j["address"] = json_address(o.id);
    j["private"] = o.family == 1;
    return j;
  }
  j["id"] = o.id;
  j["space"] = o.space;
  if (o.kind != wait::kSocketObject) return j;
  j["family"] = o.family;
  j["socket_type"] = o.type;
  if (o.peer) j["peer"] = o.peer;
  if (!has_addresses(o)) return j;
  j["protocol"] = o.protocol;
  j["local"] = address_text(o.family, o.local, o.local_port);
  j["remote"] = address_text(o.family, o.remote, o.remote_port);
  return j;
}

Json fields(const wait::Sleep& s) { return {{"state", s.state}, {"syscall", s.syscall}, {"on", object_json(s.on)}}; }
Json fields(const wait::Wake& w) {
  return {{"woken_pid", w.woken_pid}, {"woken_tid", w.woken_tid}, {"woken_cpu", w.woken_cpu}, {"flags", w.flags}};
}
Json fields(const wait::Futex& f) {
  return {{"address", json_address(f.address)},
          {"address2", json_address(f.address2)},
          {"result", f.result},
          {"syscall", f.syscall},
          {"op", f.op},
          {"value", f.value},
          {"flags", f.flags}};
}
Json fields(const wait::Message& m) {
  static constexpr const char* kActions[] = {"unknown", "send", "receive", "accept", "connect", "close", "shut_down"};
  Json j{{"action", kActions[m.action < std::size(kActions) ? m.action : 0]},
         {"result", m.result},
         {"syscall", m.syscall},
         {"fd", m.fd},
         {"flags", m.flags},
         {"on", object_json(m.on)}};
  if (m.flags & wait::kHasRange) j["range"] = {m.before, m.after};
  return j;
}
Json fields(const wait::SignalSent& s) {
  return {{"to_pid", s.to_pid}, {"to_tid", s.to_tid}, {"signal", s.signal},
          {"code", s.code},     {"result", s.result}, {"flags", s.flags}};
}
Json fields(const wait::SignalTaken& s) {
  return {{"signal", s.signal}, {"code", s.code}, {"handler", json_address(s.handler)}};
}
Json fields(const wait::Exit& e) {
  return {{"status", e.status}, {"last", e.last == 1}, {"group_status", e.group_status}};
}
Json fields(const wait::Packet& p) {
  Json j{{"interface", p.interface},
         {"direction", p.direction == wait::kIn ? "in" : "out"},
         {"family", p.family},
         {"protocol", p.protocol},
         {"local", address_text(p.family, p.local, p.local_port)},
         {"remote", address_text(p.family, p.remote, p.remote_port)},
         {"length", p.length},
         {"payload", p.payload},
         {"id", p.id},
         {"segments", p.segments},
         {"flags", p.flags}};
  if (p.protocol != IPPROTO_TCP) return j;
  j["sequence"] = p.sequence;
  j["acknowledged"] = p.acknowledged;
  j["tcp_flags"] = p.tcp_flags;
  return j;
}
Json fields(const wait::Lost& l) { return {{"count", l.count}}; }

/// use(record) with the record as what it is; false when it is nothing that is known.
template <class Use>
bool with(const wait::Record& record, Use use) {
  const auto try_as = [&](auto tag) {
    const auto r = wait::as<decltype(tag)>(record);
    if (r) use(*r);
    return r.has_value();
  };
  return try_as(wait::Sleep{}) || try_as(wait::Wake{}) || try_as(wait::Futex{}) || try_as(wait::Message{}) ||
         try_as(wait::SignalSent{}) || try_as(wait::SignalTaken{}) || try_as(wait::Exit{}) || try_as(wait::Lost{}) ||
         try_as(wait::Packet{});
}

}  // namespace

std::string wait_text(const wait::Record& record) {
  std::string out;
  if (with(record, [&](const auto& r) { out = text(r); })) return out;
  return wait_kind(record) + ", " + number(record.header.size) + " bytes";
}

std::string wait_kind(const wait::Record& record) {
  static constexpr const char* kKinds[] = {"",     "sleep", "wake",  "futex", "message", "signal_sent", "signal_taken",
                                           "exit", "lost",  "packet"};
  const uint16_t kind = record.header.kind;
  return kind > 0 && kind < std::size(kKinds) ? kKinds[kind] : "kind " + number(kind);
}

Json wait_fields(const wait::Record& record) {
  Json out = Json::object();
  with(record, [&](const auto& r) { out = fields(r); });
  return out;
}

}  // namespace hindcast::server::cli
