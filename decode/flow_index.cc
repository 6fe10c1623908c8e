#include "decode/flow_index.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>
#include <thread>

namespace hindcast::decode {
namespace {

/// PSBs that one thread takes at once.
constexpr size_t kPsbsAtOnce = 32;

/// What was counted from one PSB of the list to another, as if nothing were before it.
struct Part {
  size_t first = 0, last = 0;    // of the list; last is the first one of the part behind
  std::vector<uint64_t> at_psb;  // instructions before each of them
  std::vector<bool> is_place;    // a decoder that seeks it tells the same
  Skipped skipped;
  uint64_t seekable_from = 0;  // the parts behind give the same flow from here on
};

void count(const PtTrace& trace, FastDecoder& decoder, Part& part) {
  const std::vector<uint64_t>& psbs = trace.map.psbs;
  decoder.seek(psbs[part.first]);
  part.skipped.first = trace.first_stretch_from(psbs[part.first]);
  for (size_t p = part.first; p < part.last; ++p) {
    part.at_psb.push_back(part.skipped.instructions + part.skipped.part);
    part.is_place.push_back(psbs[p] >= decoder.seekable_from());
    decoder.skip(~uint64_t{0}, p + 1 < psbs.size() ? psbs[p + 1] : ~uint64_t{0}, part.skipped);
  }
  part.seekable_from = decoder.seekable_from();
}

class Indexer {
 public:
  explicit Indexer(const PtTrace& trace) : trace_(trace), psbs_(trace.map.psbs) {
    for (size_t p = 0; p < psbs_.size(); p += kPsbsAtOnce) {
      parts_.emplace_back();
      parts_.back().first = p;
      parts_.back().last = std::min(p + kPsbsAtOnce, psbs_.size());
    }
  }

  void run(std::span<const std::unique_ptr<FastDecoder>> decoders, const std::function<void(uint64_t)>& done) {
    std::atomic<size_t> next{0};
    std::mutex telling;
    uint64_t bytes = 0;
    const auto work = [&](FastDecoder& decoder) {
      for (size_t i = next++; i < parts_.size(); i = next++) {
        count(trace_, decoder, parts_[i]);
        if (!done) continue;
        const std::lock_guard lock(telling);
        bytes += end_of(parts_[i]) - psbs_[parts_[i].first];
        done(bytes);
      }
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < std::min(decoders.size(), parts_.size()); ++i)
      others.emplace_back([&work, &decoder = *decoders[i]] { work(decoder); });
    work(*decoders[0]);
    for (std::thread& t : others) t.join();
  }

  FlowIndex join() {
    FlowIndex index;
    index.before.assign(trace_.first_stretch_from(psbs_.empty() ? ~uint64_t{0} : psbs_[0]), 0);
    uint64_t total = 0, seekable_from = 0;
    for (const Part& part : parts_) {
      // What lies before it belongs to what an earlier part ran into.
      size_t p = part.first;
      while (p < part.last && psbs_[p] < seekable_from) ++p;
      if (p == part.last) continue;
      const uint64_t known = part.at_psb[p - part.first];
      index.before.resize(std::max(index.before.size(), trace_.first_stretch_from(psbs_[p])), total);
      for (size_t q = p; q < part.last; ++q)
        if (part.is_place[q - part.first])
          index.places.push_back({psbs_[q], total + part.at_psb[q - part.first] - known});
      for (size_t s = std::max(index.before.size(), part.skipped.first);
           s < part.skipped.first + part.skipped.before.size(); ++s) {
        index.before.resize(s, total);
        index.before.push_back(total + part.skipped.before[s - part.skipped.first] - known);
      }
      total += part.skipped.instructions + part.skipped.part - known;
      seekable_from = std::max(seekable_from, part.seekable_from);
    }
    index.before.resize(trace_.map.stretches.size() + 1, total);
    return index;
  }

 private:
  uint64_t end_of(const Part& part) const { return part.last < psbs_.size() ? psbs_[part.last] : trace_.bytes.size(); }

  const PtTrace& trace_;
  const std::vector<uint64_t>& psbs_;
  std::vector<Part> parts_;
};

}  // namespace

const FlowIndex::Place* FlowIndex::place(uint64_t number, uint64_t offset) const {
  const auto behind = std::partition_point(places.begin(), places.end(),
                                           [&](const Place& p) { return p.number <= number && p.psb <= offset; });
  return behind == places.begin() ? nullptr : &*std::prev(behind);
}

FlowIndex build_index(const PtTrace& trace, std::span<const std::unique_ptr<FastDecoder>> decoders,
                      const std::function<void(uint64_t)>& done) {
  Indexer indexer(trace);
  indexer.run(decoders, done);
  return indexer.join();
}

}  // namespace hindcast::decode
