// Counts kinds of packets.
#include "server/import/observed_options.h"

#include "decode/packet_reader.h"

namespace hindcast::server {

using decode::Kind;

void ObservedPt::add(const ObservedPt& o) {
  psb |= o.psb;
  tsc |= o.tsc;
  mtc |= o.mtc;
  cyc |= o.cyc;
  ptw |= o.ptw;
  pwr_evt |= o.pwr_evt;
  event |= o.event;
  kernel_ip |= o.kernel_ip;
}

PtOptions ObservedPt::options() const {
  PtOptions o;
  o.tsc = tsc;
  o.mtc = mtc;
  o.cyc = cyc;
  o.ptw = ptw;
  o.pwr_evt = pwr_evt;
  o.event = event;
  return o;
}

ObservedPt observe_pt(ByteSpan trace) {
  ObservedPt seen;
  decode::PacketReader reader(trace);
  decode::LastIp last_ip;
  decode::Packet packet;
  while (reader.resync()) {
    seen.psb = true;
    decode::Step step;
    while ((step = reader.next(packet)) == decode::Step::ok) {
      const uint64_t ip = decode::expand_ip(last_ip, packet);
      // TIP.PGD names where control left to, which was not traced.
      if (packet.has_ip() && packet.kind != Kind::tip_pgd) seen.kernel_ip |= (ip >> 63) != 0;
      switch (packet.kind) {
        case Kind::tsc:
          seen.tsc = true;
          break;
        case Kind::mtc:
          seen.mtc = true;
          break;
        case Kind::cyc:
          seen.cyc = true;
          break;
        case Kind::ptw:
          seen.ptw = true;
          break;
        case Kind::pwre:
        case Kind::pwrx:
          seen.pwr_evt = true;
          break;
        case Kind::cfe:
        case Kind::evd:
          seen.event = true;
          break;
        default:
          break;
      }
    }
    if (step != decode::Step::bad) break;
  }
  return seen;
}

}  // namespace hindcast::server
