// Lines and packets one by one: whatever the bytes are, the lanes hold the same.
#include "decode/fast/lex_lines.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>

#include "decode/fast/tnt_cursor.h"
#include "tests/support/corpus.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;
using Random = std::mt19937;

/// What a walk that stands at `bit` can see.
struct Seen {
  LaneLexer::Stop stop;
  uint64_t offset = 0;
  std::string bits;
  std::vector<uint64_t> bit_packets, tips, tip_offsets, tip_bits;
  bool operator==(const Seen&) const = default;
};

Seen seen(const LaneLexer& lexer, const Lanes& lanes, ByteSpan trace, uint32_t bit) {
  Seen s{lexer.stop(), lexer.offset(), {}, {}, {}, {}, {}};
  TntCursor c;
  for (c.seek(lanes, trace, bit); c.bit() < lanes.bits; c.step(lanes, trace)) {
    s.bits += lanes.window(c.bit()) >> 63 ? 'T' : 'N';
    s.bit_packets.push_back(c.offset());
  }
  for (size_t i = 0; i < lanes.tips; ++i) {
    s.tips.push_back(lanes.tip[i]);
    s.tip_offsets.push_back(lanes.base + lanes.tip_offset[i]);
    s.tip_bits.push_back(std::max(lanes.tip_bits[i], bit));
  }
  return s;
}

/// Where lexing ended: the same for both ways, or the test has failed.
uint64_t lex_both(ByteSpan trace, uint64_t from, uint64_t end, Random& random) {
  TraceBytes bytes(trace);
  LaneLexer fastest(bytes, from, end, 0x401000), one_by_one(bytes, from, end, 0x401000, LaneLexer::Way::one_by_one);
  Lanes a, b;
  a.base = b.base = from;
  uint32_t bit = 0;
  size_t tip = 0;
  for (;;) {
    fastest.more(a, bit, tip);
    one_by_one.more(b, bit, tip);
    bit %= 8;
    const Seen left = seen(fastest, a, trace, bit), right = seen(one_by_one, b, trace, bit);
    EXPECT_EQ(a.bits, b.bits);
    EXPECT_EQ(left.offset, right.offset);
    EXPECT_TRUE(left == right) << "from " << from << " to " << end << ", before " << left.offset;
    if (!(left == right) || a.bits != b.bits || right.stop == LaneLexer::Stop::end) return right.offset;
    if (right.stop == LaneLexer::Stop::psb) {
      EXPECT_EQ(fastest.cross_psb(a), one_by_one.cross_psb(b));
      bit = 0;
      tip = 0;
    } else if (right.stop == LaneLexer::Stop::event) {
      const PacketEvent l = fastest.cross_event(a), r = one_by_one.cross_event(b);
      EXPECT_EQ(std::tie(l.place, l.at, l.to, l.tells, l.first, l.placed, l.last),
                std::tie(r.place, r.at, r.to, r.tells, r.first, r.placed, r.last));
      bit = 0;
      tip = 0;
    } else {  // some of it is walked
      bit = random() % 2 ? b.bits : bit + static_cast<uint32_t>(random() % (b.bits - bit + 1));
      tip = random() % 2 ? b.tips : random() % (b.tips + 1);
    }
  }
}

std::string some_bits(Random& random, unsigned most) {
  std::string s;
  for (auto n = 1 + random() % most; n-- > 0;) s += random() & 1 ? 'T' : 'N';
  return s;
}

void add_packet(PtBytes& t, Random& random, unsigned kind) {
  constexpr int kForms[] = {0, 1, 2, 3, 4, 6};
  const uint64_t any = uint64_t{random()} << 32 | random();
  switch (kind) {
    case 0:
      t.tnt(some_bits(random, 6));
      break;
    case 1:
      t.tip(any, kForms[random() % 6]);
      break;
    case 2:  // few of them are long
      t.cyc(any >> 16 >> random() % 49);
      break;
    case 3:
      t.cyc(32 + any % 4000);
      break;
    case 4:
      t.mtc(static_cast<uint8_t>(any));
      break;
    case 5:
      t.pad(1 + static_cast<int>(any % 3));
      break;
    case 6:
      t.tnt64(some_bits(random, 47));
      break;
    case 7:
      t.tsc(any).tma(static_cast<uint16_t>(any), 7).cbr(30);
      break;
    case 8:
      if (any & 1) t.raw({0x02, 0xb2}).le(any, 8);
      if (any & 2) t.mode_tsx(static_cast<int>(any >> 8 & 3));
      if (any & 4) t.fup(any);
      if (any & 8) t.pip(any);
      if (any & 16) t.mode_exec(2);
      break;
    default:
      t.psb().tsc(any).mode_exec();
      if (any & 1) t.fup(any);
      t.cyc(any % 100).psbend();
      break;
  }
}

TEST(LexLines, ThisMachineHasThem) {
  if (!can_lex_lines()) GTEST_SKIP() << "no AVX2, or no quick PEXT: the tests below compare a lexer with itself";
}

TEST(LexLines, GiveWhatPacketsGiveOneByOne) {
  Random random(1);
  for (int round = 0; round < 3000; ++round) {
    // Which kinds there are, and how often: sparse ones let lines run on.
    std::vector<double> weights(10);
    for (double& w : weights) w = random() % 3 ? 0 : 1 << random() % 10;
    weights[round % 6] += 1;
    for (size_t rare = 6; rare < weights.size(); ++rare) weights[rare] = random() % 2 ? 0 : weights[rare] / 100;
    std::discrete_distribution<unsigned> kind(weights.begin(), weights.end());
    PtBytes t;
    const uint64_t size = round % 100 == 0 ? 100000 : random() % 2000;
    while (t.size() < size) add_packet(t, random, kind(random));
    // Bytes behind the last one must not be read: the copy has none.
    const std::vector<uint8_t> bytes(t.bytes().begin(),
                                     t.bytes().end() - static_cast<ptrdiff_t>(random() % 9 % (t.size() + 1)));
    // Some stretches end where the trace does, others have more behind them.
    const uint64_t end = random() % 2 ? bytes.size() : bytes.size() - std::min(bytes.size(), random() % 200);
    lex_both(bytes, 0, end, random);
    if (HasFailure()) return;
  }
}

TEST(LexLines, GiveTheSameForBytesThatAreNoTrace) {
  Random random(2);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> bytes(random() % 3000);
    // Some of these have few kinds of bytes, so that what is rare elsewhere meets.
    const std::vector<uint8_t> few{0x03, 0x07, 0xff, 0x59, 0x02, 0x0d, 0x2d, 0xcd, 0xa3, 0x19, 0x00, 0x04, 0xfe, 0x63};
    const size_t kinds = 1 + random() % few.size();
    for (uint8_t& b : bytes) b = round % 3 == 0 ? static_cast<uint8_t>(random()) : few[random() % kinds];
    const uint64_t end = round % 2 ? bytes.size() : bytes.size() / 2;
    for (uint64_t from = 0; from < end;) from = lex_both(bytes, from, end, random) + 1;
    if (HasFailure()) return;
  }
}

TEST(LexLines, GiveTheSameForRealTraces) {
  HC_REQUIRE_CORPUS();
  Random random(3);
  for (const std::string& name : test::corpus_names()) {
    SCOPED_TRACE(name);
    const std::vector<uint8_t> bytes = test::file_bytes(test::corpus_trace(name).trace);
    const uint64_t most = std::min<uint64_t>(bytes.size(), 4 << 20);
    for (uint64_t from = test::corpus_trace(name).first_psb_offset; from < most;)
      from = lex_both(bytes, from, most, random) + 1;
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace hindcast::decode
