#include "decode/kept_scan.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/support/corpus.h"
#include "tests/support/memory_source.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

PtTimeConfig config() {
  PtTimeConfig c;
  c.tsc_ctc_num = 308;
  c.tsc_ctc_den = 2;
  c.mtc_period = 3;
  c.near = Tsc(5000000);
  c.traced = {Tsc(10), Tsc(9000000)};
  return c;
}

/// Stretches of every beginning and end, gaps of every cause, times that a run of TimeSteps cannot hold.
PtBytes everything() {
  PtBytes t;
  t.raw({1, 2, 3});
  for (uint64_t i = 0; i < 6; ++i) {
    t.psb().tsc(1000000 * (i + 1)).tma(static_cast<uint16_t>(8 * i), 5).mode_exec().fup(0x401000).psbend();
    for (int n = 0; n < 300; ++n) t.tnt("10").mtc(static_cast<uint8_t>(n)).tip(0x401000 + static_cast<uint64_t>(n));
    if (i == 0) t.fup(0x401005).tip_pgd();
    if (i == 1) t.tip_pgd(0x402000, 3).trace_stop();
    if (i == 2) t.ovf().fup(0x401010).tnt("1");
    if (i == 3) t.raw({0x05});
    if (i == 4) t.mode_tsx(2).fup(0x401000).tip(0x402000).tip_pgd();
  }
  return t.psb().psbend().mode_exec(2).tip_pge(0x401000).tnt("11").drop_last(0);
}

void expect_same(const PtTrace& a, const PtTrace& b) {
  ASSERT_EQ(a.map.stretches.size(), b.map.stretches.size());
  for (size_t i = 0; i < a.map.stretches.size(); ++i) {
    const Stretch &s = a.map.stretches[i], &t = b.map.stretches[i];
    const auto all = [](const Stretch& x) {
      return std::tuple(x.begin, x.end, x.sync, x.begin_ip, x.end_ip, x.end_to, x.start, x.how, x.flow, x.plain,
                        x.in_psb, x.bits, x.stopped, x.begin_time.earliest, x.begin_time.latest, x.end_time.earliest,
                        x.end_time.latest);
    };
    ASSERT_EQ(all(s), all(t)) << "stretch " << i;
  }
  ASSERT_EQ(a.map.gaps.size(), b.map.gaps.size());
  for (size_t i = 0; i < a.map.gaps.size(); ++i) {
    const Event &g = a.map.gaps[i], &h = b.map.gaps[i];
    ASSERT_EQ(std::tuple(g.kind, g.cause, g.offset, g.count, g.ip, g.to, g.time.earliest, g.time.latest),
              std::tuple(h.kind, h.cause, h.offset, h.count, h.ip, h.to, h.time.earliest, h.time.latest));
  }
  ASSERT_EQ(a.map.psbs, b.map.psbs);
  ASSERT_EQ(a.map.pagings, b.map.pagings);
  EXPECT_EQ(a.times.readings(), b.times.readings());
  EXPECT_EQ(a.times.contradictions(), b.times.contradictions());
  for (uint64_t at = 0; at <= a.bytes.size(); at += 1 + a.bytes.size() / 20000) {
    const TscInterval s = a.times.window(at, at + 5), t = b.times.window(at, at + 5);
    ASSERT_EQ(s.earliest, t.earliest) << at;
    ASSERT_EQ(s.latest, t.latest) << at;
    ASSERT_EQ(a.times.last_before(s.earliest), b.times.last_before(s.earliest)) << at;
  }
}

PtTrace unscanned(const PtTrace& scanned) {
  PtTrace t;
  t.bytes = scanned.bytes;
  t.cuts = scanned.cuts;
  return t;
}

TEST(KeptScan, GivesWhatTheScanFound) {
  const PtBytes pt = everything();
  const PtTrace scanned = PtTrace::scan(pt.bytes(), config(), {pt.size() / 2});
  ASSERT_GE(scanned.map.stretches.size(), 7u);
  ASSERT_GE(scanned.map.gaps.size(), 4u);
  const auto packed = pack_scan(scanned, config());
  PtTrace kept = unscanned(scanned);
  ASSERT_TRUE(unpack_scan(packed, config(), kept));
  expect_same(scanned, kept);
}

