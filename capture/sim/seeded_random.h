// Random numbers that depend on nothing but their seed: the same recording inputs give the same bytes.
#pragma once

#include <cmath>
#include <cstdint>

namespace hindcast::sim {

/// splitmix64. Cheap to seed, so every purpose has its own and adding a draw to one does not change another.
class SeededRandom {
 public:
  SeededRandom(uint64_t seed, uint64_t purpose) : s_(seed * 0x9e3779b97f4a7c15u ^ (purpose + 1) * 0xd1b54a32d192ed03u) {
    next();
  }
  uint64_t next() {
    uint64_t z = (s_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [low, high], both inclusive.
  uint64_t between(uint64_t low, uint64_t high) { return low + next() % (high - low + 1); }
  /// In [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double p) { return p > 0 && unit() < p; }
  /// Exponentially distributed.
  double exponential(double mean) { return -mean * std::log1p(-unit()); }

 private:
  uint64_t s_;
};

}  // namespace hindcast::sim
