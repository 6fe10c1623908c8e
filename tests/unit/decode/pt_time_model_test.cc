// The true time lies inside the bounds, always: streams made by a small model of a CPU that knows it.
//
// The model shares nothing with the decoder but the SDM's words: a real-valued time, a crystal clock that ticks at a
// rational rate from a random phase, branches that wait in a TNT buffer (and TIPs behind them), timing packets that take
// their place in the stream a little after they were made, MTCs that get lost, overflows, PSB+s.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "decode/stretches.h"
#include "tests/support/pt_bytes.h"

namespace hindcast::decode {
namespace {

using test::PtBytes;

struct ModelConfig {
  uint32_t num = 308, den = 2;  // TSC ticks a CTC tick
  uint8_t mtc_period = 3;
  double start = 1e9;   // TSC
  double mtc_loss = 0;  // share of MTCs lost, never 250 in a row
  double latency = 0;   // TSC ticks, at most, until a timing packet is in the stream
  bool defer_tips = false;
  bool tma = true;
  bool calm = false;  // no sleep, no overflow, hardly any waiting
};

/// What happened, when, and which packet tells of it.
struct Truth {
  uint64_t packet = 0;
  uint64_t tsc = 0;
};

class Model {
 public:
  Model(const ModelConfig& c, uint64_t seed) : c_(c), random_(seed) {
    ratio_ = static_cast<double>(c.num) / c.den;
    now_ = c.start;
    ctc_zero_ = now_ - static_cast<double>(random_() % 1000000) * ratio_ - uniform() * ratio_;
    next_mtc_ =
        (static_cast<uint64_t>((now_ - ctc_zero_) / ratio_ / static_cast<double>(mtc_ticks())) + 1) * mtc_ticks();
    psb_plus(false);
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    flush();
  }

  PtBytes stream;
  std::vector<Truth> truth;

 private:
  double uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  uint64_t mtc_ticks() const { return uint64_t{1} << c_.mtc_period; }
  uint64_t tsc() const { return static_cast<uint64_t>(std::floor(now_)); }
  double time_of_ctc(uint64_t tick) const { return ctc_zero_ + static_cast<double>(tick) * ratio_; }

  /// Time passes; crystal ticks on the way make MTCs, which may be late or lost.
  void advance(double ticks) {
    const double until = now_ + ticks;
    if (mtc_stopped_) {
      now_ = until;
      next_mtc_ =
          (static_cast<uint64_t>((now_ - ctc_zero_) / ratio_ / static_cast<double>(mtc_ticks())) + 1) * mtc_ticks();
      return;
    }
    for (; time_of_ctc(next_mtc_) + late_ <= until; next_mtc_ += mtc_ticks()) {
      now_ = std::max(now_, time_of_ctc(next_mtc_) + late_);
      late_ = uniform() * c_.latency;
      if (uniform() < c_.mtc_loss && ++lost_ < 250) continue;
      lost_ = 0;
      stream.mtc(static_cast<uint8_t>(next_mtc_ >> c_.mtc_period));
    }
    now_ = until;
  }

  void happened(uint64_t packet) { truth.push_back({packet, tsc()}); }

  void conditional() {
    waiting_ += uniform() < 0.5 ? 'T' : 'N';
    waiting_times_.push_back(tsc());
    if (waiting_.size() == 6) flush();
  }

  void indirect() {
    waiting_tips_.push_back(tsc());
    if (!c_.defer_tips || waiting_.empty() || waiting_tips_.size() > 8) flush();
  }

  /// TNT first, then the TIPs that were deferred behind it.
  void flush() {
    if (!waiting_.empty()) {
      for (uint64_t t : waiting_times_) truth.push_back({stream.size(), t});
      stream.tnt(waiting_);
    }
    for (uint64_t t : waiting_tips_) {
      truth.push_back({stream.size(), t});
      stream.tip(0x401000 + random_() % 4096);
    }
    waiting_.clear();
    waiting_times_.clear();
    waiting_tips_.clear();
  }

