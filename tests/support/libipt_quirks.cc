#include "tests/support/libipt_quirks.h"

#include "decode/packet_reader.h"

namespace hindcast::test {

using decode::is_ip;
using decode::is_tnt;
using decode::Kind;
using decode::Packet;
using decode::PacketReader;
using decode::Step;

namespace {

std::vector<uint8_t> without(Kind kind, ByteSpan bytes) {
  std::vector<uint8_t> rest;
  PacketReader reader(bytes);
  Packet p;
  for (uint64_t at = 0; reader.next(p) == Step::ok; at = reader.offset())
    if (p.kind != kind)
      rest.insert(rest.end(), bytes.begin() + static_cast<ptrdiff_t>(at),
                  bytes.begin() + static_cast<ptrdiff_t>(reader.offset()));
  return rest;
}

/// Without all PSB+ but the first.
std::vector<uint8_t> with_one_psb(ByteSpan bytes) {
  std::vector<uint8_t> rest;
  PacketReader reader(bytes);
  Packet p;
  size_t psbs = 0;
  bool in_psb = false;
  for (uint64_t at = 0; reader.next(p) == Step::ok; at = reader.offset()) {
    if (p.kind == Kind::psb) in_psb = psbs++ != 0;
    if (!in_psb)
      rest.insert(rest.end(), bytes.begin() + static_cast<ptrdiff_t>(at),
                  bytes.begin() + static_cast<ptrdiff_t>(reader.offset()));
    if (p.kind == Kind::psbend) in_psb = false;
  }
  return rest;
}

/// A MODE.Exec that is of a far transfer: in front of a TIP that is no asynchronous event's.
bool has_far_mode(ByteSpan bytes) {
  PacketReader reader(bytes);
  Packet p;
  bool in_psb = false, async = false, bound = false, mode = false;
  while (reader.next(p) == Step::ok) {
    if (p.kind == Kind::psb) in_psb = true;
    if (p.kind == Kind::psbend) in_psb = false;
    if (p.kind == Kind::mode_exec) mode = !in_psb && !async;
    bound |= p.kind == Kind::ptw || p.kind == Kind::exstop || p.kind == Kind::mwait ||
             (p.kind == Kind::mode_tsx && !(p.payload & 2));
    if (!is_ip(p.kind) && !is_tnt(p.kind)) continue;
    if (mode && p.kind == Kind::tip) return true;
    async = p.kind == Kind::fup && !in_psb && !bound;
    mode = bound = false;
  }
  return false;
}

}  // namespace

const char* explanation(const Duel& smallest, DuelWorld& world) {
  Duel compressed = smallest;
  compressed.config.options.noretcomp = false;
  if (smallest.config.options.noretcomp && !fight(compressed, world).bad())
    return "takes any TNT bit for a compressed RET";
  const auto first = fight(smallest, world).compared.first;
  const auto is_mode = [](const std::optional<Event>& e) { return e && e->kind == EventKind::exec_mode; };
  if (has_far_mode(smallest.bytes) && first && (is_mode(first->fast) || is_mode(first->libipt)))
    return "changes the mode where it first comes by the address that a far transfer leads to";
  Duel one_psb = smallest;
  one_psb.bytes = with_one_psb(smallest.bytes);
  const auto leaves = [](const std::optional<Event>& e) { return e && e->kind == EventKind::disabled && e->to != 0; };
  if (first && leaves(first->libipt) && !leaves(first->fast) && !fight(one_psb, world).bad())
    return "leaves where it first comes by the TIP.PGD's address, even in front of a PSB";
  const auto agree_without = [&](Kind kind) {
    Duel fewer = smallest;
    fewer.bytes = without(kind, smallest.bytes);
    return fewer.bytes != smallest.bytes && !fight(fewer, world).bad();
  };
  if (agree_without(Kind::cbr)) return "forgets at a CBR which MOV to CR3 the PIP before was of";
  if (agree_without(Kind::vmcs)) return "tells PIP, MODE.Exec and VMCS of one TIP in another order";
  PacketReader reader(smallest.bytes);
  Packet p;
  bool fup_is_due = false, tip_is_due = false, in_psb = false, announced = false;
  while (reader.next(p) == Step::ok) {
    switch (p.kind) {
      case Kind::ptw:
      case Kind::exstop:
      case Kind::bep:
        fup_is_due |= p.detail != 0;
        break;
      case Kind::mwait:
        fup_is_due = true;
        break;
      case Kind::mode_tsx:
        fup_is_due |= !in_psb;
        break;
      case Kind::psb:
        if (fup_is_due || tip_is_due) return "keeps what waits for a FUP or TIP beyond a PSB";
        in_psb = true;
        announced = false;
        break;
      case Kind::psbend:
        in_psb = false;
        break;
      case Kind::fup:
        if (in_psb && announced) return "takes either of two FUPs in a PSB+";
        if (!in_psb) fup_is_due = false;
        announced = in_psb;
        break;
      case Kind::mode_exec:
        tip_is_due = !in_psb;
        break;
      case Kind::tip:
        tip_is_due = false;
        break;
      case Kind::tip_pgd:
        if (fup_is_due) return "keeps what waits for a FUP beyond a stretch";
        break;
      case Kind::tip_pge:
        if (fup_is_due) return "keeps what waits for a FUP beyond a stretch";
        tip_is_due = false;
        if (announced && p.detail != 3 && p.detail != 6) return "does not take an announcing FUP for the last IP";
        announced = false;
        break;
      default:
        break;
    }
  }
  return nullptr;
}

}  // namespace hindcast::test
