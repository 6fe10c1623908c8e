#include "server/truth_compare.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <deque>
#include <span>
#include <vector>

namespace hindcast::server {
namespace {

/// Arithmetic modulo the Mersenne prime 2^61 - 1.
constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
constexpr uint64_t kBase = 0x0b5297a4d3c1e6f7;  // any number that nobody chose traces against

uint64_t multiply(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  const uint64_t r = static_cast<uint64_t>(product & kPrime) + static_cast<uint64_t>(product >> 61);
  return r >= kPrime ? r - kPrime : r;
}
uint64_t add(uint64_t a, uint64_t b) {
  const uint64_t r = a + b;
  return r >= kPrime ? r - kPrime : r;
}
uint64_t subtract(uint64_t a, uint64_t b) { return a >= b ? a - b : a + kPrime - b; }
/// Never 0, so that length counts.
uint64_t symbol(uint64_t ip) {
  const uint64_t m = (ip & kPrime) + (ip >> 61) + 1;
  return m % kPrime;
}

std::string hex(uint64_t v) {
  char buffer[24];
  std::snprintf(buffer, sizeof buffer, "0x%" PRIx64, v);
  return buffer;
}

constexpr size_t kContext = 6;
constexpr size_t kTimesOfAStretch = 65536;
constexpr size_t kTimesThatPlace = 8;  // of these, the first

std::string list(const std::deque<uint64_t>& ips) {
  std::string s;
  for (const uint64_t ip : ips) s += " " + hex(ip);
  return s.empty() ? " nothing" : s;
}

class Comparison {
 public:
  Comparison(DecodedSequence& decoded, const TruthSequence& truth, Tsc frozen)
      : decoded_(decoded), at_(truth.clone()), tail_(truth.uncertain_tail()), frozen_(frozen) {}

  CompareResult run() {
    const bool fine = direct() && stretches();
    if (fine && r_.not_decoded_open) {
      // Ended in a gap: the rest of the truth is hidden by it.
      while (step()) ++r_.result.not_decoded;
    } else if (fine) {
      const uint64_t end = index_;
      std::deque<uint64_t> next;
      uint64_t rest = 0;
      bool later = false;  // and so is all that follows
      for (uint64_t ip = 0; at_->next(ip); ++index_) {
        later = later || ran_later();
        if (later) continue;
        ++rest;
        if (next.size() < kContext) next.push_back(ip);
      }
      if (rest > tail_)
        r_.result.difference = "the decoded flow ends at instruction " + std::to_string(end) +
                               " without a gap\n  truth     goes on for " + std::to_string(rest) +
                               " instructions:" + list(next);
    } else {
      for (uint64_t ip = 0; at_->next(ip);) ++index_;
      DecodedPiece piece;
      while (decoded_.next(piece)) count(piece);
    }
    r_.result.truth = index_;
    r_.result.equal = r_.result.difference.empty();
    return r_.result;
  }

 private:
  void count(const DecodedPiece& piece) {
    if (piece.gap)
      ++r_.result.gaps;
    else
      r_.result.decoded += piece.ips.size();
  }
  bool step() {
    uint64_t ip = 0;
    if (!at_->next(ip)) return false;
    ++index_;
    return true;
  }

  /// Up to the first gap, one by one. False on a difference.
  bool direct() {
    DecodedPiece piece;
    std::deque<uint64_t> before;
    while (decoded_.next(piece)) {
      count(piece);
      if (piece.gap) {
        r_.not_decoded_open = true;
        return true;
      }
      for (size_t i = 0; i < piece.ips.size(); ++i) {
        uint64_t truth = 0;
        const bool more = at_->next(truth);
        if (more) ++index_;
        if (more && truth == piece.ips[i]) {
          if (i == 0) compare_time(piece.event.time);
          before.push_back(truth);
          if (before.size() > kContext) before.pop_front();
          continue;
        }
        std::deque<uint64_t> ours, theirs;
        for (size_t k = i; k < piece.ips.size() && ours.size() < kContext; ++k) ours.push_back(piece.ips[k]);
        if (more) theirs.push_back(truth);
        const auto ahead = at_->clone();
        for (uint64_t ip = 0; more && theirs.size() < kContext && ahead->next(ip);) theirs.push_back(ip);
        r_.result.difference = "first difference at instruction " + std::to_string(more ? index_ - 1 : index_) +
                               "\n  both      " + list(before).substr(1) + "\n  decoded   " + list(ours).substr(1) +
                               "  (trace offset " + std::to_string(piece.event.offset) + ")\n  truth     " +
                               list(theirs).substr(1);
        return false;
      }
    }
    return true;
  }

  /// What at_ gave last may have run after the trace was taken.
  bool ran_later() const { return frozen_ != Tsc::max() && at_->when().latest >= frozen_; }

  /// By how many ticks a decoded interval excludes the true one.
  static uint64_t outside(const TscInterval& decoded, const TscInterval& truth) {
    if (decoded.earliest > truth.latest) return decoded.earliest.value() - truth.latest.value();
    if (decoded.latest < truth.earliest) return truth.earliest.value() - decoded.latest.value();
    return 0;
  }
  /// The time of the instruction that at_ gave last.
  void compare_time(const TscInterval& decoded) {
    const TscInterval truth = at_->when();
    if (truth == TscInterval::unknown() || decoded == TscInterval::unknown()) return;
    ++r_.result.timed;
    const uint64_t ticks = outside(decoded, truth);
    if (ticks == 0) return;
    ++r_.result.misplaced;
    if (ticks <= r_.result.worst_ticks) return;
    r_.result.worst_ticks = ticks;
    r_.result.worst_at = index_ - 1;
  }