  void psb_plus(bool on) {
    flush();
    stream.psb();
    const uint64_t made = tsc();
    const uint64_t ctc = static_cast<uint64_t>(std::floor((now_ - ctc_zero_) / ratio_));
    const uint64_t fast = static_cast<uint64_t>(std::floor(now_ - time_of_ctc(ctc)));
    advance(uniform() * c_.latency);  // MTCs may overtake it, and it arrives old
    stream.tsc(made);
    if (c_.tma) stream.tma(static_cast<uint16_t>(ctc), static_cast<uint16_t>(fast & 0x1ff));
    mtc_stopped_ = false;
    lost_ = 0;
    if (on) {
      happened(stream.size());
      stream.fup(0x401000);
    }
    stream.psbend();
  }

  void step() {
    advance(c_.calm ? 300 * uniform() : std::pow(10.0, 1 + 3 * uniform()));
    const double dice = uniform();
    if (!on_) {
      if (dice < 0.2) return psb_plus(false);
      if (dice < 0.3 && !c_.calm) return sleep();
      happened(stream.size());
      stream.tip_pge(0x401000);
      on_ = true;
      return;
    }
    if (dice < 0.6) return conditional();
    if (dice < 0.8) return indirect();
    if (dice < 0.9) {
      flush();
      if (uniform() < 0.5) {
        happened(stream.size());
        stream.fup(0x401234);
      }
      happened(stream.size());
      stream.tip_pgd();
      on_ = false;
      return;
    }
    if (dice < 0.95) return psb_plus(true);
    if (dice < 0.98 && !c_.calm) return overflow();
    const uint64_t burst = random_() % 60;  // a run of branches with hardly any time between
    for (uint64_t i = 0; i < burst; ++i) uniform() < 0.8 ? conditional() : indirect();
  }

  /// MTC stops for up to many turns of its counter; the CPU wakes with TSC and TMA.
  void sleep() {
    mtc_stopped_ = true;
    advance(1e7 * uniform());
    psb_plus(false);
  }

  /// Packets of a random while are lost, MTCs among them; more may have passed than the counter can tell.
  void overflow() {
    flush();
    happened(stream.size());
    stream.ovf();
    mtc_stopped_ = true;
    advance(uniform() < 0.3 ? 1e7 * uniform() : 1e4 * uniform());
    mtc_stopped_ = false;
    happened(stream.size());
    stream.fup(0x401000);
  }

