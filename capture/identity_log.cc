// Who every thread is and was, as spans of equal answers.
#include "capture/identity_log.h"

#include <algorithm>

#include "capture/record_builder.h"

namespace hindcast::capture {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTurn{1000};
constexpr size_t kMostSpans = 64;       // of one thread
constexpr size_t kMostNamespaces = 16;  // looks at one thread's namespaces that told something new
constexpr size_t kLooksBetween = 64;

}  // namespace

void IdentityLog::wait_for_look(Pid pid, Tid tid, bool traced) {
  if (is_waiting_.count(tid)) return;
  if (waiting_.size() >= config_.most_waiting) {
    passed_over_++;
    return;
  }
  is_waiting_.insert(tid);
  if (traced)
    waiting_.push_front({pid, tid});
  else
    waiting_.push_back({pid, tid});
}

void IdentityLog::expect(const perf::Record& record, bool traced) {
  if (record.type == perf::kFork) {
    const auto task = read_task_record(record);
    // A new thread is where its process is until it is looked at with all others.
    if (task && task->pid != task->parent_pid) wait_for_look(task->pid, task->tid, traced);
  } else if (record.type == perf::kComm) {
    const auto comm = read_comm_record(record);
    if (!comm || !comm->exec) return;
    if (const auto it = alive_.find(comm->tid); it != alive_.end()) it->second.whole_look_due = true;
    wait_for_look(comm->pid, comm->tid, traced);
  }
}

void IdentityLog::see(const perf::Record& record, RecordTime time) {
  const auto task = read_task_record(record);
  if (!task) return;
  const auto it = alive_.find(task->tid);
  if (record.type == perf::kExit) {
    if (it != alive_.end()) end(it);
    return;
  }
  // A look may have been quicker than the record.
  const auto since_fork = [&](const Life& life) {
    return !life.spans.empty() && life.spans.front().first_from >= time;
  };
  if (it != alive_.end() && since_fork(it->second)) {
    it->second.began = time;
    return;
  }
  if (it != alive_.end()) end(it);  // its id was used again, and the EXIT between was lost
  if (alive_.size() >= config_.most_alive) return;
  Life& life = alive_[task->tid];
  life.pid = task->pid;
  life.began = time;
}

void IdentityLog::end(std::map<Tid, Life>::iterator it) {
  refused_.erase(it->first);
  if (!it->second.spans.empty() || !it->second.namespaces.empty())
    ended_.emplace_back(it->first, std::move(it->second));
  alive_.erase(it);
  if (ended_.size() > config_.most_ended) {
    ended_.pop_front();
    forgotten_++;
  }
}

IdentityLog::Text IdentityLog::interned(std::string text) {
  if (const auto it = texts_.find(text); it != texts_.end())
    if (Text known = it->second.lock()) return known;
  if (text_bytes_ + text.size() > config_.most_text_bytes) {
    for (auto it = texts_.begin(); it != texts_.end();) {
      if (it->second.expired()) {
        text_bytes_ -= it->first.size();
        it = texts_.erase(it);
      } else {
        ++it;
      }
    }
    if (text_bytes_ + text.size() > config_.most_text_bytes) return nullptr;
  }
  auto made = std::make_shared<const std::string>(text);
  if (texts_.insert_or_assign(std::move(text), made).second) text_bytes_ += made->size();
  return made;
}

void IdentityLog::add_span(Life& life, Text text, RecordTime from, RecordTime to) {
  if (!life.spans.empty() && life.spans.back().text == text) {
    life.spans.back().last_from = from;
    life.spans.back().last_to = to;
    return;
  }
  if (life.spans.size() >= kMostSpans) {
    life.spans.erase(life.spans.begin());
    life.earlier_forgotten = true;
  }
  life.spans.push_back({from, to, from, to, std::move(text)});
}

void IdentityLog::add_namespaces(Life& life, identity::ThreadNamespaces found) {
  // Of equal ones in a row the first and the last are enough.
  const size_t n = life.namespaces.size();
  const auto same = [&](size_t i) { return life.namespaces[i].namespaces == found.namespaces; };
  if (n >= 2 && same(n - 1) && same(n - 2)) life.namespaces.pop_back();
  if (life.namespaces.size() >= kMostNamespaces) {
    life.namespaces.erase(life.namespaces.begin());
    life.namespaces.front().flags = identity::kEarlierForgotten;
  }
  life.namespaces.push_back(std::move(found));
}

