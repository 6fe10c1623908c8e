// A step function over a stream, offset to TSC, mostly in 4 bytes a step: what TimeMap stores its bounds in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>

#include "hindcast/bytes.h"

namespace hindcast::decode {

/// Pairs (key, value) with keys strictly and values never decreasing, kept as 16-bit differences to the first pair of
/// their run. A run ends where a difference no longer fits: at 2 GHz after 33 µs, which is 90 MTC packets of the densest
/// usual period; sparser ones take more bytes each but there are as many fewer. Deques, since growing a vector of
/// hundreds of megabytes copies it again and again: that was half the time of opening a recording.
class TimeSteps {
  struct Run {
    uint64_t key, value;
    size_t first;  // index in steps_
  };
  struct Step {
    uint16_t key, value;  // less the run's
  };

 public:
  bool empty() const { return steps_.empty(); }
  size_t size() const { return steps_.size(); }
  uint64_t last_key() const { return runs_.back().key + steps_.back().key; }
  uint64_t last_value() const { return runs_.back().value + steps_.back().value; }

  /// key > last_key(), value >= last_value().
  void append(uint64_t key, uint64_t value) {
    constexpr uint64_t kMax = std::numeric_limits<uint16_t>::max();
    if (runs_.empty() || key - runs_.back().key > kMax || value - runs_.back().value > kMax)
      runs_.push_back({key, value, steps_.size()});
    steps_.push_back(
        {static_cast<uint16_t>(key - runs_.back().key), static_cast<uint16_t>(value - runs_.back().value)});
  }
  void pop() {
    steps_.pop_back();
    if (runs_.back().first == steps_.size()) runs_.pop_back();
  }

  /// The value of the last pair whose key is at most `key`.
  std::optional<uint64_t> at_or_before(uint64_t key) const {
    const size_t n = count_until(key);
    if (n == 0) return std::nullopt;
    return value_of(n - 1);
  }
  /// The value of the first pair whose key is at least `key`.
  std::optional<uint64_t> at_or_after(uint64_t key) const {
    const size_t n = key == 0 ? 0 : count_until(key - 1);
    if (n == steps_.size()) return std::nullopt;
    return value_of(n);
  }

  /// The key of the last pair whose value is below `value`.
  std::optional<uint64_t> last_key_below(uint64_t value) const {
    const size_t n = count_below(value);
    if (n == 0) return std::nullopt;
    return key_of(n - 1);
  }
  /// The key of the first pair whose value is at least `value`.
  std::optional<uint64_t> first_key_from(uint64_t value) const {
    const size_t n = count_below(value);
    if (n == steps_.size()) return std::nullopt;
    return key_of(n);
  }

  /// The same questions for keys that mostly ascend: O(1) for a key near the one before.
  class Reader {
   public:
    explicit Reader(const TimeSteps& steps) : steps_(&steps) {}
    std::optional<uint64_t> at_or_before(uint64_t key) {
      const size_t n = count_until(key);
      if (n == 0) return std::nullopt;
      return here_.value;
    }
    std::optional<uint64_t> at_or_after(uint64_t key) {
      const size_t n = key == 0 ? 0 : count_until(key - 1);
      if (n == steps_->size()) return std::nullopt;
      return key == 0 ? steps_->value_of(0) : next_.value;
    }

    /// The answer for this key is that of the question before.
    bool same_at_or_before(uint64_t key) const { return key - from_ < width_; }
    bool same_at_or_after(uint64_t key) const { return key - 1 - from_ < width_; }
    /// The first key, above those that were asked for, whose at_or_before() is another; for at_or_after() the last one
    /// that has the same. ~0: none.
    uint64_t until() const { return from_ + width_; }
    /// To that key, and the answers that begin there. Not when there is none.
    void pass() {
      ++n_;
      here_ = next_;
      next_ = n_ == steps_->size() ? At{} : at(n_);
      from_ = here_.key;
      width_ = (n_ == steps_->size() ? ~uint64_t{0} : next_.key) - from_;
    }
    std::optional<uint64_t> last_at_or_before() const { return n_ == 0 ? std::nullopt : std::optional(here_.value); }
    std::optional<uint64_t> last_at_or_after() const {
      return n_ == steps_->size() ? std::nullopt : std::optional(next_.value);
    }