  ModelConfig c_;
  std::mt19937_64 random_;
  double ratio_ = 1;
  double now_ = 0;
  double ctc_zero_ = 0;  // when the crystal counter was 0
  uint64_t next_mtc_ = 0;
  double late_ = 0;
  int lost_ = 0;
  bool mtc_stopped_ = false;
  bool on_ = false;
  std::string waiting_;
  std::vector<uint64_t> waiting_times_, waiting_tips_;
};

TimeMap map_of(const Model& model, const ModelConfig& c) {
  PtTimeConfig config;
  config.tsc_ctc_num = c.num;
  config.tsc_ctc_den = c.den;
  config.mtc_period = c.mtc_period;
  return scan_packets(model.stream.bytes(), config).times;
}

/// Every event inside its packet's interval, bounds that never decrease, nothing contradictory.
void expect_truth_inside(const Model& model, const TimeMap& map) {
  for (const Truth& t : model.truth) {
    const TscInterval at = map.at(t.packet);
    ASSERT_TRUE(at.contains(Tsc(t.tsc))) << "packet " << t.packet << ": " << t.tsc << " is not in ["
                                         << at.earliest.value() << ", " << at.latest.value() << "]";
  }
  TscInterval before = map.at(0);
  for (uint64_t offset = 1; offset <= model.stream.size(); ++offset) {
    const TscInterval at = map.at(offset);
    ASSERT_LE(before.earliest, at.earliest) << offset;
    ASSERT_LE(before.latest, at.latest) << offset;
    ASSERT_LE(at.earliest, at.latest) << offset;
    before = at;
  }
  EXPECT_EQ(map.contradictions(), 0u);
}

void check(const ModelConfig& c, uint64_t seed, int steps) {
  SCOPED_TRACE("seed " + std::to_string(seed) + ", MTC period " + std::to_string(c.mtc_period));
  Model model(c, seed);
  model.run(steps);
  expect_truth_inside(model, map_of(model, c));
}

TEST(PtTimeModel, TruthIsInsideOnRandomSchedules) {
  constexpr struct { uint32_t num, den; } kRatios[] = {{308, 2}, {168, 2}, {1, 1}, {4000, 27}, {500, 1}, {30, 7}};
  std::mt19937_64 random(20240607);
  for (uint64_t seed = 0; seed < 20000 && !::testing::Test::HasFailure(); ++seed) {
    const auto& ratio = kRatios[random() % std::size(kRatios)];
    ModelConfig c;
    c.num = ratio.num;
    c.den = ratio.den;
    // MTC faster than its own latency would overtake itself, and one each few TSC ticks is only slow to test.
    do c.mtc_period = static_cast<uint8_t>(random() % 11);
    while (std::ldexp(static_cast<double>(c.num) / c.den, c.mtc_period) < 400);
    c.start = static_cast<double>(random() % (uint64_t{1} << 40)) + 1e9;
    c.mtc_loss = random() % 3 == 0 ? 0.5 : 0;
    c.latency = random() % 2 ? 200 : 0;
    c.defer_tips = random() % 2;
    c.tma = random() % 8 != 0;
    check(c, seed, 60);
  }
}

TEST(PtTimeModel, TruthIsInsideWithMtcPeriodsLongerThanTmaCanTell) {
  for (uint64_t seed = 0; seed < 2000 && !::testing::Test::HasFailure(); ++seed) {
    ModelConfig c;
    c.mtc_period = static_cast<uint8_t>(11 + seed % 5);
    c.mtc_loss = 0.3;
    check(c, seed, 200);
  }
}

TEST(PtTimeModel, TruthIsInsideWhereTscIsSmallOrNearTheWrap) {
  for (uint64_t seed = 0; seed < 2000 && !::testing::Test::HasFailure(); ++seed) {
    ModelConfig c;
    c.start = seed % 2 ? 10.0 : std::ldexp(1.0, 45) - 50000;  // doubles keep 1/256 tick there
    check(c, seed, 60);
  }
}

TEST(PtTimeModel, LossesOfNearlyATurnAreStillInside) {
  for (uint64_t seed = 0; seed < 2000 && !::testing::Test::HasFailure(); ++seed) {
    ModelConfig c;
    c.mtc_period = static_cast<uint8_t>(seed % 4);
    c.mtc_loss = 0.97;
    check(c, seed, 400);
  }
}

/// Bounds that are true because they are infinitely wide would pass the tests above.
TEST(PtTimeModel, WithEveryMtcTheIntervalIsAFewPeriodsWide) {
  ModelConfig c;
  c.calm = true;
  const uint64_t period = 8 * 154;
  uint64_t events = 0, narrow = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Model model(c, seed);
    model.run(300);
    const TimeMap map = map_of(model, c);
    for (const Truth& t : model.truth) {
      const TscInterval at = map.at(t.packet);
      if (at.is_unknown()) continue;  // the last ones of the stream
      ++events;
      narrow += at.latest.value() - at.earliest.value() <= 3 * period + kPacketLatency;
    }
  }
  EXPECT_GT(events, 40000u);
  EXPECT_GT(narrow, events * 95 / 100) << narrow << " of " << events;
}

}  // namespace
}  // namespace hindcast::decode
