#include "server/truth_compare.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <deque>
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

std::string list(const std::deque<uint64_t>& ips) {
  std::string s;
  for (const uint64_t ip : ips) s += " " + hex(ip);
  return s.empty() ? " nothing" : s;
}

std::string text(const TscInterval& t) {
  const auto tick = [](Tsc v) {
    return v == Tsc::min() ? "the start" : v == Tsc::max() ? "the end" : std::to_string(v.value());
  };
  return "[" + tick(t.earliest) + ", " + tick(t.latest) + "]";
}

class Comparison {
 public:
  Comparison(DecodedSequence& decoded, const TruthSequence& truth, uint64_t slack)
      : decoded_(decoded), at_(truth.clone()), tail_(truth.uncertain_tail()), slack_(slack) {}

  CompareResult run() {
    const bool fine = direct() && stretches();
    if (fine && r_.not_decoded_open) {
      // Ended in a gap: the rest of the truth is hidden by it.
      const uint64_t from = index_;
      TscInterval first = TscInterval::unknown(), last = first;
      while (step()) {
        last = at_->time();
        if (++r_.result.not_decoded, index_ == from + 1) first = last;
      }
      if (index_ > from) covered(from, first, last);
    } else if (fine) {
      const uint64_t end = index_;
      std::deque<uint64_t> next;
      uint64_t rest = 0;
      for (uint64_t ip = 0; at_->next(ip); ++rest)
        if (next.size() < kContext) next.push_back(ip);
      index_ += rest;
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
  bool near(const TscInterval& a, const TscInterval& b) const {
    const auto before = [this](Tsc x, Tsc y) { return y.value() > x.value() && y.value() - x.value() > slack_; };
    return !before(a.latest, b.earliest) && !before(b.latest, a.earliest);
  }
  void open_gap(const DecodedPiece& piece) {
    if (!r_.not_decoded_open) gap_time_ = piece.event.time;
    r_.not_decoded_open = true;
    gap_time_.earliest = std::min(gap_time_.earliest, piece.event.time.earliest);
    gap_time_.latest = std::max(gap_time_.latest, piece.event.time.latest);
  }
  /// What a gap hides, from the first to the last instruction, must have run in its time.
  bool covered(uint64_t from, const TscInterval& first, const TscInterval& last) {
    if (slack_ == kTimesNotCompared || (near(first, gap_time_) && near(last, gap_time_))) return true;
    r_.result.difference = "instructions " + std::to_string(from) + " to " + std::to_string(index_) +
                           " are missing, but the gap there is of another time\n  gap       " + text(gap_time_) +
                           "\n  truth     " + text(first) + " to " + text(last);
    return false;
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
        open_gap(piece);
        return true;
      }
      for (size_t i = 0; i < piece.ips.size(); ++i) {
        uint64_t truth = 0;
        const bool more = at_->next(truth);
        if (more) ++index_;
        if (more && truth == piece.ips[i]) {
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

  struct Stretch {
    uint64_t length = 0, hash = 0;
    std::deque<uint64_t> head;
    uint64_t offset = 0;
    TscInterval first, last;  // times of its first and last block
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
        if (stretch.length == 0) {
          stretch.offset = piece.event.offset;
          stretch.first = piece.event.time;
        }
        stretch.last = piece.event.time;
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
        r_.not_decoded_open = false;
      }
      if (more) open_gap(piece);
      if (!more) return true;
    }
  }

  /// Moves behind the first place from here on where the truth is this stretch; the last one of a flow that does not end
  /// in a gap has one place only, the truth's end.
  bool find(const Stretch& s, bool last) {
    const uint64_t from = index_;
    TscInterval first_hidden = TscInterval::unknown(), last_hidden = first_hidden;
    if (slack_ != kTimesNotCompared) {
      const auto peek = at_->clone();
      uint64_t ip = 0;
      if (peek->next(ip)) first_hidden = peek->time();
    }
    if (last) {
      uint64_t left = 0;
      const auto rest = at_->clone();
      for (uint64_t ip = 0; rest->next(ip);) ++left;
      for (; left > s.length + tail_; --left) step();
      last_hidden = at_->time();
    }
    const auto lead = at_->clone();
    uint64_t hash = 0, power = 1;  // power = kBase^(length-1): the weight of the oldest one in the window
    for (uint64_t i = 0; i < s.length; ++i) {
      uint64_t ip = 0;
      if (!lead->next(ip)) return lost(s, from);
      hash = add(multiply(hash, kBase), symbol(ip));
      if (i > 0) power = multiply(power, kBase);
    }
    while (hash != s.hash || !timely(s, *lead)) {
      uint64_t in = 0, out = 0;
      if (!lead->next(in) || !at_->next(out)) return lost(s, from);
      ++index_;
      last_hidden = at_->time();
      hash = add(multiply(subtract(hash, multiply(symbol(out), power)), kBase), symbol(in));
    }
    r_.result.not_decoded += index_ - from;
    if (index_ > from && !covered(from, first_hidden, last_hidden)) return false;
    for (uint64_t i = 0; i < s.length; ++i) step();
    return true;
  }

  /// The place in front of which at_ stands, and behind which lead stands, is at the stretch's time.
  bool timely(const Stretch& s, const TruthSequence& lead) const {
    if (slack_ == kTimesNotCompared) return true;
    if (!near(lead.time(), s.last)) return false;
    const auto first = at_->clone();
    uint64_t ip = 0;
    return first->next(ip) && near(first->time(), s.first);
  }

  bool lost(const Stretch& s, uint64_t from) {
    r_.result.difference = "a stretch of " + std::to_string(s.length) +
                           " decoded instructions behind a gap is nowhere in the truth from instruction " +
                           std::to_string(from) + " on at its time " + text({s.first.earliest, s.last.latest}) +
                           "\n  decoded   " + list(s.head).substr(1) + " ...  (trace offset " +
                           std::to_string(s.offset) + ")";
    return false;
  }

  struct State {
    CompareResult result;
    bool not_decoded_open = false;  // the last thing seen was a gap
  };

  DecodedSequence& decoded_;
  std::unique_ptr<TruthSequence> at_;
  const uint64_t tail_, slack_;
  TscInterval gap_time_;  // of the gaps since the last instruction
  uint64_t index_ = 0;    // of the next instruction in at_
  State r_;
};

}  // namespace

CompareResult compare_with_truth(DecodedSequence& decoded, const TruthSequence& truth, uint64_t slack) {
  return Comparison(decoded, truth, slack).run();
}

}  // namespace hindcast::server
