// Times of a sampled clock: the truth lies inside, for a clock that runs straight and for one that is slewed.
#include "decode/sampled_clock.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hindcast::decode {
namespace {

constexpr uint64_t kSecond = 1000000000;
constexpr double kTicksPerNs = 2.1;

/// A clock whose rate against the TSC changes at given times.
struct Slewed {
  struct Piece {
    double from_tsc, rate;  // ns a tick
  };
  std::vector<Piece> pieces;
  double at(double tsc) const {
    double ns = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const double end = i + 1 < pieces.size() ? std::min(tsc, pieces[i + 1].from_tsc) : tsc;
      if (end > pieces[i].from_tsc) ns += (end - pieces[i].from_tsc) * pieces[i].rate;
    }
    return ns;
  }
  /// The reading lies anywhere in its bracket, by `where` from 0 to 1.
  ClockSample sample(double tsc, double width, double where) const {
    return {static_cast<uint64_t>(tsc), static_cast<uint64_t>(at(tsc + width * where)),
            static_cast<uint64_t>(tsc + width)};
  }
};

std::vector<ClockSample> samples(const Slewed& clock, double every_tsc, int n) {
  std::vector<ClockSample> out;
  for (int i = 0; i < n; ++i) out.push_back(clock.sample(i * every_tsc, 60, (i * 7 % 10) / 10.0));
  return out;
}

TEST(SampledClock, AStraightClockIsKnownToABracket) {
  const Slewed clock{{{0, 1 / kTicksPerNs}}};
  const double every = 0.1 * kSecond * kTicksPerNs;
  const SampledClock line(samples(clock, every, 20), 0);
  for (double tsc = every; tsc < 18 * every; tsc += every / 7.3) {
    const TscInterval i = line.to_tsc(static_cast<uint64_t>(clock.at(tsc)));
    EXPECT_LE(i.earliest.value(), tsc + 2);
    EXPECT_GE(i.latest.value() + 3, tsc);
    EXPECT_LT(i.latest.value() - i.earliest.value(), 400u) << "0.2 us";
  }
}

TEST(SampledClock, TheTruthLiesInsideWhereTheRateChanges) {
  const double every = 0.1 * kSecond * kTicksPerNs;
  for (const double ppm : {1.0, -20.0, 500.0})
    for (const double kink : {7.1, 7.5, 7.95}) {
      const Slewed clock{{{0, 1 / kTicksPerNs}, {kink * every, (1 + ppm / 1e6) / kTicksPerNs}}};
      const SampledClock line(samples(clock, every, 20), 0);
      for (double tsc = 2 * every; tsc < 17 * every; tsc += every / 31.7) {
        const TscInterval i = line.to_tsc(static_cast<uint64_t>(clock.at(tsc)));
        EXPECT_LE(i.earliest.value(), tsc + 2) << ppm << " ppm at " << tsc / every;
        EXPECT_GE(i.latest.value() + 3, tsc) << ppm << " ppm at " << tsc / every;
      }
    }
}

TEST(SampledClock, OutsideOfTheSamplesOnlyOneSideIsKnown) {
  const SampledClock line({{100, 1000, 110}, {300, 2000, 310}, {500, 3000, 510}}, 0);
  EXPECT_EQ(line.to_tsc(999), (TscInterval{Tsc::min(), Tsc(110)}));
  EXPECT_EQ(line.to_tsc(3001), (TscInterval{Tsc(500), Tsc::max()}));
  EXPECT_TRUE(SampledClock({}, 0).to_tsc(5).is_unknown());
}

TEST(SampledClock, TwoSamplesAloneClaimNoLine) {
  const SampledClock line({{100, 1000, 110}, {300, 2000, 310}}, 0);
  EXPECT_EQ(line.to_tsc(1500), (TscInterval{Tsc(100), Tsc(310)}));
}

TEST(SampledClock, ReadingsMayBeOffByTheSlack) {
  const std::vector<ClockSample> s{{1000, 1000, 1000}, {2000, 2000, 2000}, {3000, 3000, 3000}};
  EXPECT_LE(SampledClock(s, 0).to_tsc(1500).latest.value(), 1502u);
  const TscInterval wide = SampledClock(s, 100).to_tsc(1500);
  EXPECT_LE(wide.earliest.value(), 1400u);
  EXPECT_GE(wide.latest.value(), 1600u);
}

TEST(SampledClock, SamplesAtTheSameTimeAreNoDivisionByZero) {
  const SampledClock line({{100, 1000, 110}, {200, 1000, 210}, {300, 1000, 310}, {400, 1001, 410}}, 5);
  const TscInterval i = line.to_tsc(1000);
  EXPECT_EQ(i.latest, Tsc(410));
  EXPECT_LE(i.earliest.value(), 400u);
}

}  // namespace
}  // namespace hindcast::decode