   private:
    struct At {
      uint64_t key = 0, value = 0;
    };

    size_t count_until(uint64_t key) {
      for (int steps = 0; n_ != kNone && key >= here_.key && steps < kNear; ++steps) {
        if (n_ == steps_->size() || key < next_.key) return n_;
        go_to(n_ + 1);
      }
      go_to(steps_->count_until(key));
      return n_;
    }
    void go_to(size_t n) {
      n_ = n;
      here_ = n == 0 ? At{} : at(n - 1);
      next_ = n == steps_->size() ? At{} : at(n);
      from_ = n == 0 ? 0 : here_.key;
      width_ = (n == steps_->size() ? ~uint64_t{0} : next_.key) - from_;
    }
    At at(size_t index) {
      if (index - run_.first >= run_size_) [[unlikely]]
        find_run(index);
      const Step& step = steps_->steps_[index];
      return {run_.key + step.key, run_.value + step.value};
    }
    void find_run(size_t index) {
      const auto& runs = steps_->runs_;
      const size_t run = steps_->run_of(index);
      run_ = runs[run];
      run_size_ = (run + 1 == runs.size() ? steps_->size() : runs[run + 1].first) - run_.first;
    }

    static constexpr int kNear = 8;
    static constexpr size_t kNone = ~size_t{0};
    const TimeSteps* steps_;
    size_t n_ = kNone;               // pairs whose key is at most the last one asked for
    Run run_{};                      // where pairs were read last,
    size_t run_size_ = 0;            // and so many are in it
    At here_, next_;                 // pairs n_ - 1 and n_
    uint64_t from_ = 0, width_ = 0;  // keys from `from_` on, so many of them, lie between these two
  };

  /// As bytes, and back. False, and nothing is here: they are no steps, or not these.
  void pack(ByteWriter& out) const;
  bool unpack(ByteReader& in);

  size_t bytes() const { return runs_.size() * sizeof(Run) + steps_.size() * sizeof(Step); }
  /// The most that one pair takes: a run of its own.
  static constexpr size_t kMostBytes = 28;

 private:
  static_assert(sizeof(Run) + sizeof(Step) == kMostBytes);

  /// How many pairs have a key of at most `key`.
  size_t count_until(uint64_t key) const {
    const auto run =
        std::upper_bound(runs_.begin(), runs_.end(), key, [](uint64_t k, const Run& r) { return k < r.key; });
    if (run == runs_.begin()) return 0;
    const auto first = steps_.begin() + static_cast<ptrdiff_t>(run[-1].first);
    const auto last = run == runs_.end() ? steps_.end() : steps_.begin() + static_cast<ptrdiff_t>(run->first);
    const uint64_t offset = key - run[-1].key;
    const auto step = std::upper_bound(first, last, offset, [](uint64_t k, const Step& s) { return k < s.key; });
    return static_cast<size_t>(step - steps_.begin());
  }
  /// Pairs whose value is below `value`.
  size_t count_below(uint64_t value) const {
    size_t low = 0, high = steps_.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (value_of(middle) < value)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  uint64_t key_of(size_t index) const { return runs_[run_of(index)].key + steps_[index].key; }
  uint64_t value_of(size_t index) const { return runs_[run_of(index)].value + steps_[index].value; }
  size_t run_of(size_t index) const {
    const auto next =
        std::upper_bound(runs_.begin(), runs_.end(), index, [](size_t i, const Run& r) { return i < r.first; });
    return static_cast<size_t>(next - runs_.begin()) - 1;  // the first run begins at index 0
  }

  std::deque<Run> runs_;
  std::deque<Step> steps_;
};

}  // namespace hindcast::decode
