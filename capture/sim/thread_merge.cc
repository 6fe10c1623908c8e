#include "capture/sim/thread_merge.h"

#include <algorithm>

namespace hindcast::sim {

/// A run of one thread on one CPU, as the switch records say. out is kNever while it lasts.
struct ThreadMerge::Slice {
  uint64_t in = 0, out = kNever;
  size_t cpu = 0;
};

/// A stretch of time in which a thread ran on one CPU undisturbed. key tells stretches apart: the time of the switch,
/// tick or fault that it follows.
struct ThreadMerge::Interval {
  size_t cpu = 0;
  uint64_t key = 0;
  uint64_t a = 0, b = 0;
  bool guessed = false;  // no switch record says so
};

/// What a CPU has to encode next. words index into the piece's.
struct ThreadMerge::Segment {
  enum class Kind : uint8_t { run, interrupt, loss } kind = Kind::run;
  uint32_t begin = 0, count = 0;
  uint32_t first_skip = 0, last_stop = 0;
  uint64_t instructions = 0;
  uint64_t next_ip = 0;
  uint64_t t0 = 0, t1 = 0;
};

/// Segments of one thread in one interval: nothing else runs on the CPU between them.
struct ThreadMerge::Piece {
  Thread* thread = nullptr;
  uint64_t key = 0;
  size_t cpu = 0;
  std::vector<uint32_t> words;
  std::vector<Segment> segments;
};

struct ThreadMerge::Cpu {
  CpuId id;
  std::unique_ptr<PtEncoder> encoder;
  std::multimap<uint64_t, Piece> queue;  // by the begin of the piece
  const Thread* current = nullptr;       // whose code ran last
  struct Idle {
    uint64_t from, to;
  };
  std::deque<Idle> idle;
  bool asleep = false;
  SeededRandom random{0, 0};
  uint64_t tick_phase = 0;
  int32_t running = -1;  // tid, -1 unknown
  uint64_t last_switch = 0;
  bool lost = false;  // records were lost since last_switch
};

/// Blocks that ran on into each other.
struct Part {
  size_t begin = 0;  // in the inbox
  uint32_t count = 0;
  uint32_t last_stop = 0;
  uint64_t instructions = 0;
  uint64_t next_ip = 0;
  bool lossy = false;  // something unknown ran before it
};

/// The words between two named times.
struct ThreadMerge::Span {
  std::vector<Part> parts;
  uint64_t instructions = 0;
  uint64_t t0 = 0, t1 = 0;
  bool interrupted = false;  // at its end, by a signal or by what is not known
  bool lossy_end = false;    // something unknown ran at its end
  uint64_t resume_ip = 0;    // with lossy_end: the address that was interrupted
};

struct ThreadMerge::Thread {
  Pid pid;
  Tid tid;
  WordRing ring;
  std::shared_ptr<BlockTable> table;
  uint64_t taken = 0;           // words taken from the ring
  uint64_t published = 0;       // by the plugin, as last seen; beyond it are blocks only
  std::vector<uint32_t> inbox;  // taken, from `parsed` on not yet placed
  size_t parsed = 0;
  uint64_t last_time = 0;  // the last time that a word named
  CpuId named_cpu = kNoCpu;
  bool in_kernel = true;  // no user code runs at last_time
  bool gone = false;      // no more words will come
  bool ended = false;     // all words are placed
  bool discard = false;   // its words make no sense (any more)
  bool torn = false;      // it was ended without an exit word
  bool waits_for_horizon = false;
  uint64_t heard_at = 0;  // TSC when words last came
  // Where its writer stood at some moment of [rest_from, rest_until]; rest_until is kNever until the next look.
  uint64_t rest_position = 0, rest_from = 0, rest_until = 0;
  uint64_t rested_at = 0;     // it was taken off its CPU then and had said all but its last block; 0: never
  uint64_t rested_taken = 0;  // words taken by then
  // where placement stands
  bool tracing = false;
  Interval on;  // the interval it is (or was last) placed in
  uint64_t placed_until = 0;
  Interval quiet;  // an interval without edges, as far as known
  Piece piece;     // being filled
};

namespace {

constexpr uint64_t kSettleUs = 5000;     // a word published this long ago is seen for sure, but for rare preemptions
constexpr uint64_t kSilenceUs = 200000;  // a thread this long silent on its CPU holds nobody up while memory is short
constexpr uint64_t kLongSilenceUs = 5000000;  // nor, after this, when it is not
constexpr uint64_t kLatestUs = 1000000;       // how far clocks and threads of ours may be apart
constexpr uint64_t kGoneUs = 50000;           // by then its last switch-out has been seen
constexpr uint64_t kMaxSegments = 1024;       // of a piece

/// 0: there are none, or they are further apart than `most`.
uint64_t ticks_between_mtcs(const EncoderConfig& config, uint64_t most) {
  if (!config.pt.mtc || config.cpu.tsc_ctc_den == 0) return 0;
  const double ticks =
      static_cast<double>(uint64_t{1} << config.pt.mtc_period) * config.cpu.tsc_ctc_num / config.cpu.tsc_ctc_den;
  return ticks + 1 > static_cast<double>(most) ? 0 : static_cast<uint64_t>(ticks) + 1;
}

uint64_t time_of(const std::vector<uint32_t>& words, size_t at) { return words[at] | uint64_t{words[at + 1]} << 32; }

}  // namespace

ThreadMerge::ThreadMerge(const MergeConfig& config)
    : config_(config),
      us_(std::max<uint64_t>(1, config.encoder.tsc_hz / 1000000)),
      mtc_ticks_(ticks_between_mtcs(config.encoder, 2 * us_)) {
  for (size_t i = 0; i < config.cpus.size(); ++i) {
    auto cpu = std::make_unique<Cpu>();
    cpu->id = config.cpus[i];
    EncoderConfig e = config.encoder;
    e.purpose = config.cpus[i].value();
    cpu->encoder = std::make_unique<PtEncoder>(e);
    cpu->random = SeededRandom(e.seed, 1000000 + e.purpose);
    cpu->tick_phase = cpu->random.next();
    cpu_index_[cpu->id.value()] = i;
    cpus_.push_back(std::move(cpu));
  }
  HC_CHECK(!cpus_.empty());
}

ThreadMerge::~ThreadMerge() = default;

ThreadMerge::Thread* ThreadMerge::add_thread(Pid pid, Tid tid, WordRing ring, std::shared_ptr<BlockTable> table,
                                             uint64_t start_tsc) {
  auto t = std::make_unique<Thread>();
  t->pid = pid;
  t->tid = tid;
  t->ring = std::move(ring);
  t->table = std::move(table);
  t->last_time = t->placed_until = t->heard_at = start_tsc;
  threads_.push_back(std::move(t));
  return threads_.back().get();
}

void ThreadMerge::end_thread(Thread* thread) { thread->gone = true; }

const PtEncoder& ThreadMerge::encoder(CpuId cpu) const { return *cpus_[cpu_index_.at(cpu.value())]->encoder; }

ThreadMerge::Cpu& ThreadMerge::cpu_of(CpuId cpu) {
  const auto it = cpu_index_.find(cpu.value());
  return *cpus_[it == cpu_index_.end() ? 0 : it->second];
}

// ---- the kernel's view

void ThreadMerge::on_switch(CpuId id, Tid tid, uint64_t tsc, bool in) {
  const auto index = cpu_index_.find(id.value());
  if (index == cpu_index_.end()) return;
  Cpu& cpu = *cpus_[index->second];
  const uint64_t sure_until = cpu.lost ? cpu.last_switch : tsc;
  if (in) {
    if (cpu.running > 0 && cpu.running != tid.value()) {  // its switch-out was lost
      auto& s = slices_[cpu.running];
      if (!s.empty() && s.back().out == kNever && s.back().cpu == index->second)
        s.back().out = std::max(s.back().in, sure_until);
    }
    if (cpu.running == 0 && !cpu.idle.empty() && cpu.idle.back().to == kNever) cpu.idle.back().to = sure_until;
    if (tid.value() == 0) {
      cpu.idle.push_back({tsc, kNever});
    } else {
      auto& s = slices_[tid.value()];
      if (!s.empty() && s.back().out == kNever)
        s.back().out = std::max(s.back().in, std::min(tsc, cpus_[s.back().cpu]->last_switch));
      s.push_back({tsc, kNever, index->second});
    }
    cpu.running = tid.value();
  } else {
    if (tid.value() == 0) {
      if (!cpu.idle.empty() && cpu.idle.back().to == kNever) cpu.idle.back().to = tsc;
    } else {
      auto& s = slices_[tid.value()];
      if (!s.empty() && s.back().out == kNever && s.back().cpu == index->second) {
        s.back().out = tsc;
      } else if (cpu.last_switch != 0) {  // its switch-in was lost
        const uint64_t from = std::max(cpu.last_switch, s.empty() ? 0 : std::min(s.back().out, tsc));
        if (!s.empty() && s.back().out == kNever) s.back().out = from;
        s.push_back({from, tsc, index->second});
      }
    }
    cpu.running = -1;
  }
  cpu.last_switch = tsc;
  cpu.lost = false;
}

void ThreadMerge::on_lost(CpuId cpu, uint64_t tsc) {
  if (cpu_index_.contains(cpu.value())) cpu_of(cpu).lost = true;
  last_loss_ = std::max(last_loss_, tsc);
}

void ThreadMerge::on_fault(Tid tid, uint64_t tsc) { faults_[tid.value()].push_back(tsc); }

/// Drops slices and faults that no span can need any more.
void ThreadMerge::forget_old_slices() {
  std::unordered_map<int32_t, uint64_t> needed;
  for (const auto& t : threads_) {
    if (t->ended) continue;
    auto [it, fresh] = needed.emplace(t->tid.value(), t->last_time);
    if (!fresh) it->second = std::min(it->second, t->last_time);
  }
  // Threads that are not announced yet may still ask for the last seconds.
  const uint64_t others = encoded_until_ > 5000000 * us_ ? encoded_until_ - 5000000 * us_ : 0;
  for (auto it = slices_.begin(); it != slices_.end();) {
    const auto n = needed.find(it->first);
    const uint64_t from = n == needed.end() ? others : n->second;
    while (!it->second.empty() && it->second.front().out < from) it->second.pop_front();
    it = it->second.empty() ? slices_.erase(it) : std::next(it);
  }
  for (auto it = faults_.begin(); it != faults_.end();) {
    const auto n = needed.find(it->first);
    const uint64_t from = n == needed.end() ? others : n->second;
    while (!it->second.empty() && it->second.front() < from) it->second.pop_front();
    it = it->second.empty() ? faults_.erase(it) : std::next(it);
  }
}

// ---- words to spans

/// Copies what is new into our memory, so that the ring has room again and nothing changes under our hands.
void ThreadMerge::take_words(Thread& t) {
  if (t.discard && t.ring.written) {  // the program must not wait for a reader that has given up
    t.ring.taken->store(t.ring.written->load(std::memory_order_acquire), std::memory_order_release);
    return;
  }
  if (t.ended || !t.ring.written) return;
  uint64_t until = t.ring.written->load(std::memory_order_acquire);
  if (t.gone && t.ring.position) until = std::max(until, t.ring.position->load(std::memory_order_acquire));
  if (until > t.taken ? until - t.taken > t.ring.capacity : t.taken - until > kMaxUntimedWords) {  // no plugin of ours
    ++stats_.bad_words;
    t.gone = true;
    t.discard = true;
    return;
  }
  t.published = until;
  if (until <= t.taken) return;  // words that are not published yet were taken from a rest
  const uint64_t room = waiting_words_ < config_.max_waiting_words ? config_.max_waiting_words - waiting_words_ : 0;
  copy_words(t, std::min(until - t.taken, room));
}

void ThreadMerge::copy_words(Thread& t, uint64_t n) {
  if (n == 0) return;
  if (t.parsed == t.inbox.size()) {
    t.inbox.clear();
    t.parsed = 0;
  } else if (t.parsed > t.inbox.size() / 2 && t.parsed > 4096) {
    t.inbox.erase(t.inbox.begin(), t.inbox.begin() + static_cast<long>(t.parsed));
    t.parsed = 0;
  }
  const uint32_t* from = t.ring.words + (t.taken & (t.ring.capacity - 1));
  t.inbox.insert(t.inbox.end(), from, from + n);
  t.taken += n;
  waiting_words_ += n;
  t.ring.taken->store(t.taken, std::memory_order_release);
  // Blocks are defined before a word names them, so they are all there now.
  if (!t.table->refresh()) t.discard = true;
}

// Rest: where the writer of a thread stands that is off its CPU. The position in the ring moves with every block, so a
// reading of it taken while the kernel's records say that the thread was off all the time tells what it had begun when
// it was taken off. Without this, what it ran before a long preemption would be known only after it.

/// Reads where its writer stands.
void ThreadMerge::watch_rest(Thread& t, uint64_t now) {
  if (!t.ring.position || !t.ring.written || t.gone || t.discard) return;
  const uint64_t position = t.ring.position->load(std::memory_order_acquire);
  const uint64_t written = t.ring.written->load(std::memory_order_acquire);
  // All that is published was taken, so whatever lies behind that are blocks.
  if (written > t.taken || position < t.taken || position - t.taken > kMaxUntimedWords) return;
  t.rest_position = position;
  t.rest_from = now;
  t.rest_until = kNever;
}

/// Was the thread off its CPU when its position was read?
void ThreadMerge::settle_rest(Thread& t, uint64_t horizon, uint64_t now) {
  if (t.rest_until == kNever) t.rest_until = now;  // the reading was over before this call
  if (horizon < t.rest_until) return;
  t.rest_until = 0;
  if (t.gone || t.discard || t.ended) return;
  const auto s = slices_.find(t.tid.value());
  if (s == slices_.end()) return;
  const Slice* left = nullptr;
  for (const Slice& slice : s->second) {
    if (slice.out <= t.rest_from) {
      left = &slice;
    } else if (slice.in <= t.rest_until) {
      return;  // it ran
    }
  }
  if (left && left->out > t.last_time && left->out > last_loss_) take_rest(t, left->out, cpus_[left->cpu]->id);
}

/// The blocks up to the position of its rest, with the time of its preemption before the last of them: how far that one
/// ran is not known, so it belongs to what comes after.
void ThreadMerge::take_rest(Thread& t, uint64_t out, CpuId cpu) {
  if (t.taken > t.rest_position) return;  // it said more meanwhile
  copy_words(t, t.rest_position - t.taken);
  t.rested_at = out;
  t.rested_taken = t.taken;
  if (t.taken <= t.published || t.parsed == t.inbox.size()) return;  // it stands behind a special word, not in a block
  const uint32_t last = t.inbox.back();
  t.inbox.back() = special(Word::mark, cpu.value());
  t.inbox.push_back(static_cast<uint32_t>(out));
  t.inbox.push_back(static_cast<uint32_t>(out >> 32));
  t.inbox.push_back(last);
  waiting_words_ += 3;
  ++stats_.rests;
}

/// Reads one span from the inbox, up to the next named time. False when it is not whole yet or beyond the horizon.
bool ThreadMerge::next_span(Thread& t, uint64_t horizon, Span& span) {
  const std::vector<uint32_t>& w = t.inbox;
  const size_t size = w.size();
  const BlockInfo* const blocks = t.table->data();
  const uint32_t known = t.table->size();
  const bool final = horizon == kNever;

  span.parts.clear();
  span.instructions = 0;
  span.interrupted = span.lossy_end = false;
  span.t0 = span.t1 = t.last_time;
  Part part;
  part.begin = t.parsed;
  size_t i = t.parsed;
  const auto end_part = [&](uint64_t next_ip, size_t next_begin) {
    part.next_ip = next_ip;
    if (part.count) {
      span.instructions += part.instructions;
      span.parts.push_back(part);
      part = Part{};
    } else {
      const bool lossy = part.lossy;
      part = Part{};
      part.lossy = lossy;
    }
    part.begin = next_begin;
  };
  const auto drop_rest = [&] {
    t.gone = t.ended = t.discard = true;
    waiting_words_ -= size - t.parsed;
    t.parsed = size;
    return false;
  };
  const auto bad = [&] {
    ++stats_.bad_words;
    return drop_rest();
  };
  // The last block's end is not known: it counts as not run.
  const auto drop_last_block = [&] {
    const BlockInfo& b = blocks[w[part.begin + part.count - 1]];
    --part.count;
    part.instructions -= b.instructions;
    return b.ip;
  };
  for (; i < size; ++i) {
    const uint32_t word = w[i];
    if (word < known) {
      const uint32_t n = blocks[word].instructions;
      if (n == 0) [[unlikely]]
        return bad();
      part.instructions += n;
      ++part.count;
      continue;
    }
    if (!is_special(word)) return bad();
    const Word type = special_type(word);
    if (type < Word::mark || type > Word::lost) return bad();
    const uint32_t low = special_low(word);
    const size_t after = i + 1 + words_after(type);
    if (after > size) break;  // not whole yet
    if (type == Word::cut) {
      if (part.count == 0) return bad();
      const BlockInfo& b = blocks[w[i - 1]];
      if (low > b.instructions) return bad();
      if (low == 0) {
        end_part(drop_last_block(), after);
      } else if (low < b.instructions) {
        part.instructions -= b.instructions - low;
        part.last_stop = low;
        end_part(b.ip_of(low), after);
      } else {
        end_part(b.fall(), after);
      }
      continue;
    }
    if (type == Word::lost) {
      stats_.lost_words += time_of(w, i + 1);
      if (part.count) {
        end_part(drop_last_block(), after);
      } else {
        part.begin = after;
      }
      part.lossy = true;
      i = after - 1;
      continue;
    }

    // A named time. What follows decides where control goes on.
    const uint64_t named = time_of(w, i + 1);
    // After the recording's end, or a lie: the encoder would fill the ring with MTCs up to then.
    if (named > latest_) return drop_rest();
    uint64_t at = std::max(named, t.last_time);
    const bool left = !t.torn && part.count && blocks[w[i - 1]].kind == Terminator::far;
    bool next_known = true;
    uint64_t next_ip = 0;
    if (type == Word::signal) {
      next_ip = time_of(w, i + 3);
    } else if (part.count && !left) {
      next_known = false;
      if (type == Word::mark || type == Word::syscall_return) {
        size_t j = after;
        while (j < size && is_special(w[j]) && special_type(w[j]) == Word::mark) j += 3;
        if (j >= size) {
          if (!final) break;  // what comes next is not there yet
        } else if (w[j] < known) {
          next_ip = blocks[w[j]].ip;
          next_known = true;
        } else if (special_type(w[j]) == Word::signal) {
          if (j + 5 > size && !final) break;
          if (j + 5 <= size) {
            next_ip = time_of(w, j + 3);
            next_known = true;
          }
        }
      }
    }
    if (at > horizon) {
      t.waits_for_horizon = true;
      return false;
    }
    span.t1 = at;
    if (!next_known) next_ip = drop_last_block();
    const bool rest = type == Word::mark && named == t.rested_at;
    if (type == Word::signal || !next_known || rest) span.interrupted = true;
    if (part.lossy && !part.count) {  // lost right before the named time
      span.lossy_end = true;
      span.resume_ip = next_ip;
    }
    end_part(next_ip, after);
    if (type == Word::mark || type == Word::syscall_return) t.named_cpu = CpuId(low);
    t.in_kernel = type == Word::syscall_enter || type == Word::exit;
    t.waits_for_horizon = false;
    const size_t read = type == Word::exit ? size : after;  // nothing may follow an exit
    waiting_words_ -= read - t.parsed;
    t.parsed = read;
    if (type == Word::exit) {
      t.gone = t.ended = true;
      t.ring.written = nullptr;
    }
    return true;
  }
  t.waits_for_horizon = false;
  return false;
}

// ---- spans to intervals

uint64_t ThreadMerge::tick(const Cpu& cpu, uint64_t k) const {
  const double period = static_cast<double>(config_.encoder.tsc_hz) / config_.tick_hz;
  const auto p = static_cast<uint64_t>(period);
  const uint64_t jitter = SeededRandom(config_.encoder.seed + k, 2000000 + cpu.id.value()).next() % (p / 64 + 1);
  return k * p + cpu.tick_phase % p + jitter;
}

uint64_t ThreadMerge::next_tick(const Cpu& cpu, uint64_t after) const {
  if (config_.tick_hz <= 0) return kNever;
  const auto p = static_cast<uint64_t>(static_cast<double>(config_.encoder.tsc_hz) / config_.tick_hz);
  uint64_t k = after / p > 2 ? after / p - 2 : 0;
  while (tick(cpu, k) <= after) ++k;
  return tick(cpu, k);
}

/// Splits an undisturbed-by-switches interval at ticks and faults; each takes some of the time away.
void ThreadMerge::soft_breaks(Thread& t, Interval whole) {
  std::vector<uint64_t> breaks;
  const Cpu& cpu = *cpus_[whole.cpu];
  for (uint64_t x = next_tick(cpu, whole.a); x < whole.b && breaks.size() < 4096; x = next_tick(cpu, x)) {
    breaks.push_back(x);
    ++stats_.ticks;
  }
  if (const auto f = faults_.find(t.tid.value()); f != faults_.end()) {
    for (auto it = std::upper_bound(f->second.begin(), f->second.end(), whole.a); it != f->second.end(); ++it) {
      if (*it >= whole.b || breaks.size() >= 8192) break;
      breaks.push_back(*it);
      ++stats_.faults;
    }
  }
  std::sort(breaks.begin(), breaks.end());
  for (uint64_t x : breaks) {
    // The kernel needs one to four microseconds, but named times stay where they are: never more than half the room.
    const uint64_t want = us_ / 2 + SeededRandom(config_.encoder.seed, x).next() % (us_ + us_ / 2);
    const uint64_t gap = std::min({want, (x - whole.a) / 2, (whole.b - x) / 2});
    if (x - gap > whole.a) {
      Interval before = whole;
      before.b = x - gap;
      intervals_.push_back(before);
    }
    whole.a = x + gap;
    whole.key = x;
  }
  if (whole.a < whole.b) intervals_.push_back(whole);
}

/// The last switch, tick or fault that disturbed the thread before `at`, which lies in the slice.
uint64_t ThreadMerge::edge_before(const Thread& t, const Slice& slice, uint64_t at) const {
  uint64_t edge = slice.in;
  if (config_.tick_hz > 0) {
    const Cpu& cpu = *cpus_[slice.cpu];
    const auto period = static_cast<uint64_t>(static_cast<double>(config_.encoder.tsc_hz) / config_.tick_hz);
    uint64_t k = at / period + 1;
    while (k > 0 && tick(cpu, k) > at) --k;
    if (tick(cpu, k) <= at) edge = std::max(edge, tick(cpu, k));
  }
  if (const auto f = faults_.find(t.tid.value()); f != faults_.end()) {
    const auto it = std::upper_bound(f->second.begin(), f->second.end(), at);
    if (it != f->second.begin()) edge = std::max(edge, *std::prev(it));
  }
  return edge;
}

/// Where the thread was on a CPU between two times, into intervals_. False when all of that is encoded already, or
/// others' by the records.
bool ThreadMerge::intervals(Thread& t, uint64_t from, uint64_t to, CpuId named) {
  intervals_.clear();
  const auto s = slices_.find(t.tid.value());
  bool late = false, known = false;
  if (s != slices_.end()) {
    for (const Slice& slice : s->second) {
      if (slice.out <= from) continue;
      if (slice.in >= to) break;
      known = true;
      Interval i;
      i.cpu = slice.cpu;
      i.a = std::max(slice.in, from);
      i.b = std::min(slice.out, to);
      // About a microsecond of kernel work lies between a switch and user code.
      const uint64_t margin = us_ + SeededRandom(config_.encoder.seed, slice.in).next() % us_;
      const uint64_t room = i.b - i.a;
      const bool begins = slice.in > from, ends = slice.out < to;
      // An MTC lies in there, too: the next is no later than a period after the switch. A decoder that knows no more than
      // MTCs say would give what runs before it to the thread that was there before.
      const uint64_t most = ends ? room / 2 : room / 8 * 7;
      if (begins) i.a += std::max(std::min(margin, room / 3), std::min(mtc_ticks_, most));
      if (ends) i.b -= std::min(margin, room / 3);
      const uint64_t open = std::max(cpus_[i.cpu]->encoder->now(), t.placed_until);
      if (open > i.a) {
        late = late || open > i.a + us_;
        i.a = open;
      }
      if (i.a >= i.b) continue;
      i.key = edge_before(t, slice, i.a);
      soft_breaks(t, i);
    }
  }
  if (!intervals_.empty()) {
    if (late) ++stats_.squeezed_spans;
    return true;
  }
  // Clocks disagree by a little: a moment after its time is near enough.
  if (known) {
    for (const Slice& slice : s->second) {
      if (slice.in >= to) break;
      Interval i;
      i.cpu = slice.cpu;
      i.a = std::max({slice.in, from, cpus_[i.cpu]->encoder->now(), t.placed_until});
      i.b = std::min(slice.out, i.a + us_);
      if (i.a >= i.b || i.a > to + 2 * us_) continue;
      i.key = edge_before(t, slice, i.a);
      intervals_.push_back(i);
      ++stats_.squeezed_spans;
      return true;
    }
    return false;
  }
  ++stats_.unplaced_spans;
  Interval i;
  Cpu& cpu = cpu_of(named);
  i.cpu = cpu_index_.at(cpu.id.value());
  i.guessed = true;
  i.a = std::max({from, t.placed_until, cpu.encoder->now()});
  if (i.a > to + us_) return false;
  i.b = std::max(i.a + 1, to);
  i.key = t.tracing && t.on.guessed && t.on.cpu == i.cpu ? t.on.key : i.a;
  push_where_nobody_else_ran(t, i);
  return !intervals_.empty();
}

/// A guess may not contradict what records say: times at which another thread surely had the CPU are left out, with a
/// microsecond around them.
void ThreadMerge::push_where_nobody_else_ran(const Thread& t, const Interval& whole) {
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  for (const auto& [tid, slices] : slices_) {
    if (tid == t.tid.value()) continue;
    for (const Slice& s : slices)
      // One that still lasts lasts for sure unless records were lost since.
      if (s.cpu == whole.cpu && s.in < whole.b && s.out > whole.a && (s.out != kNever || !cpus_[s.cpu]->lost))
        taken.emplace_back(s.in, s.out);
  }
  std::sort(taken.begin(), taken.end());
  Interval piece = whole;
  for (const auto& [in, out] : taken) {
    piece.b = std::min(whole.b, in > us_ ? in - us_ : 0);
    if (piece.a + us_ < piece.b) intervals_.push_back(piece);
    piece.a = out == kNever ? whole.b : std::max(piece.a, out + us_);
    piece.key = piece.a;
  }
  piece.b = whole.b;
  if (piece.a < piece.b && (taken.empty() || piece.b - piece.a > us_)) intervals_.push_back(piece);
}

/// The interval around `at` within which spans may be placed without looking at switches, ticks and faults.
void ThreadMerge::quiet_around(Thread& t, uint64_t at, uint64_t horizon) {
  t.quiet = Interval{};
  const auto s = slices_.find(t.tid.value());
  if (s == slices_.end()) return;
  for (const Slice& slice : s->second) {
    if (slice.in > at) break;
    if (slice.out <= at) continue;
    t.quiet.cpu = slice.cpu;
    t.quiet.key = edge_before(t, slice, at);
    t.quiet.a = at;
    t.quiet.b = std::min({slice.out, horizon, next_tick(*cpus_[slice.cpu], at)});
    if (const auto f = faults_.find(t.tid.value()); f != faults_.end()) {
      const auto it = std::upper_bound(f->second.begin(), f->second.end(), at);
      if (it != f->second.end()) t.quiet.b = std::min(t.quiet.b, *it);
    }
  }
}

// ---- intervals to pieces

void ThreadMerge::ship(Thread& t) {
  if (t.piece.segments.empty()) return;
  Cpu& cpu = *cpus_[t.piece.cpu];
  waiting_words_ += t.piece.words.size();
  const uint64_t begin = t.piece.segments.front().t0;
  cpu.queue.emplace(begin, std::move(t.piece));
  t.piece = Piece{};
}

ThreadMerge::Segment& ThreadMerge::append(Thread& t, const Interval& where) {
  if (!t.piece.segments.empty() &&
      (t.piece.cpu != where.cpu || t.piece.key != where.key || t.piece.segments.size() >= kMaxSegments))
    ship(t);
  if (t.piece.segments.empty()) {
    t.piece.thread = &t;
    t.piece.cpu = where.cpu;
    t.piece.key = where.key;
  }
  return t.piece.segments.emplace_back();
}

void ThreadMerge::append_loss(Thread& t, const Interval& where, uint64_t at, uint64_t next_ip) {
  Segment& s = append(t, where);
  s.kind = Segment::Kind::loss;
  s.t0 = s.t1 = t.placed_until = std::max(at, t.placed_until);
  s.next_ip = next_ip;
  t.tracing = true;
}

void ThreadMerge::interrupt(Thread& t, uint64_t at) {
  if (!t.tracing) return;
  Segment& s = append(t, t.on);
  s.kind = Segment::Kind::interrupt;
  s.t0 = s.t1 = t.placed_until = std::max(at, t.placed_until);
  t.tracing = false;
}

bool ThreadMerge::place_span(Thread& t, const Span& span, uint64_t horizon) {
  ++stats_.spans;
  if (span.parts.empty() && !span.interrupted && !span.lossy_end) {
    if (t.quiet.b <= span.t1) quiet_around(t, span.t1, horizon);
    return true;
  }
  const bool simple = span.parts.size() == 1 && !span.parts[0].lossy && !span.interrupted && !span.lossy_end;
  if (simple && t.quiet.b > span.t1 && t.quiet.a <= span.t0 && (!t.tracing || t.on.key == t.quiet.key) &&
      std::max(cpus_[t.quiet.cpu]->encoder->now(), t.placed_until) <= span.t0) {
    const Part& p = span.parts[0];
    t.on = t.quiet;
    Segment& s = append(t, t.on);
    s.begin = static_cast<uint32_t>(t.piece.words.size());
    s.count = p.count;
    s.last_stop = p.last_stop;
    s.instructions = p.instructions;
    s.next_ip = p.next_ip;
    s.t0 = span.t0;
    s.t1 = t.placed_until = span.t1;
    t.piece.words.insert(t.piece.words.end(), t.inbox.begin() + static_cast<long>(p.begin),
                         t.inbox.begin() + static_cast<long>(p.begin + p.count));
    t.tracing = p.last_stop != 0 || t.table->data()[t.piece.words.back()].kind != Terminator::far;
    return true;
  }
  if (!place_slowly(t, span, horizon)) return false;
  quiet_around(t, span.t1, horizon);
  return true;
}

bool ThreadMerge::place_slowly(Thread& t, const Span& span, uint64_t horizon) {
  uint64_t t1 = span.t1;
  if (span.interrupted && span.instructions) t1 -= std::min(us_, (span.t1 - span.t0) / 3);  // the kernel's work
  const BlockInfo* const blocks = t.table->data();
  if (span.instructions == 0) {
    if (span.lossy_end && t.tracing) append_loss(t, t.on, t.placed_until, span.resume_ip);
    if (span.interrupted)
      interrupt(t, std::min(t.placed_until + us_, (t.placed_until + std::max(span.t1, t.placed_until)) / 2));
    return true;
  }
  if (!intervals(t, span.t0, t1, t.named_cpu)) return lose_span(t, span, horizon);
  uint64_t total = 0;
  for (const Interval& i : intervals_) total += i.b - i.a;

  size_t part = 0;
  uint32_t block = 0;   // of the part
  uint32_t skip = 0;    // of the block
  uint64_t placed = 0;  // instructions
  uint64_t passed = 0;  // time
  for (size_t n = 0; n < intervals_.size(); ++n) {
    const Interval& where = intervals_[n];
    passed += where.b - where.a;
    const uint64_t goal =
        n + 1 == intervals_.size()
            ? span.instructions
            : static_cast<uint64_t>(static_cast<unsigned __int128>(span.instructions) * passed / total);
    const uint64_t quota = goal - placed;
    if (quota == 0) continue;
    if (t.tracing && (t.on.key != where.key || t.on.cpu != where.cpu)) {
      uint64_t at = t.placed_until;
      for (size_t m = 0; m < n; ++m)
        if (intervals_[m].key == t.on.key && intervals_[m].cpu == t.on.cpu) at = intervals_[m].b;
      interrupt(t, at);
      ++stats_.preemptions;
    }
    t.on = where;
    uint64_t here = 0;  // of the quota
    while (here < quota) {
      const Part& p = span.parts[part];
      if (p.lossy && block == 0 && skip == 0)
        append_loss(t, where, where.a + (where.b - where.a) * here / quota, blocks[t.inbox[p.begin]].ip);
      Segment s;
      s.first_skip = skip;
      s.t0 = where.a + static_cast<uint64_t>(static_cast<unsigned __int128>(where.b - where.a) * here / quota);
      const uint32_t first = block;
      bool part_done = false;
      while (here < quota && !part_done) {
        const BlockInfo& b = blocks[t.inbox[p.begin + block]];
        const bool last = block + 1 == p.count;
        const uint32_t end = last && p.last_stop ? p.last_stop : b.instructions;
        const uint64_t run = std::min<uint64_t>(end - skip, quota - here);
        here += run;
        s.instructions += run;
        if (skip + run < end) {  // the interval ends inside the block
          skip += static_cast<uint32_t>(run);
          s.last_stop = skip;
          s.next_ip = b.ip_of(skip);
          ++block;  // counted below; stepped back after
          break;
        }
        skip = 0;
        ++block;
        part_done = last;
      }
      s.count = block - first;
      if (s.last_stop) {
        --block;
      } else if (part_done) {
        s.last_stop = p.last_stop;
        s.next_ip = p.next_ip;
      } else {
        s.next_ip = blocks[t.inbox[p.begin + block]].ip;
      }
      s.t1 = here == quota
                 ? where.b
                 : where.a + static_cast<uint64_t>(static_cast<unsigned __int128>(where.b - where.a) * here / quota);
      Segment& out = append(t, where);
      s.begin = static_cast<uint32_t>(t.piece.words.size());
      const auto from = t.inbox.begin() + static_cast<long>(p.begin + first);
      t.piece.words.insert(t.piece.words.end(), from, from + static_cast<long>(s.count));
      out = s;
      t.placed_until = s.t1;
      t.tracing = s.last_stop != 0 || blocks[t.piece.words.back()].kind != Terminator::far;
      if (part_done) {
        ++part;
        block = 0;
      }
    }
    placed = goal;
  }
  if (span.lossy_end) append_loss(t, t.on, t.placed_until, span.resume_ip);
  if (span.interrupted) interrupt(t, t.placed_until);
  return true;
}

/// All the time in which the span ran is encoded: at the first moment that is still open, its thread says that something
/// of it was lost. False when no such moment is known yet.
bool ThreadMerge::lose_span(Thread& t, const Span& span, uint64_t horizon) {
  Interval where;
  bool found = false;
  if (const auto s = slices_.find(t.tid.value()); s != slices_.end())
    for (const Slice& slice : s->second) {
      where.cpu = slice.cpu;
      where.a = std::max({slice.in + us_, span.t1, t.placed_until, cpus_[slice.cpu]->encoder->now()});
      where.b = std::min(slice.out - std::min(us_, slice.out), horizon);
      found = where.a + us_ < where.b;
      if (!found) continue;
      where.key = edge_before(t, slice, where.a);
      break;
    }
  if (!found) {
    if (horizon != kNever) return false;
    const Cpu& cpu = cpu_of(t.named_cpu);
    where = Interval{};
    where.cpu = cpu_index_.at(cpu.id.value());
    where.guessed = true;
    where.a = where.key = std::max({span.t1, t.placed_until, cpu.encoder->now()});
    where.b = where.a + 1;
  }
  ++stats_.late_spans;
  if (t.tracing && (t.on.key != where.key || t.on.cpu != where.cpu)) interrupt(t, t.placed_until);
  t.on = where;
  const Part& last = span.parts.back();
  const BlockInfo& b = t.table->data()[t.inbox[last.begin + last.count - 1]];
  const bool left = last.last_stop == 0 && b.kind == Terminator::far;
  append_loss(t, where, where.a, left ? b.ip : last.next_ip);
  if (left || span.interrupted) interrupt(t, where.a);
  return true;
}

bool ThreadMerge::place(Thread& t, uint64_t horizon) {
  bool any = false;
  Span span;
  t.quiet = Interval{};  // more is known by now
  while (!t.ended) {
    const size_t parsed = t.parsed;
    const CpuId named = t.named_cpu;
    const bool in_kernel = t.in_kernel, gone = t.gone;
    const auto* written = t.ring.written;
    if (!next_span(t, horizon, span)) break;
    if (!place_span(t, span, horizon)) {  // read it again when there is a place for it
      waiting_words_ += t.parsed - parsed;
      t.parsed = parsed;
      t.named_cpu = named;
      t.in_kernel = in_kernel;
      t.gone = gone;
      t.ended = false;
      t.ring.written = written;
      break;
    }
    any = true;
    t.last_time = span.t1;
  }
  return any;
}

/// The time before which the thread can say nothing new: when it was last heard of, or when it came back from a rest.
uint64_t ThreadMerge::nothing_before(const Thread& t, uint64_t horizon) const {
  const bool rests = t.rested_at != 0 && t.rested_at >= t.last_time && t.rested_taken == t.taken;
  if (!rests || t.inbox.size() - t.parsed > 1) return t.last_time;
  uint64_t back = std::max(horizon, t.last_time);
  if (const auto s = slices_.find(t.tid.value()); s != slices_.end())
    for (const Slice& slice : s->second)
      if (slice.in >= t.rested_at) back = std::min(back, slice.in);
  return back;
}

/// It was taken off its CPU long ago and has not said what it ran until then: that is placed where it runs next, so that
/// its stretch here ends with its slice, as a preemption would end it.
void ThreadMerge::leave_ended_slice(Thread& t) {
  if (!t.tracing) return;
  const auto s = slices_.find(t.tid.value());
  if (s == slices_.end()) return;
  for (const Slice& slice : s->second)
    if (slice.in <= t.placed_until && t.placed_until <= slice.out && slice.out != kNever) {
      interrupt(t, slice.out - std::min(us_, slice.out - t.placed_until));
      ship(t);
      return;
    }
}

/// A thread that was ended without an exit word: blocks after the last named time. How far the last block ran is not
/// known, so it is left out.
void ThreadMerge::place_rest(Thread& t, uint64_t now) {
  if (!t.ended) {
    t.torn = true;
    while (t.parsed < t.inbox.size()) {
      // As if the time of its last switch-out had been named, or soon after the last time.
      uint64_t blocks = t.inbox.size() - t.parsed;
      uint64_t at = std::min(now, t.last_time + blocks * us_ / 16 + us_);
      if (const auto s = slices_.find(t.tid.value()); s != slices_.end() && !s->second.empty()) {
        const uint64_t out = s->second.back().out;
        if (out != kNever && out > t.last_time) at = std::min(at, out);
      }
      at = std::max(at, t.last_time);
      t.inbox.push_back(special(Word::exit, 0));
      t.inbox.push_back(static_cast<uint32_t>(at));
      t.inbox.push_back(static_cast<uint32_t>(at >> 32));
      waiting_words_ += 3;
      if (!place(t, kNever)) break;
    }
    if (t.parsed < t.inbox.size()) {  // a special word without all that belongs to it
      ++stats_.bad_words;
      waiting_words_ -= t.inbox.size() - t.parsed;
      t.parsed = t.inbox.size();
    }
    t.ended = true;
  }
  interrupt(t, t.placed_until);
}

// ---- pieces to packets

/// A stretch whose time is over on its CPU: that something was lost, and where the thread goes on.
void ThreadMerge::lose(Cpu& cpu, const Piece& piece, const Segment& s) {
  PtEncoder& e = *cpu.encoder;
  const BlockInfo& last = piece.thread->table->data()[piece.words[s.begin + s.count - 1]];
  const bool left = s.last_stop == 0 && last.kind == Terminator::far;
  const uint64_t next_ip = left ? last.ip : s.next_ip;
  if (!e.tracing()) e.enter(s.t0, next_ip);
  e.lose(s.t0, next_ip);
  if (left) e.interrupt(s.t0);
  cpu.current = piece.thread;
  cpu.asleep = false;
  ++stats_.late_spans;
}

void ThreadMerge::encode(Cpu& cpu, const Piece& piece) {
  PtEncoder& e = *cpu.encoder;
  const BlockInfo* const blocks = piece.thread->table->data();
  for (const Segment& s : piece.segments) {
    const bool ours = e.tracing() && cpu.current == piece.thread;
    if (s.kind == Segment::Kind::interrupt) {
      if (ours) e.interrupt(s.t0);
      continue;
    }
    if (e.tracing() && !ours) {
      e.interrupt(s.t0);
      ++stats_.takeovers;
    }
    if (s.kind == Segment::Kind::loss) {
      // Entered first, so that the loss is seen to be this thread's.
      if (!e.tracing()) e.enter(s.t0, s.next_ip);
      e.lose(s.t0, s.next_ip);
      cpu.current = piece.thread;
      cpu.asleep = false;
      continue;
    }
    if (e.now() > s.t1 + 2 * us_) {  // another thread was placed in its time: one of them is a wrong guess
      lose(cpu, piece, s);
      continue;
    }
    Run run;
    run.ids = piece.words.data() + s.begin;
    run.count = s.count;
    run.blocks = blocks;
    run.first_skip = s.first_skip;
    run.last_stop = s.last_stop;
    run.next_ip = s.next_ip;
    run.instructions = s.instructions;
    run.t0 = s.t0;
    run.t1 = s.t1;
    if (!e.tracing()) {
      e.enter(s.t0, blocks[run.ids[0]].ip_of(s.first_skip));
      cpu.asleep = false;
    }
    cpu.current = piece.thread;
    e.run(run);
  }
}

/// C-states: a CPU that idles for more than a few dozen microseconds sleeps.
void ThreadMerge::idle(Cpu& cpu, uint64_t until) {
  const uint64_t worth = 30 * us_;
  PtEncoder& e = *cpu.encoder;
  while (!cpu.idle.empty()) {
    const Cpu::Idle& i = cpu.idle.front();
    const uint64_t end = std::min(i.to, until);
    if (i.from + worth > until && i.to == kNever) return;
    if (i.from >= until) return;
    const uint64_t begin = std::max(i.from + us_, e.now());
    if (!cpu.asleep && end > begin + worth) {
      if (e.tracing()) {
        e.interrupt(i.from);
        ++stats_.takeovers;
      }
      e.sleep(begin);
      cpu.asleep = true;
    }
    if (i.to > until) return;
    if (cpu.asleep) e.wake(i.to - us_);
    cpu.asleep = false;
    cpu.idle.pop_front();
  }
}

void ThreadMerge::encode(Cpu& cpu, uint64_t until) {
  while (!cpu.queue.empty() && cpu.queue.begin()->first < until) {
    const auto node = cpu.queue.extract(cpu.queue.begin());
    idle(cpu, node.key());
    encode(cpu, node.mapped());
    waiting_words_ -= node.mapped().words.size();
  }
  if (until == kNever) return;
  if (!cpu.encoder->tracing() && until > cpu.encoder->now()) {
    idle(cpu, until);
    cpu.encoder->advance(until);
  }
}

bool ThreadMerge::work(uint64_t horizon, uint64_t now) {
  bool any = false;
  uint64_t until = std::min(horizon, now > kSettleUs * us_ ? now - kSettleUs * us_ : 0);
  for (const auto& t : threads_) {
    if (t->ended) {
      if (t->discard) take_words(*t);
      continue;
    }
    const uint64_t before = t->taken;
    if (t->ring.position && t->rest_until != 0) settle_rest(*t, horizon, now);
    take_words(*t);
    if (t->taken != before) t->heard_at = now;
    any |= place(*t, horizon);
    ship(*t);
    if (t->rest_until == 0) watch_rest(*t, now);
    if (t->ended) continue;
    if (t->gone && now > t->heard_at + kGoneUs * us_) {
      place_rest(*t, now);
      ship(*t);
      continue;
    }
    // A thread that waits for the horizon has more to say about the time since its last word, unless it was in the
    // kernel all that time.
    const bool short_of_memory = waiting_words_ >= config_.max_waiting_words / 2;
    const bool silent = now > t->heard_at + (short_of_memory ? kSilenceUs : kLongSilenceUs) * us_;
    if (silent) leave_ended_slice(*t);
    const bool quiet_in_kernel = t->in_kernel && (t->waits_for_horizon || t->parsed == t->inbox.size());
    if (!quiet_in_kernel && !silent) until = std::min(until, nothing_before(*t, horizon));
  }
  for (const auto& cpu : cpus_) encode(*cpu, until);
  encoded_until_ = std::max(encoded_until_, until);
  forget_old_slices();
  return any;
}

void ThreadMerge::cut(uint64_t at) {
  for (const auto& cpu : cpus_) {
    encode(*cpu, at);
    if (cpu->encoder->tracing()) cpu->encoder->interrupt(at);
  }
}

void ThreadMerge::finish(uint64_t now) {
  latest_ = now + kLatestUs * us_;
  for (const auto& t : threads_) {
    for (;;) {  // the budget may need several rounds
      const uint64_t before = t->taken;
      take_words(*t);
      const bool placed = place(*t, kNever);
      ship(*t);
      if (t->taken == before && !placed) break;
    }
    place_rest(*t, now);
    ship(*t);
  }
  for (const auto& cpu : cpus_) {
    encode(*cpu, kNever);
    if (cpu->encoder->tracing()) cpu->encoder->interrupt(now);
    encode(*cpu, now);
  }
}

}  // namespace hindcast::sim