void IdentityLog::look(Pid pid, Tid tid) {
  const auto folder = ThreadFolder::open(config_.proc, pid, tid);
  if (!folder) return;  // it has ended
  const RecordTime from = now_();
  auto text = folder->cgroup_text();
  RecordTime to = std::max(now_(), from);
  if (!text) return;
  auto it = alive_.find(tid);
  if (it == alive_.end()) {
    if (alive_.size() >= config_.most_alive) {
      passed_over_++;
      return;
    }
    it = alive_.emplace(tid, Life{}).first;
  }
  Life& life = it->second;
  life.pid = pid;
  life.looked = Clock::now();
  if (Text kept = interned(std::move(*text)))
    add_span(life, std::move(kept), from, to);
  else
    passed_over_++;
  if (!life.whole_look_due) return;
  identity::ThreadNamespaces found;
  found.pid = pid;
  found.tid = tid;
  found.from = from;
  bool refused = false;
  found.namespaces = folder->namespaces(refused);
  found.levels = folder->levels();
  found.to = std::max(now_(), from);
  if (found.levels.empty()) return;  // it ended meanwhile: what was read may be nothing
  life.whole_look_due = false;
  if (refused)
    refused_.insert(tid);
  else
    refused_.erase(tid);
  add_namespaces(life, std::move(found));
}

void IdentityLog::poll(Clock::time_point wall, const std::function<bool(Pid)>& traced) {
  const double seconds = std::chrono::duration<double>(wall - allowed_until_).count();
  const auto rate = static_cast<double>(config_.looks_per_second);
  allowance_ = std::min(allowance_ + seconds * rate, std::max(rate / 4, 1.0));
  allowed_until_ = wall;
  for (; allowance_ >= 1 && !waiting_.empty(); allowance_ -= 1) {
    const Waiting w = waiting_.front();
    waiting_.pop_front();
    is_waiting_.erase(w.tid);
    look(w.pid, w.tid);
  }
  if (allowance_ < 1 || alive_.empty()) return;
  // In turn, at most once around: those that are traced and were not looked at for a while.
  auto it = alive_.upper_bound(round_at_);
  for (size_t i = 0; i < alive_.size() && allowance_ >= 1; ++i, ++it) {
    if (it == alive_.end()) it = alive_.begin();
    const auto& [tid, life] = *it;
    round_at_ = tid;
    if (wall - life.looked < kTurn || !traced(life.pid)) continue;
    look(life.pid, tid);
    allowance_ -= 1;
  }
}

void IdentityLog::look_at_all(const std::function<bool(Pid)>& traced, const std::function<void()>& between) {
  const auto threads = list_threads(config_.proc);
  if (!threads) return;
  const auto begun = Clock::now();
  size_t n = 0;
  for (const auto& [pid, tid] : *threads) {
    if (const auto it = alive_.find(tid); it != alive_.end() && traced(pid)) it->second.whole_look_due = true;
    look(pid, tid);
    if (++n % kLooksBetween == 0) between();
  }
  // Those that were looked at before and are gone: their EXIT was lost, or is still to come.
  for (auto it = alive_.begin(); it != alive_.end();) {
    const auto life = it++;
    if (!life->second.spans.empty() && life->second.looked < begun) end(life);
  }
}

std::vector<uint8_t> IdentityLog::records(RecordTime time) const {
  std::vector<uint8_t> out, body;
  std::map<const std::string*, uint32_t> numbers;
  const auto put = [&](uint32_t type, const auto& record, Pid pid, Tid tid) {
    body.clear();
    identity::append_body(body, record);
    append_record(out, type, 0, body, {time, kNoCpu, pid, tid});
  };
  const auto put_life = [&](Tid tid, const Life& life) {
    for (const identity::ThreadNamespaces& n : life.namespaces) put(identity::kThreadNamespaces, n, n.pid, tid);
    for (const Span& s : life.spans) {
      const auto [number, added] = numbers.try_emplace(s.text.get(), static_cast<uint32_t>(numbers.size() + 1));
      if (added) put(identity::kCgroupText, identity::CgroupText{number->second, *s.text}, kNoPid, kNoTid);
      const bool cut = life.earlier_forgotten && &s == &life.spans.front();
      put(identity::kThreadCgroup,
          identity::ThreadCgroup{life.pid, tid, s.first_from, s.first_to, s.last_from, s.last_to, number->second,
                                 cut ? uint32_t{identity::kEarlierForgotten} : 0},
          life.pid, tid);
    }
  };
  for (const auto& [tid, life] : ended_) put_life(tid, life);
  for (const auto& [tid, life] : alive_) put_life(tid, life);
  return out;
}

}  // namespace hindcast::capture
