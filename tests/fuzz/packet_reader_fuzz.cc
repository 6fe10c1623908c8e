// Our packet reader beside libipt's packet decoder: sizes, kinds and payloads equal wherever libipt knows the packet.
// And: what a prefix of the stream gives is what the whole stream gives, so splitting never matters.
#include <intel-pt.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "decode/packet_reader.h"
#include "decode/packet_text.h"
#include "tests/fuzz/packet_stream.h"

namespace hindcast {
namespace {

using decode::Kind;
using decode::Packet;
using decode::PacketReader;
using decode::Step;

struct DecoderDeleter {
  void operator()(pt_packet_decoder* d) const { pt_pkt_free_decoder(d); }
};

[[noreturn]] void differ(const char* what, const Packet& ours, uint64_t offset, int theirs) {
  std::fprintf(stderr, "differ in %s at offset %lu: ours %s, size %u, payload 0x%lx, detail %u; libipt %d\n", what,
               static_cast<unsigned long>(offset), std::string(to_string(ours.kind)).c_str(), ours.size,
               static_cast<unsigned long>(ours.payload), ours.detail, theirs);
  std::abort();
}

/// Packets that libipt 2.0.5 lacks, and CYC longer than its limit of 9 bytes.
bool libipt_knows(const Packet& p) {
  switch (p.kind) {
    case Kind::bbp:
    case Kind::bip:
    case Kind::bep:
    case Kind::cfe:
    case Kind::evd:
    case Kind::trig:
      return false;
    case Kind::cyc:
      return p.size <= 9;
    default:
      return true;
  }
}

bool is_cyc(uint8_t first_byte) { return (first_byte & 3) == 3; }

bool same(const Packet& a, const pt_packet& b) {
  const auto& v = b.payload;
  const uint64_t pay = a.payload;
  switch (a.kind) {
    case Kind::tnt:
      return b.type == ppt_tnt_8 && v.tnt.bit_size == a.detail && v.tnt.payload == pay;
    case Kind::tnt_long:
      return b.type == ppt_tnt_64 && v.tnt.bit_size == a.detail && v.tnt.payload == pay;
    case Kind::tip:
      return b.type == ppt_tip && v.ip.ipc == a.detail && v.ip.ip == pay;
    case Kind::tip_pge:
      return b.type == ppt_tip_pge && v.ip.ipc == a.detail && v.ip.ip == pay;
    case Kind::tip_pgd:
      return b.type == ppt_tip_pgd && v.ip.ipc == a.detail && v.ip.ip == pay;
    case Kind::fup:
      return b.type == ppt_fup && v.ip.ipc == a.detail && v.ip.ip == pay;
    case Kind::pad:
      return b.type == ppt_pad;
    case Kind::psb:
      return b.type == ppt_psb;
    case Kind::psbend:
      return b.type == ppt_psbend;
    case Kind::ovf:
      return b.type == ppt_ovf;
    case Kind::trace_stop:
      return b.type == ppt_stop;
    case Kind::pip:
      return b.type == ppt_pip && v.pip.cr3 == pay && v.pip.nr == a.detail;
    case Kind::vmcs:
      return b.type == ppt_vmcs && v.vmcs.base == pay;
    case Kind::mode_exec:
      return b.type == ppt_mode && v.mode.leaf == pt_mol_exec && v.mode.bits.exec.csl == (pay & 1) &&
             v.mode.bits.exec.csd == (pay >> 1 & 1);
    case Kind::mode_tsx:
      return b.type == ppt_mode && v.mode.leaf == pt_mol_tsx && v.mode.bits.tsx.intx == (pay & 1) &&
             v.mode.bits.tsx.abrt == (pay >> 1 & 1);
    case Kind::tsc:
      return b.type == ppt_tsc && v.tsc.tsc == pay;
    case Kind::tma:
      return b.type == ppt_tma && v.tma.ctc == a.tma_ctc() && v.tma.fc == a.tma_fast_counter();
    case Kind::mtc:
      return b.type == ppt_mtc && v.mtc.ctc == pay;
    case Kind::cyc:
      return b.type == ppt_cyc && v.cyc.value == pay;
    case Kind::cbr:
      return b.type == ppt_cbr && v.cbr.ratio == pay;
    case Kind::mnt:
      return b.type == ppt_mnt && v.mnt.payload == pay;
    case Kind::ptw:
      return b.type == ppt_ptw && v.ptw.payload == pay && v.ptw.ip == a.detail && pt_ptw_size(v.ptw.plc) + 2 == a.size;
    case Kind::exstop:
      return b.type == ppt_exstop && v.exstop.ip == a.detail;
    case Kind::mwait:
      return b.type == ppt_mwait && v.mwait.hints == (pay & 0xffffffff) && v.mwait.ext == pay >> 32;
    case Kind::pwre:  // libipt reads the hardware flag from bit 3; the SDM has it in bit 7
      return b.type == ppt_pwre && v.pwre.state == (pay >> 12 & 15) && v.pwre.sub_state == (pay >> 8 & 15);
    case Kind::pwrx:
      return b.type == ppt_pwrx && v.pwrx.last == (pay >> 4 & 15) && v.pwrx.deepest == (pay & 15) &&
             v.pwrx.interrupt == (pay >> 8 & 1) && v.pwrx.store == (pay >> 10 & 1) &&
             v.pwrx.autonomous == (pay >> 11 & 1);
    default:
      return false;
  }
}

void compare_with_libipt(std::vector<uint8_t>& bytes) {
  pt_config config;
  pt_config_init(&config);
  config.begin = bytes.data();
  config.end = bytes.data() + bytes.size();
  const std::unique_ptr<pt_packet_decoder, DecoderDeleter> libipt(pt_pkt_alloc_decoder(&config));
  if (!libipt) std::abort();
  pt_pkt_sync_set(libipt.get(), 0);

  PacketReader reader(bytes);
  decode::LastIp last_ip;
  for (;;) {
    const uint64_t offset = reader.offset();
    Packet ours;
    const Step step = reader.next(ours);
    pt_packet theirs;
    const int size = pt_pkt_next(libipt.get(), &theirs, sizeof theirs);
    switch (step) {
      case Step::end:
        if (size != -pte_eos) differ("the end", ours, offset, size);
        return;
      case Step::truncated:
        if (reader.offset() != offset) differ("what a truncated packet consumes", ours, offset, size);
        // BIP, packets that libipt has no name for, and a CYC beyond its limit are something else to it.
        if (size != -pte_eos && size != -pte_bad_opc && size != 1 &&
            !(size == -pte_bad_packet && is_cyc(bytes[offset])))
          differ("truncation", ours, offset, size);
        return;
      case Step::bad:
        if (size != -pte_bad_opc && size != -pte_bad_packet) differ("what is bad", ours, offset, size);
        if (!reader.resync()) return;
        pt_pkt_sync_set(libipt.get(), reader.offset());
        break;
      case Step::ok:
        if (ours.offset != offset || reader.offset() != offset + ours.size) differ("advance", ours, offset, size);
        if (libipt_knows(ours)) {
          if (size != ours.size || !same(ours, theirs)) differ("a packet", ours, offset, size);
        } else {
          if (size > 0 && ours.kind != Kind::bip) differ("an unknown packet", ours, offset, size);
          pt_pkt_sync_set(libipt.get(), reader.offset());
        }
        const std::string line = packet_text(ours, expand_ip(last_ip, ours));
        if (line.size() > 120 || line.find('\n') != std::string::npos) differ("text", ours, offset, size);
        break;
    }
  }
}

void compare_prefix(const std::vector<uint8_t>& bytes, size_t cut) {
  PacketReader whole(bytes), part(ByteSpan(bytes).first(cut));
  for (;;) {
    Packet a, b;
    const Step in_part = part.next(b);
    if (in_part == Step::end || in_part == Step::truncated) {
      const uint64_t stopped = part.offset();
      if (in_part == Step::end ? stopped != cut : stopped >= cut || cut - stopped >= decode::kMaxPacketBytes)
        differ("where a prefix stops", b, stopped, static_cast<int>(cut));
      return;
    }
    const Step in_whole = whole.next(a);
    if (in_part != in_whole) differ("a step of a prefix", b, part.offset(), static_cast<int>(cut));
    if (in_part == Step::bad) return;
    if (a.kind != b.kind || a.size != b.size || a.detail != b.detail || a.payload != b.payload || a.offset != b.offset)
      differ("a packet of a prefix", b, b.offset, static_cast<int>(cut));
  }
}

}  // namespace
}  // namespace hindcast

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hindcast::test::FuzzInput in(data, size);
  const uint64_t cuts = in.take(2);
  std::vector<uint8_t> bytes = hindcast::test::packet_stream(in);
  if (bytes.empty()) return 0;  // no configuration to libipt
  hindcast::compare_with_libipt(bytes);
  for (size_t i = 0; i < 4; ++i) hindcast::compare_prefix(bytes, (cuts * (2 * i + 1)) % (bytes.size() + 1));
  return 0;
}