  struct TimedBlock {
    uint64_t index = 0;  // of its first instruction in the stretch
    TscInterval time;
  };
  struct Stretch {
    uint64_t length = 0, hash = 0;
    std::deque<uint64_t> head;
    uint64_t offset = 0;
    std::vector<TimedBlock> times;  // of every 2^n-th block
    uint64_t blocks = 0, every = 1;

    void add_time(const TscInterval& time) {
      if (blocks++ % every != 0) return;
      if (times.size() == kTimesOfAStretch) {
        for (size_t i = 0; i < times.size() / 2; ++i) times[i] = times[2 * i];
        times.resize(times.size() / 2);
        every *= 2;
        if ((blocks - 1) % every != 0) return;
      }
      times.push_back({length, time});
    }
  };

  /// Behind the first gap: stretch by stretch. False on a difference.
  bool stretches() {
    if (!r_.not_decoded_open) return true;
    DecodedPiece piece;
    Stretch stretch;
    while (true) {
      const bool more = decoded_.next(piece);
      if (more) count(piece);
      if (more && !piece.gap) {
        if (stretch.length == 0) stretch.offset = piece.event.offset;
        stretch.add_time(piece.event.time);
        for (const uint64_t ip : piece.ips) {
          if (stretch.head.size() < kContext) stretch.head.push_back(ip);
          stretch.hash = add(multiply(stretch.hash, kBase), symbol(ip));
        }
        stretch.length += piece.ips.size();
        continue;
      }
      if (stretch.length > 0) {
        if (!find(stretch, !more)) return false;
        stretch = {};
        r_.not_decoded_open = more;  // ends in a gap, or at the end of the flow
      }
      if (!more) return true;
    }
  }

  /// Moves behind the first place from here on where the truth is this stretch; the last one of a flow that does not end
  /// in a gap has one place only, the truth's end.
  bool find(const Stretch& s, bool last) {
    const uint64_t from = index_;
    if (last && frozen_ == Tsc::max()) {
      uint64_t left = 0;
      const auto rest = at_->clone();
      for (uint64_t ip = 0; rest->next(ip);) ++left;
      for (; left > s.length + tail_; --left) step();
    }
    const auto lead = at_->clone();
    uint64_t hash = 0, power = 1;  // power = kBase^(length-1): the weight of the oldest one in the window
    for (uint64_t i = 0; i < s.length; ++i) {
      uint64_t ip = 0;
      if (!lead->next(ip)) return lost(s, from);
      hash = add(multiply(hash, kBase), symbol(ip));
      if (i > 0) power = multiply(power, kBase);
    }
    std::unique_ptr<TruthSequence> untimely;  // the first place at another time
    uint64_t untimely_index = 0;
    while (hash != s.hash || !timely(s)) {
      if (hash == s.hash && !untimely) {
        untimely = at_->clone();
        untimely_index = index_;
      }
      uint64_t in = 0, out = 0;
      if (!lead->next(in) || !at_->next(out)) {
        if (!untimely) return lost(s, from);
        at_ = std::move(untimely);  // right, but misplaced
        index_ = untimely_index;
        break;
      }
      ++index_;
      hash = add(multiply(subtract(hash, multiply(symbol(out), power)), kBase), symbol(in));
    }
    r_.result.not_decoded += index_ - from;
    auto timed = s.times.begin();
    for (uint64_t i = 0; i < s.length; ++i) {
      step();
      for (; timed != s.times.end() && timed->index == i; ++timed) compare_time(timed->time);
    }
    return true;
  }

  /// Turns of a loop all look alike, so the place in front of which at_ stands must also be one at the stretch's time. The
  /// first block's may be wide: it began somewhere behind a gap.
  bool timely(const Stretch& s) const {
    const auto first = at_->clone();
    uint64_t index = 0, ip = 0;
    for (const TimedBlock& block : std::span(s.times).first(std::min(s.times.size(), kTimesThatPlace))) {
      for (; index <= block.index; ++index)
        if (!first->next(ip)) return false;
      if (outside(block.time, first->when()) != 0) return false;
    }
    return true;
  }

  bool lost(const Stretch& s, uint64_t from) {
    r_.result.difference = "a stretch of " + std::to_string(s.length) +
                           " decoded instructions behind a gap is nowhere in the truth from instruction " +
                           std::to_string(from) + " on\n  decoded   " + list(s.head).substr(1) +
                           " ...  (trace offset " + std::to_string(s.offset) + ")";
    return false;
  }

  struct State {
    CompareResult result;
    bool not_decoded_open = false;  // the last thing seen was a gap
  };

  DecodedSequence& decoded_;
  std::unique_ptr<TruthSequence> at_;
  const uint64_t tail_;
  const Tsc frozen_;
  uint64_t index_ = 0;  // of the next instruction in at_
  State r_;
};

}  // namespace

CompareResult compare_with_truth(DecodedSequence& decoded, const TruthSequence& truth, Tsc frozen) {
  return Comparison(decoded, truth, frozen).run();
}

}  // namespace hindcast::server
