#include "decode/packet_text.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>

namespace hindcast::decode {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
  char line[160];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(line, sizeof line, pattern, args);
  va_end(args);
  return line;
}

const char* form_name(IpBytes form) {
  switch (form) {
    case IpBytes::suppressed:
      return "suppressed";
    case IpBytes::update16:
      return "update16";
    case IpBytes::update32:
      return "update32";
    case IpBytes::sext48:
      return "sext48";
    case IpBytes::update48:
      return "update48";
    case IpBytes::full:
      return "full";
  }
  return "reserved";
}

/// Oldest branch first.
std::string tnt_text(const Packet& p) {
  std::string s;
  for (int bit = p.detail - 1; bit >= 0; --bit) s += (p.payload >> bit) & 1 ? 'T' : 'N';
  return s;
}

const char* exec_mode_name(uint64_t bits) {
  constexpr const char* kNames[] = {"16-bit", "64-bit", "32-bit", "reserved"};
  return kNames[bits & 3];
}

std::string contents(const Packet& p, uint64_t ip) {
  const uint64_t v = p.payload;
  const char* const follows = p.detail ? "  ip" : "";  // a FUP with the instruction's address follows
  switch (p.kind) {
    case Kind::tnt:
    case Kind::tnt_long:
      return tnt_text(p);
    case Kind::tip:
    case Kind::tip_pge:
    case Kind::tip_pgd:
    case Kind::fup:
      if (!p.has_ip()) return form_name(IpBytes::suppressed);
      return format("0x%016" PRIx64 "  %s 0x%" PRIx64, ip, form_name(p.ip_bytes()), v);
    case Kind::pad:
    case Kind::psb:
    case Kind::psbend:
    case Kind::ovf:
    case Kind::trace_stop:
      return {};
    case Kind::pip:
      return format("cr3=0x%" PRIx64 "%s", v, p.detail ? "  nr" : "");
    case Kind::vmcs:
      return format("base=0x%" PRIx64, v);
    case Kind::mode_exec:
      return format("%s%s", exec_mode_name(v), v & 4 ? "  if" : "");
    case Kind::mode_tsx:
      return format("%s%s", v & 1 ? "intx" : "none", v & 2 ? "  abort" : "");
    case Kind::tsc:
      return format("0x%" PRIx64, v);
    case Kind::tma:
      return format("ctc=0x%x  fc=0x%x", p.tma_ctc(), p.tma_fast_counter());
    case Kind::mtc:
      return format("ctc=0x%" PRIx64, v);
    case Kind::cyc:
      return format("%" PRIu64, v);
    case Kind::cbr:
      return format("ratio=%" PRIu64, v);
    case Kind::mnt:
      return format("0x%" PRIx64, v);
    case Kind::ptw:
      return format("0x%" PRIx64 "%s", v, follows);
    case Kind::exstop:
    case Kind::bep:
      return p.detail ? "ip" : "";
    case Kind::mwait:
      return format("hints=0x%x  ext=0x%x", static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32));
    case Kind::pwre:
      return format("c%u.%u%s", static_cast<unsigned>(v >> 12 & 15), static_cast<unsigned>(v >> 8 & 15),
                    v & 0x80 ? "  hw" : "");
    case Kind::pwrx:
      return format("last=c%u  deepest=c%u  reason=0x%x", static_cast<unsigned>(v >> 4 & 15),
                    static_cast<unsigned>(v & 15), static_cast<unsigned>(v >> 8 & 15));
    case Kind::bbp:
      return format("type=0x%" PRIx64 "  items=%u", v, p.detail);
    case Kind::bip:
      return format("id=0x%x  0x%" PRIx64, p.detail, v);
    case Kind::cfe:
      return format("type=0x%x  vector=0x%x%s", static_cast<unsigned>(v & 0x1f), static_cast<unsigned>(v >> 8 & 0xff),
                    follows);
    case Kind::evd:
      return format("type=0x%x  0x%" PRIx64, p.detail, v);
    case Kind::trig:
      return format("triggers=0x%x%s%s%s", static_cast<unsigned>(v >> 8 & 0xff),
                    v & 0x40 ? format("  icount=%u", static_cast<unsigned>(v >> 16 & 0xffff)).c_str() : "",
                    v & 0x20 ? "  mult" : "", v & 0x80 ? "  ip" : "");
  }
  return {};
}

std::string with_name(uint64_t offset, std::string_view name, const std::string& what) {
  std::string line = format("%08" PRIx64 "  ", offset);
  line += name;
  if (what.empty()) return line;
  if (name.size() < 10) line.append(10 - name.size(), ' ');
  return line + what;
}

}  // namespace

std::string packet_text(const Packet& packet, uint64_t expanded_ip) {
  return with_name(packet.offset, to_string(packet.kind), contents(packet, expanded_ip));
}

std::string damage_text(Step step, ByteSpan bytes, uint64_t offset) {
  std::string hex;
  for (uint64_t i = offset; i < bytes.size() && i < offset + kMaxPacketBytes; ++i)
    hex += format(hex.empty() ? "%02x" : " %02x", bytes[i]);
  return with_name(offset, step == Step::truncated ? "truncated" : "bad", hex);
}

}  // namespace hindcast::decode
