#include "decode/attribution.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

Tsc earliest_tsc(const TscConversion& clock, RecordTime t) {
  return t == RecordTime(0) ? Tsc::min() : clock.to_tsc(t).earliest;
}
Tsc latest_tsc(const TscConversion& clock, RecordTime t) {
  return t == RecordTime::max() ? Tsc::max() : clock.to_tsc(t).latest;
}

}  // namespace

void SliceBuilder::begin(RecordTime in, Pid pid, Tid tid, bool open_start) {
  Slice s;
  s.tid = tid;
  s.pid = pid;
  s.cpu = cpu_;
  s.in = in;
  s.open_start = open_start;
  slices_.push_back(s);
  running_ = true;
}

void SliceBuilder::end(RecordTime out, bool open_end, bool preempted) {
  Slice& s = slices_.back();
  s.out = out;
  s.open_end = open_end;
  s.preempted = preempted;
  running_ = false;
  idle_since_ = out;
}

void SliceBuilder::on_switch(RecordTime time, const SwitchRecord& s) {
  if (older_dropped_ && !any_switch_) {
    begin(RecordTime(0), kNoPid, kNoTid, true);
    end(time, true, false);
    any_switch_ = true;
    if (!s.out) {
      begin(time, s.pid, s.tid, false);
    } else if (s.cpu_wide) {
      next_pid_ = s.other_pid;
      next_tid_ = s.other_tid;
    }
    return;
  }
  if (!s.out) {
    if (running_) {
      // Its way out is missing.
      if (slices_.back().tid == s.tid && s.tid != kNoTid) return;
      end(time, true, false);
    } else if (!any_switch_ && s.cpu_wide && s.other_tid != kNoTid && s.other_tid != s.tid) {
      begin(RecordTime(0), s.other_pid, s.other_tid, true);
      end(time, true, false);
    }
    begin(time, s.pid, s.tid, false);
    next_tid_ = kNoTid;
  } else {
    // A task that is already dead when it leaves has lost its number.
    const bool same = running_ && (slices_.back().tid == s.tid || s.tid == kNoTid);
    RecordTime since = any_switch_ ? idle_since_ : RecordTime(0);
    if (running_ && !same) {
      since = slices_.back().in;
      end(time, true, false);
    }
    if (!same) begin(since, s.pid, s.tid, true);
    end(time, false, s.preempted);
    next_pid_ = s.cpu_wide ? s.other_pid : kNoPid;
    next_tid_ = s.cpu_wide ? s.other_tid : kNoTid;
  }
  any_switch_ = true;
}

void SliceBuilder::add(const SidebandRecord& record) {
  if (record.has_time && lost_pending_) {
    if (running_) end(record.time, true, false);  // it may have run on until now
    begin(lost_since_, kNoPid, kNoTid, true);
    end(record.time, true, false);
    idle_since_ = lost_since_;  // whoever is shown leaving next may have come at any time since
    any_switch_ = true;
    lost_pending_ = false;
  }
  if (std::holds_alternative<LostRecord>(record.body)) {
    lost_from(record.has_time ? last_ : record.time);
    if (record.has_time) {
      // The record's own time is when the kernel could write again, which is not the end of what is missing: switches
      // between it and the next record cannot be missing, but its place in the ring is all that is certain.
      last_ = record.time;
    }
    return;
  }
  if (const auto* s = std::get_if<SwitchRecord>(&record.body)) on_switch(record.time, *s);
  if (record.has_time) last_ = record.time;
}

void SliceBuilder::lost_from(RecordTime time) {
  if (lost_pending_) return;
  lost_pending_ = true;
  lost_since_ = std::max(time, last_);
}

std::vector<Slice> SliceBuilder::finish() {
  if (lost_pending_) {
    if (running_) end(RecordTime::max(), true, false);
    begin(lost_since_, kNoPid, kNoTid, true);
    end(RecordTime::max(), true, false);
  } else if (running_) {
    end(RecordTime::max(), true, false);
  } else if (next_tid_ != kNoTid && !slices_.empty()) {
    begin(idle_since_, next_pid_, next_tid_, false);
    end(RecordTime::max(), true, false);
  }
  // Overlapping slices (open sides) stay in the order of their begins; ends may then only grow.
  RecordTime out{0};
  for (Slice& s : slices_) {
    if (s.out < out) {
      s.out = out;
      s.open_end = true;
    }
    out = s.out;
  }
  return std::move(slices_);
}

std::vector<Owner> attribute(std::span<const Stretch> stretches, std::span<const Slice> slices,
                             const TscConversion& clock, bool user_only) {
  const size_t n = stretches.size(), m = slices.size();
  std::vector<Owner> result(n);
  if (m == 0) return result;
  std::vector<Tsc> in(m), out(m);  // the widest that a slice can be; neither ever decreases
  std::vector<size_t> run_end(m);  // last slice of the run of slices of one thread
  for (size_t j = 0; j < m; ++j) {
    in[j] = earliest_tsc(clock, slices[j].in);
    out[j] = latest_tsc(clock, slices[j].out);
  }
  for (size_t j = m; j-- > 0;)
    run_end[j] = j + 1 < m && slices[j + 1].tid == slices[j].tid && slices[j].tid != kNoTid ? run_end[j + 1] : j;

  // The slices that a stretch may lie in by its own clock interval are a contiguous range [low, high]; the order of
  // both narrows it: not before what the stretch before it needs, not after what the one after it allows.
  std::vector<size_t> low(n), high(n);
  size_t least = 0;
  for (size_t k = 0; k < n; ++k) {
    const Stretch& s = stretches[k];
    const size_t first =
        static_cast<size_t>(std::lower_bound(out.begin(), out.end(), s.end_time.earliest) - out.begin());
    const size_t behind = static_cast<size_t>(std::upper_bound(in.begin(), in.end(), s.begin_time.latest) - in.begin());
    low[k] = std::max(first, least);
    high[k] = behind;  // one past
    if (low[k] < high[k]) least = low[k];
  }
  size_t most = m;  // one past
  for (size_t k = n; k-- > 0;) {
    const size_t end = std::min(high[k], most);
    if (low[k] >= end) {
      // Nobody fits, so something is wrong with the clocks or the records; whoever was there meanwhile may have run it.
      const auto first = std::lower_bound(out.begin(), out.end(), stretches[k].begin_time.earliest) - out.begin();
      const auto behind = std::upper_bound(in.begin(), in.end(), stretches[k].end_time.latest) - in.begin();
      if (first < behind) {
        result[k].first = static_cast<uint32_t>(first);
        result[k].last = static_cast<uint32_t>(behind - 1);
      }
      continue;
    }
    most = end;
    const size_t j = low[k];
    Owner& o = result[k];
    o.first = static_cast<uint32_t>(j);
    o.last = static_cast<uint32_t>(end - 1);
    if (slices[j].tid == kNoTid || run_end[j] + 1 < end) continue;
    if (!user_only) {
      const Tsc surely_in = slices[j].open_start ? Tsc::max() : latest_tsc(clock, slices[j].in);
      const Tsc surely_out = slices[j].open_end ? Tsc::min() : earliest_tsc(clock, slices[j].out);
      if (end != j + 1 || stretches[k].begin_time.earliest < surely_in || stretches[k].end_time.latest > surely_out)
        continue;
    }
    o.certain = true;
  }
  return result;
}

}  // namespace hindcast::decode
