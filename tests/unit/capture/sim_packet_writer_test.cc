#include "capture/sim/packet_writer.h"

#include <gtest/gtest.h>
#include <intel-pt.h>

#include "tests/unit/capture/sim_decode.h"

namespace hindcast::sim {
namespace {

using Bytes = std::vector<uint8_t>;

template <class F>
Bytes written(F f) {
  AuxRing ring(4096);
  PacketWriter w(ring);
  f(w);
  return ring.contents();
}

// Expected bytes are read off the packet definition tables of the SDM (Vol. 3C, 36.4.2).
TEST(SimPacketWriter, PacketsWithoutState) {
  EXPECT_EQ(written([](auto& w) { w.pad(); }), (Bytes{0x00}));
  EXPECT_EQ(written([](auto& w) { w.psb(); }),
            (Bytes{2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82, 2, 0x82}));
  EXPECT_EQ(written([](auto& w) { w.psbend(); }), (Bytes{2, 0x23}));
  EXPECT_EQ(written([](auto& w) { w.ovf(); }), (Bytes{2, 0xf3}));
  EXPECT_EQ(written([](auto& w) { w.trace_stop(); }), (Bytes{2, 0x83}));
  EXPECT_EQ(written([](auto& w) { w.mode_exec(64); }), (Bytes{0x99, 0x01}));
  EXPECT_EQ(written([](auto& w) { w.mode_exec(32); }), (Bytes{0x99, 0x02}));
  EXPECT_EQ(written([](auto& w) { w.mode_exec(16); }), (Bytes{0x99, 0x00}));
  EXPECT_EQ(written([](auto& w) { w.mode_tsx(true, false); }), (Bytes{0x99, 0x21}));
  EXPECT_EQ(written([](auto& w) { w.mode_tsx(false, true); }), (Bytes{0x99, 0x22}));
  EXPECT_EQ(written([](auto& w) { w.cbr(0x1a); }), (Bytes{2, 3, 0x1a, 0}));
  EXPECT_EQ(written([](auto& w) { w.mtc(0xe7); }), (Bytes{0x59, 0xe7}));
  EXPECT_EQ(written([](auto& w) { w.tsc(0x2fa1088fac05e2); }), (Bytes{0x19, 0xe2, 0x05, 0xac, 0x8f, 0x08, 0xa1, 0x2f}));
  EXPECT_EQ(written([](auto& w) { w.tma(0x3f35, 0x1ab); }), (Bytes{2, 0x73, 0x35, 0x3f, 0, 0xab, 1}));
  EXPECT_EQ(written([](auto& w) { w.pip(0x12345678000, true); }), (Bytes{2, 0x43, 0x01, 0x78, 0x56, 0x34, 0x12, 0x00}));
  EXPECT_EQ(written([](auto& w) { w.mnt(0x0102030405060708); }), (Bytes{2, 0xc3, 0x88, 8, 7, 6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(written([](auto& w) { w.ptw(0x01020304, false, false); }), (Bytes{2, 0x12, 4, 3, 2, 1}));
  EXPECT_EQ(written([](auto& w) { w.ptw(1, true, true); }), (Bytes{2, 0xb2, 1, 0, 0, 0, 0, 0, 0, 0}));
  // the HW bit is bit 7 in the SDM and in perf; libipt 2.0.5 reads bit 3
  EXPECT_EQ(written([](auto& w) { w.pwre(3, 2, true); }), (Bytes{2, 0x22, 0x80, 0x32}));
  EXPECT_EQ(written([](auto& w) { w.exstop(true); }), (Bytes{2, 0xe2}));
}

TEST(SimPacketWriter, TntHasTheOldestResultHighestAndAStopBit) {
  EXPECT_EQ(written([](auto& w) { w.tnt8(0b1, 1); }), (Bytes{0b110}));
  EXPECT_EQ(written([](auto& w) { w.tnt8(0b0, 1); }), (Bytes{0b100}));
  EXPECT_EQ(written([](auto& w) { w.tnt8(0b101100, 6); }), (Bytes{0b11011000}));
  EXPECT_EQ(written([](auto& w) { w.tnt64(0b1, 1); }), (Bytes{2, 0xa3, 0b11, 0, 0, 0, 0, 0}));
  EXPECT_EQ(written([](auto& w) { w.tnt64(0, 47); }), (Bytes{2, 0xa3, 0, 0, 0, 0, 0, 0x80}));
}

TEST(SimPacketWriter, CycGrowsByTheByte) {
  EXPECT_EQ(written([](auto& w) { w.cyc(1); }), (Bytes{0x0b}));
  EXPECT_EQ(written([](auto& w) { w.cyc(31); }), (Bytes{0xfb}));
  EXPECT_EQ(written([](auto& w) { w.cyc(32); }), (Bytes{0x07, 0x02}));
  EXPECT_EQ(written([](auto& w) { w.cyc(4095); }), (Bytes{0xff, 0xfe}));
  EXPECT_EQ(written([](auto& w) { w.cyc(4096); }), (Bytes{0x07, 0x01, 0x02}));
}

TEST(SimPacketWriter, CycOfAnySizeReadsBack) {
  for (unsigned bit = 0; bit < 60; ++bit) {
    for (uint64_t v : {(uint64_t{1} << bit) - 1, uint64_t{1} << bit, (uint64_t{1} << bit) + 5}) {
      AuxRing ring(4096);
      PacketWriter w(ring);
      w.psb();
      w.cyc(v);
      Bytes bytes = ring.contents();
      pt_config c = ipt_config(bytes, PtCpu{}, PtOptions{});
      pt_packet_decoder* d = pt_pkt_alloc_decoder(&c);
      ASSERT_GE(pt_pkt_sync_forward(d), 0);
      pt_packet p;
      ASSERT_EQ(pt_pkt_next(d, &p, sizeof p), 16);
      ASSERT_GT(pt_pkt_next(d, &p, sizeof p), 0);
      EXPECT_EQ(p.type, ppt_cyc);
      EXPECT_EQ(p.payload.cyc.value, v);
      pt_pkt_free_decoder(d);
    }
  }
}

TEST(SimPacketWriter, IpsAreCompressedAgainstTheLastOne) {
  EXPECT_EQ(written([](auto& w) {
              w.psb();
              w.tip(0x7f0123456789);
            }).size(),
            16u + 7);
  EXPECT_EQ(written([](auto& w) {
              w.tip(0x7f0123456789);
              w.tip(0x7f012345abcd);
              w.fup(0x7f01ffff0000);
              w.tip_pge(0xffffffff81000000);
              w.tip_pgd(0x8000000000000000);
            }),
            (Bytes{0x6d, 0x89, 0x67, 0x45, 0x23, 0x01, 0x7f, 0x2d, 0xcd, 0xab, 0x5d, 0, 0, 0xff, 0xff, 0x71,
                   0,    0,    0,    0x81, 0xff, 0xff, 0xc1, 0,    0,    0,    0,    0, 0, 0,    0x80}));
}

TEST(SimPacketWriter, LastIpSurvivesASuppressedIp) {
  EXPECT_EQ(written([](auto& w) {
              w.tip(0x401000);
              w.tip_pgd();
              w.tip_pge(0x401008);
            }),
            (Bytes{0x6d, 0, 0x10, 0x40, 0, 0, 0, 0x01, 0x31, 0x08, 0x10}));
}

TEST(SimPacketWriter, ChosenIpFormsUpdateTheLastIpAsADecoderWould) {
  EXPECT_EQ(written([](auto& w) {
              w.ip_packet_as(0x0d, IpBytes::full, 0x1234567890abcdef);
              w.ip_packet_as(0x0d, IpBytes::update16, 0x1111);
              w.tip(0x1234567890ab1112);
            }),
            (Bytes{0xcd, 0xef, 0xcd, 0xab, 0x90, 0x78, 0x56, 0x34, 0x12, 0x2d, 0x11, 0x11, 0x2d, 0x12, 0x11}));
}

// Everything libipt knows reads back as what was written.
TEST(SimPacketWriter, LibiptReadsThePackets) {
  AuxRing ring(4096);
  PacketWriter w(ring);
  w.psb();
  w.tnt(0b10, 2);
  w.tnt(0x155555555555, 47);
  w.pip(0xabcde000, true);
  w.vmcs(0x123456000);
  w.tsc(0x00ffffffffffffff);
  w.tma(0xffff, 0x1ff);
  w.mwait(0x21, 1);
  w.pwre(3, 2, true);
  w.pwrx(4, 5, 1);
  w.exstop(false);
  w.ptw(0x1122334455667788, true, true);
  Bytes bytes = ring.contents();
  pt_config c = ipt_config(bytes, PtCpu{}, PtOptions{});
  pt_packet_decoder* d = pt_pkt_alloc_decoder(&c);
  ASSERT_GE(pt_pkt_sync_forward(d), 0);
  pt_packet p;
  const auto next = [&] {
    EXPECT_GT(pt_pkt_next(d, &p, sizeof p), 0);
    return p.type;
  };
  EXPECT_EQ(next(), ppt_psb);
  EXPECT_EQ(next(), ppt_tnt_8);
  EXPECT_EQ(p.payload.tnt.bit_size, 2);
  EXPECT_EQ(p.payload.tnt.payload, 0b10u);
  EXPECT_EQ(next(), ppt_tnt_64);
  EXPECT_EQ(p.payload.tnt.bit_size, 47);
  EXPECT_EQ(p.payload.tnt.payload, 0x155555555555u);
  EXPECT_EQ(next(), ppt_pip);
  EXPECT_EQ(p.payload.pip.cr3, 0xabcde000u);
  EXPECT_EQ(p.payload.pip.nr, 1u);
  EXPECT_EQ(next(), ppt_vmcs);
  EXPECT_EQ(p.payload.vmcs.base, 0x123456000u);
  EXPECT_EQ(next(), ppt_tsc);
  EXPECT_EQ(p.payload.tsc.tsc, 0x00ffffffffffffffu);
  EXPECT_EQ(next(), ppt_tma);
  EXPECT_EQ(p.payload.tma.ctc, 0xffff);
  EXPECT_EQ(p.payload.tma.fc, 0x1ff);
  EXPECT_EQ(next(), ppt_mwait);
  EXPECT_EQ(p.payload.mwait.hints, 0x21u);
  EXPECT_EQ(p.payload.mwait.ext, 1u);
  EXPECT_EQ(next(), ppt_pwre);
  EXPECT_EQ(p.payload.pwre.state, 3);
  EXPECT_EQ(p.payload.pwre.sub_state, 2);
  EXPECT_EQ(next(), ppt_pwrx);
  EXPECT_EQ(p.payload.pwrx.last, 4);
  EXPECT_EQ(p.payload.pwrx.deepest, 5);
  EXPECT_EQ(p.payload.pwrx.interrupt, 1u);
  EXPECT_EQ(next(), ppt_exstop);
  EXPECT_EQ(next(), ppt_ptw);
  EXPECT_EQ(p.payload.ptw.payload, 0x1122334455667788u);
  EXPECT_EQ(p.payload.ptw.ip, 1u);
  pt_pkt_free_decoder(d);
}

TEST(SimAuxRing, KeepsTheNewestBytesInOrder) {
  AuxRing ring(100);
  Bytes all;
  for (unsigned i = 0; i < 200; ++i) {
    const uint64_t v = 0x0101010101010101u * (i & 0xff);
    const unsigned n = 1 + i % 8;
    ring.put_low(v, n);
    all.insert(all.end(), n, static_cast<uint8_t>(i));
    const Bytes got = ring.contents();
    ASSERT_EQ(got.size(), std::min<size_t>(all.size(), 100));
    ASSERT_TRUE(std::equal(got.begin(), got.end(), all.end() - static_cast<long>(got.size()))) << i;
  }
  EXPECT_TRUE(ring.wrapped());
}

}  // namespace
}  // namespace hindcast::sim