TEST(KeptScan, OfNothingIsNothing) {
  const PtTrace scanned = PtTrace::scan(ByteSpan(), config());
  PtTrace kept = unscanned(scanned);
  ASSERT_TRUE(unpack_scan(pack_scan(scanned, config()), config(), kept));
  expect_same(scanned, kept);
}

TEST(KeptScan, OfRecordedTracesIsTheSame) {
  HC_REQUIRE_CORPUS();
  for (const std::string& name : test::corpus_names()) {
    const auto snapshot = test::corpus_snapshot(test::corpus_trace(name));
    for (const auto& [id, bytes] : snapshot->source.streams) {
      const PtTimeConfig c = PtTimeConfig::from(snapshot->info.cpu, snapshot->info.pt);
      const PtTrace scanned = PtTrace::scan(bytes, c);
      PtTrace kept = unscanned(scanned);
      ASSERT_TRUE(unpack_scan(pack_scan(scanned, c), c, kept)) << name;
      expect_same(scanned, kept);
    }
  }
}

TEST(KeptScan, OfAnotherTraceOrConfigurationIsNotTaken) {
  const PtBytes pt = everything();
  const PtTrace scanned = PtTrace::scan(pt.bytes(), config(), {100});
  const auto packed = pack_scan(scanned, config());
  const std::vector<std::function<void(PtTimeConfig&, PtTrace&)>> changes = {
      [](PtTimeConfig& c, PtTrace&) { c.tsc_ctc_num = 307; },
      [](PtTimeConfig& c, PtTrace&) { c.tsc_ctc_den = 3; },
      [](PtTimeConfig& c, PtTrace&) { c.mtc_period = 4; },
      [](PtTimeConfig& c, PtTrace&) { c.near = Tsc(1); },
      [](PtTimeConfig& c, PtTrace&) { c.traced.earliest = Tsc(11); },
      [](PtTimeConfig& c, PtTrace&) { c.traced.latest = Tsc::max(); },
      [](PtTimeConfig& c, PtTrace&) { c.skd007 = true; },
      [](PtTimeConfig&, PtTrace& t) { t.cuts = {101}; },
      [](PtTimeConfig&, PtTrace& t) { t.cuts.clear(); },
      [](PtTimeConfig&, PtTrace& t) { t.bytes = t.bytes.first(t.bytes.size() - 1); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    PtTimeConfig c = config();
    PtTrace kept = unscanned(scanned);
    changes[i](c, kept);
    EXPECT_FALSE(unpack_scan(packed, c, kept)) << "change " << i;
  }
}

TEST(KeptScan, CutOrLongerItIsNotTaken) {
  const PtBytes pt = everything();
  const PtTrace scanned = PtTrace::scan(pt.bytes(), config());
  auto packed = pack_scan(scanned, config());
  for (size_t n = 0; n < packed.size(); ++n) {
    PtTrace kept = unscanned(scanned);
    ASSERT_FALSE(unpack_scan(ByteSpan(packed).first(n), config(), kept)) << n;
  }
  packed.push_back(0);
  PtTrace kept = unscanned(scanned);
  EXPECT_FALSE(unpack_scan(packed, config(), kept));
}

TEST(KeptScan, WithAByteChangedItIsNotTakenOrCanBeAsked) {
  const PtBytes pt = everything();
  const PtTrace scanned = PtTrace::scan(pt.bytes(), config());
  const auto packed = pack_scan(scanned, config());
  size_t refused = 0;
  for (size_t i = 0; i < packed.size(); ++i) {
    auto changed = packed;
    changed[i] ^= static_cast<uint8_t>(1 << i % 8);
    PtTrace kept = unscanned(scanned);
    if (!unpack_scan(changed, config(), kept)) {
      ++refused;
      continue;
    }
    for (const Stretch& s : kept.map.stretches) {
      ASSERT_LT(s.begin, s.end);
      ASSERT_LE(s.end, pt.size());
    }
    const TscInterval all = kept.times.window(0, pt.size());
    kept.times.last_before(all.latest);
    for (uint64_t at = 0; at < pt.size(); at += 31) kept.times.window(at, at);
  }
  EXPECT_GT(refused, packed.size() / 3);
}

}  // namespace
}  // namespace hindcast::decode
