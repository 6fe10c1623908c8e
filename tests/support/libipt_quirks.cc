#include "tests/support/libipt_quirks.h"

#include "decode/packet_reader.h"

namespace hindcast::test {

using decode::Kind;
using decode::Packet;
using decode::PacketReader;
using decode::Step;

const char* explanation(const Duel& smallest, DuelWorld& world) {
  Duel compressed = smallest;
  compressed.config.options.noretcomp = false;
  if (smallest.config.options.noretcomp && !fight(compressed, world).bad())
    return "takes any TNT bit for a compressed RET";
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
