#include "server/wait_reader.h"

#include <algorithm>
#include <ctime>

#include "decode/sampled_clock.h"
#include "hindcast/wait_record.h"

namespace hindcast::server {
namespace {

/// ktime_get_mono_fast_ns, which BPF programs read, may differ from the clock by this much while the kernel updates it.
constexpr uint64_t kFastClockSlackNs = 100;

/// Whom a record is about, beside the thread that it was written by; kNoTid: nobody.
Tid other_thread(const wait::Record& r) {
  if (const auto wake = wait::as<wait::Wake>(r)) return Tid(wake->woken_tid);
  if (const auto sent = wait::as<wait::SignalSent>(r)) return Tid(sent->to_tid);
  return kNoTid;
}

/// When what the record tells had begun; 0: it takes no time, or that is not known.
uint64_t begin_of(const wait::Record& r) {
  if (const auto sleep = wait::as<wait::Sleep>(r)) return sleep->begun;
  if (const auto futex = wait::as<wait::Futex>(r)) return futex->begun;
  if (const auto message = wait::as<wait::Message>(r)) return message->begun;
  if (const auto lost = wait::as<wait::Lost>(r)) return lost->from;
  return 0;
}

struct Stream {
  uint32_t id = 0;
  SharedBytes bytes;
};

class Waits : public Reader<WaitItem> {
 public:
  Waits(const WaitQuestion& question, decode::SampledClock clock, std::vector<Stream> streams)
      : question_(question), clock_(std::move(clock)), streams_(std::move(streams)) {
    for (size_t s = 0; s < streams_.size(); ++s) {
      const ByteSpan bytes = streams_[s].bytes.bytes;
      wait::Reader reader(bytes);
      wait::Record record;
      while (reader.next(record))
        if (wanted(record)) order_.push_back({record.header.time, record.offset, s});
      if (reader.malformed() || !streams_[s].bytes.holes.empty()) {
        WaitItem item;
        item.stream = streams_[s].id;
        item.offset = reader.offset();
        item.damage = std::to_string(bytes.size() - reader.offset()) + " bytes from offset " +
                      std::to_string(reader.offset()) + ": no record; nothing behind it can be found";
        damage_.push_back(std::move(item));
      }
    }
    std::stable_sort(order_.begin(), order_.end(), [](const Place& a, const Place& b) { return a.time < b.time; });
  }

  bool next(WaitItem& out) override {
    while (at_ < order_.size()) {
      const Place& p = order_[at_++];
      const Stream& stream = streams_[p.stream];
      wait::Record record;
      wait::Reader(stream.bytes.bytes.subspan(p.offset)).next(record);
      out = WaitItem{};
      out.time = clock_.to_tsc(record.header.time);
      const uint64_t begun = begin_of(record);
      if (begun) out.begun = clock_.to_tsc(begun);
      if (!(begun ? TscInterval{out.begun.earliest, out.time.latest} : out.time).overlaps(question_.time)) continue;
      out.stream = stream.id;
      out.offset = p.offset;
      out.record.assign(record.bytes.begin(), record.bytes.end());
      return true;
    }
    if (damage_.empty()) return false;
    out = std::move(damage_.back());
    damage_.pop_back();
    return true;
  }

 private:
  struct Place {
    uint64_t time, offset;
    size_t stream;
  };
  /// What was lost concerns everybody.
  bool wanted(const wait::Record& r) const {
    if (r.header.kind == wait::kLost) return true;
    if (question_.cpu && CpuId(r.header.cpu) != *question_.cpu) return false;
    const Tid by = Tid(r.header.tid), other = other_thread(r);
    if (question_.among && !question_.among->count(by) && !question_.among->count(other)) return false;
    return !question_.tid || by == *question_.tid || other == *question_.tid;
  }

  const WaitQuestion question_;
  const decode::SampledClock clock_;
  std::vector<Stream> streams_;
  std::vector<Place> order_;
  std::vector<WaitItem> damage_;
  size_t at_ = 0;
};

}  // namespace

Result<std::unique_ptr<Reader<WaitItem>>> read_waits(OpenSnapshot& snapshot, const WaitQuestion& question) {
  std::vector<Stream> streams;
  std::vector<ClockSample> samples;
  for (const StreamInfo& s : snapshot.overview.info.streams) {
    if (s.kind != question.of && s.kind != StreamKind::clocks) continue;
    HC_TRY(SharedBytes bytes, snapshot.source.stream(s.id));
    if (s.kind == question.of) {
      streams.push_back({s.id, std::move(bytes)});
    } else {
      const auto more = read_clock_samples(bytes.bytes, CLOCK_MONOTONIC);
      samples.insert(samples.end(), more.begin(), more.end());
    }
  }
  if (streams.empty() && question.of == StreamKind::net)
    return Error{Errc::not_found, "no packets in this snapshot",
                 "they are recorded on demand; if they were asked for, the notes of  hindcast ls FILE  say why not",
                 "record with --net on, or in hindcastd.toml  [trace] net = \"on\""};
  if (streams.empty())
    return Error{Errc::not_found, "no waits, wakes and messages in this snapshot",
                 "they were not recorded; the notes of  hindcast ls FILE  say why",
                 "record with --waits on, which says at once what is missing"};
  return std::unique_ptr<Reader<WaitItem>>(
      new Waits(question, decode::SampledClock(std::move(samples), kFastClockSlackNs), std::move(streams)));
}

}  // namespace hindcast::server
