#include "tests/support/flow_seek_check.h"

#include <algorithm>
#include <random>
#include <tuple>
#include <vector>

namespace hindcast::test {
namespace {

using decode::FlowEvent;
using decode::kNoNumber;
using decode::SeekableFlow;

bool same(const FlowEvent& a, const FlowEvent& b) {
  const auto all = [](const FlowEvent& f) {
    const Event& e = f.event;
    return std::tuple(e.kind, e.end, e.cause, e.count, e.ip, e.last_ip, e.to, e.offset, e.time.earliest, e.time.latest,
                      f.tid, f.pid, f.cpu, f.stream, f.stretch);
  };
  // A number may be unknown, where the flow was not read from its beginning.
  return all(a) == all(b) && (a.number == b.number || a.number == kNoNumber);
}

std::string text(const FlowEvent& f) {
  char t[256];
  const Event& e = f.event;
  std::snprintf(t, sizeof t, "%s %s %llx-%llx x%u to %llx at byte %llu, [%llu, %llu], number %lld",
                std::string(to_string(e.kind)).c_str(), std::string(to_string(e.cause)).c_str(),
                static_cast<unsigned long long>(e.ip), static_cast<unsigned long long>(e.last_ip), e.count,
                static_cast<unsigned long long>(e.to), static_cast<unsigned long long>(e.offset),
                static_cast<unsigned long long>(e.time.earliest.value()),
                static_cast<unsigned long long>(e.time.latest.value()), static_cast<long long>(f.number));
  return t;
}

/// Compares what is read at a place of the flow.
class Walk {
 public:
  Walk(const std::vector<FlowEvent>& all, SeekableFlow& flow, std::mt19937_64& random)
      : all_(all), flow_(flow), random_(random) {}

  std::string at(size_t place, const std::string& how) {
    place_ = place;
    how_ = how;
    for (int turns = 0; turns < 4 && difference_.empty(); ++turns) {
      forward(random_() % 2 ? random_() % 3 : random_() % 300);
      if (difference_.empty()) backward(random_() % 2 ? random_() % 3 : random_() % 300);
    }
    return difference_;
  }

  void forward(size_t n) {
    std::vector<FlowEvent> got(n);
    got.resize(flow_.next(got));
    const size_t there = all_.size() - place_;
    for (const FlowEvent& e : got)
      if (place_ != all_.size()) check(e, all_[place_++], "forward");
    if (difference_.empty() && got.size() != std::min(n, there))
      differ("forward, " + std::to_string(got.size()) + " events of " + std::to_string(n));
  }
  void backward(size_t n) {
    std::vector<FlowEvent> got(n);
    got.resize(flow_.previous(got));
    const size_t there = place_;
    for (const FlowEvent& e : got)
      if (place_ != 0) check(e, all_[--place_], "backward");
    if (difference_.empty() && got.size() != std::min(n, there))
      differ("backward, " + std::to_string(got.size()) + " events of " + std::to_string(n));
  }
  const std::string& difference() const { return difference_; }

 private:
  void check(const FlowEvent& got, const FlowEvent& wanted, const char* way) {
    if (difference_.empty() && !same(got, wanted))
      differ(std::string(way) + ":\n  " + text(got) + "\n  " + text(wanted));
  }
  void differ(const std::string& what) {
    difference_ = how_ + ", at event " + std::to_string(place_) + " of " + std::to_string(all_.size()) + ", " + what;
  }

  const std::vector<FlowEvent>& all_;
  SeekableFlow& flow_;
  std::mt19937_64& random_;
  size_t place_ = 0;
  std::string how_, difference_;
};

}  // namespace

std::string seeking_differs(const OpenFlow& open, uint64_t seed, size_t walks, size_t most, size_t& events) {
  std::mt19937_64 random(seed);
  std::vector<FlowEvent> all;
  const auto first = open();
  for (std::vector<FlowEvent> batch(1000); const size_t n = first->next(batch);) {
    all.insert(all.end(), batch.begin(), batch.begin() + static_cast<ptrdiff_t>(n));
    if (all.size() > most) break;
  }
  events = all.size();
  if (events > most) return {};
  uint64_t number = 0;
  for (const FlowEvent& e : all) {
    if (e.number != number) return "number " + std::to_string(e.number) + " for " + std::to_string(number);
    if (e.event.kind == EventKind::block) number += e.event.count;
  }
  const auto flow = open();
  if (flow->instructions() && *flow->instructions() != number)
    return std::to_string(*flow->instructions()) + " instructions instead of " + std::to_string(number);

  Walk walk(all, *flow, random);
  if (const auto d = walk.at(0, "from the beginning"); !d.empty()) return d;
  flow->seek_end();
  if (const auto d = walk.at(all.size(), "from the end"); !d.empty()) return d;
  flow->seek_end();
  Walk back(all, *flow, random);
  if (const auto d = back.at(all.size(), "from the end"); !d.empty()) return d;
  if (all.empty()) return {};

  for (size_t i = 0; i < walks; ++i) {
    const FlowEvent& some = all[random() % all.size()];
    const Tsc t = random() % 2 ? some.event.time.latest : some.event.time.earliest;
    flow->seek(t);
    const auto place =
        std::partition_point(all.begin(), all.end(), [t](const FlowEvent& e) { return e.event.time.latest < t; });
    if (const auto d = walk.at(static_cast<size_t>(place - all.begin()), "from tick " + std::to_string(t.value()));
        !d.empty())
      return d;
  }
  if (!flow->instructions()) return {};
  for (size_t i = 0; i < walks && number != 0; ++i) {
    const uint64_t n = random() % number;
    if (!flow->seek_instruction(n)) return "no instruction " + std::to_string(n);
    auto place = std::partition_point(all.begin(), all.end(), [n](const FlowEvent& e) {
      return e.number + (e.event.kind == EventKind::block ? e.event.count : 0) <= n;
    });
    if (const auto d = walk.at(static_cast<size_t>(place - all.begin()), "from instruction " + std::to_string(n));
        !d.empty())
      return d;
  }
  if (flow->seek_instruction(number)) return "an instruction behind the last one";
  return {};
}

}  // namespace hindcast::test
