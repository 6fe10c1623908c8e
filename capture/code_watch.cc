#include "capture/code_watch.h"

#include <algorithm>
#include <array>
#include <tuple>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/proc_synth.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

using std::chrono::milliseconds;

constexpr uint64_t kPage = 4096;
constexpr milliseconds kEvery{100};     // a process that seems quiet
constexpr milliseconds kSoonest{10};    // one whose mappings changed
constexpr uint64_t kMapsBytes = 16384;  // what reading a list of mappings costs at least
constexpr uint64_t kLineBytes = 100;
constexpr size_t kMostChanges = 65536;  // of one process
constexpr size_t kMostLooks = 4096;

// /proc/PID/pagemap, one u64 a page (linux/Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kPresentOrSwapped = uint64_t{3} << 62;

/// Code there may be written through another mapping of the same memory.
bool has_aliases(const MapRecord& m) { return names_a_file(m.path) || (m.flags & MAP_SHARED); }

}  // namespace

bool is_memory_code(const MapRecord& map) {
  if (!(map.prot & PROT_EXEC) || map.path == "[vsyscall]") return false;
  return !names_a_file(map.path) || map.path.rfind("/memfd:", 0) == 0;
}

void CodeWatch::add_running(Pid pid, RecordTime now) {
  Process& p = processes_[pid];
  p.since = now;
  p.met_running = p.has_code = true;
}

void CodeWatch::on_map(const MapRecord& map, RecordTime time, Tid by) {
  if (!is_memory_code(map)) return;
  Process& p = processes_[map.pid];
  if (map.path != "[vdso]") p.due = p.has_code = true;
  if (p.changes.size() == kMostChanges) {
    // The oldest are understood long since, unless looks are that far behind; then nothing is sure any more.
    p.changes.erase(p.changes.begin(), p.changes.begin() + kMostChanges / 2);
    p.met_running = true;
    p.since = std::max(p.since, p.changes.front().time);
  }
  p.changes.push_back({map.start, map.start + map.length, time, by});
}

/// The child's memory is the parent's as it is; no record tells of its mappings.
void CodeWatch::on_fork(Pid parent, Pid child, RecordTime time) {
  const auto it = processes_.find(parent);
  if (parent == child || it == processes_.end() || !it->second.has_code) return;
  Process& p = processes_[child];
  p.since = time;
  p.has_code = true;
}

void CodeWatch::on_exec(Pid pid, RecordTime time) {
  on_exit(pid, time);
  processes_[pid].since = time;
}

void CodeWatch::on_exit(Pid pid, RecordTime time) {
  const auto it = processes_.find(pid);
  if (it == processes_.end()) return;
  settle(time);
  for (auto& [address, page] : it->second.pages)
    if (page.bytes) end_page(pid, address, page, time);
  processes_.erase(it);
}

/// The page's bytes are no code from `end` on; what it held since they were seen last is only known when it was not writable.
void CodeWatch::end_page(Pid pid, uint64_t address, Page& page, RecordTime end) {
  const auto kept = kept_.find(page.version);
  const RecordTime sure = page.writable || lost_ ? page.seen : end;
  if (kept != kept_.end()) kept->second.to = std::max(kept->second.to, sure);
  if (sure < end) add_unknown(pid, address, sure, end);
}

void CodeWatch::add_unknown(Pid pid, uint64_t address, RecordTime from, RecordTime to) {
  if (!unknown_.empty()) {
    UnknownCode& last = unknown_.back();
    if (last.pid == pid && last.from == from && last.to == to && last.address + last.length == address) {
      last.length += kPage;
      return;
    }
  }
  unknown_.push_back({pid, address, kPage, from, to});
  if (unknown_.size() <= kMostUnknown) return;
  notes_.insert(
      "code in memory changed too often: the oldest times in which it is not known were forgotten; there it is "
      "missing");
  unknown_.pop_front();
}

void CodeWatch::forget_oldest() {
  while (!kept_.empty() && (kept_bytes_ > kMostKept || kept_.size() > kMostVersions)) {
    notes_.insert("code in memory changed too often: its oldest versions were forgotten; there it is missing");
    kept_bytes_ -= kPage;
    kept_.erase(kept_.begin());
  }
}

void CodeWatch::keep(Page& page, const Look& look, const Seen& seen, RecordTime from, Tid by) {
  page.version = next_version_++;
  page.bytes = seen.bytes;
  page.writable = seen.writable;
  page.seen = look.before;
  kept_[page.version] = {look.pid, seen.address, seen.path, seen.bytes, from, std::max(from, look.before), by};
  kept_bytes_ += kPage;
  forget_oldest();
}

void CodeWatch::look(std::chrono::steady_clock::time_point wall, const Now& now) {
  const auto since = refilled_ ? wall - *refilled_ : std::chrono::steady_clock::duration(kEvery);
  refilled_ = wall;
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
  constexpr uint64_t kMost = kBytesPerSecond / 4;
  if (ns > 0)
    allowance_ = std::min(kMost, allowance_ + static_cast<uint64_t>(static_cast<double>(ns) * 1e-9 * kBytesPerSecond));
  // One after the other, from behind the one that was last: none waits for ever.
  for (size_t n = processes_.size(); n > 0 && allowance_ > kMapsBytes && looks_.size() < kMostLooks; --n) {
    auto it = processes_.upper_bound(last_looked_);
    if (it == processes_.end()) it = processes_.begin();
    last_looked_ = it->first;
    Process& p = it->second;
    if (!p.has_code || wall < p.next_look) continue;
    const bool was_due = std::exchange(p.due, false);
    const uint64_t cost = read_pages(it->first, p, allowance_, now);
    allowance_ -= std::min(allowance_, cost);
    p.next_look = wall + (was_due || p.next != 0 ? kSoonest : kEvery);
  }
}

void CodeWatch::look_at(Pid pid, const Now& now) {
  Process& p = processes_[pid];
  p.next = 0;
  read_pages(pid, p, UINT64_MAX, now);
}

/// Returns what it cost, in bytes. Goes on where the last one stopped for want of budget.
uint64_t CodeWatch::read_pages(Pid pid, Process& process, uint64_t budget, const Now& now) {
  Look look{pid, now(), {}, {}};
  const auto maps = read_maps(proc_, pid);
  if (!maps) return kMapsBytes;  // it ended, and its record will say so
  uint64_t cost = kMapsBytes + maps->size() * kLineBytes;
  const std::string folder = proc_ + "/" + std::to_string(pid.value());
  const Fd mem(::open((folder + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  const Fd pagemap(::open((folder + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  const uint64_t begin = process.next;
  uint64_t at = begin;  // all below has been looked at
  std::vector<uint8_t> bytes(kPage);
  std::array<uint64_t, 512> entries;  // of pagemap, from this page on; what cannot be read counts as present
  uint64_t entries_from = UINT64_MAX;
  const auto read_entries = [&](uint64_t page) {
    entries.fill(kPresentOrSwapped);
    entries_from = page;
    if (pagemap.valid())
      (void)!::pread(pagemap.get(), entries.data(), sizeof entries, static_cast<off_t>(page / kPage * 8));
  };
  std::set<uint64_t> found;
  bool stopped = false;
  for (const MapRecord& m : *maps) {
    if (stopped) break;
    if (!is_memory_code(m) || !(m.prot & PROT_READ) || m.start + m.length <= begin) continue;
    if (!mem.valid()) {
      notes_.insert("image missing: memory of process " + std::to_string(pid.value()) + ": " + m.path + " at 0x" +
                    hex(m.start) + " may not be read (CAP_SYS_PTRACE)");
      continue;
    }
    for (uint64_t page = std::max(m.start, begin); page < m.start + m.length; page += kPage) {
      if (cost >= budget) {
        stopped = true;
        break;
      }
      at = page + kPage;
      cost += sizeof(uint64_t);
      if (page < entries_from || page >= entries_from + entries.size() * kPage) read_entries(page);
      if (!(entries[(page - entries_from) / kPage] & kPresentOrSwapped)) continue;  // nobody ever touched it
      if (::pread(mem.get(), bytes.data(), kPage, static_cast<off_t>(page)) != static_cast<ssize_t>(kPage)) continue;
      cost += kPage;
      found.insert(page);
      Bytes& last = process.last[page];
      if (!last || *last != bytes) last = std::make_shared<const std::vector<uint8_t>>(bytes);
      look.pages.push_back({page, (m.prot & PROT_WRITE) || has_aliases(m), last, m.path});
    }
  }
  const uint64_t end = stopped ? at : UINT64_MAX;
  for (auto it = process.last.lower_bound(begin); it != process.last.end() && it->first < end;) {
    if (found.count(it->first)) {
      ++it;
      continue;
    }
    look.pages.push_back({it->first, false, nullptr, {}});
    it = process.last.erase(it);
  }
  process.next = stopped ? at : 0;
  look.after = now();
  if (!look.pages.empty()) looks_.push_back(std::move(look));
  bytes_read_ += cost;
  return cost;
}

void CodeWatch::settle(RecordTime complete) {
  while (!looks_.empty() && looks_.front().after <= complete) {
    const Look look = std::move(looks_.front());
    looks_.pop_front();
    understand(look);
  }
}

void CodeWatch::understand(const Look& look) {
  const auto it = processes_.find(look.pid);
  if (it == processes_.end() || look.before < it->second.since) return;  // it was another program's
  for (const Seen& seen : look.pages) understand_page(it->second, look, seen);
}

void CodeWatch::understand_page(Process& p, const Look& look, const Seen& seen) {
  const auto known = p.pages.find(seen.address);
  const RecordTime since = known == p.pages.end() ? p.since : known->second.seen;
  // Executable mappings that were made over the page since it was seen last: the first and the last of them.
  const Change* first = nullptr;
  const Change* last = nullptr;
  for (auto c = p.changes.rbegin(); c != p.changes.rend() && c->time > since; ++c) {
    if (seen.address < c->start || seen.address >= c->end) continue;
    if (c->time >= look.before && c->time <= look.after)
      return;  // while it was read: which of the two it was is not known
    if (c->time > look.after) continue;
    first = &*c;
    if (!last) last = &*c;
  }
  if (!seen.bytes) {
    if (known == p.pages.end() || !known->second.bytes) return;
    end_page(look.pid, seen.address, known->second, first ? std::min(first->time, look.before) : look.before);
    known->second = {nullptr, false, look.before, 0};
    return;
  }
  const bool sealed = !seen.writable && !lost_;  // since it was made executable last nobody can have written it
  if (known == p.pages.end() || !known->second.bytes) {
    Page& page = p.pages[seen.address];
    // Of what was there before any record of it, nobody wrote one: from the program's begin, or since we met it.
    const RecordTime begin = first ? first->time : since;
    RecordTime from = look.after;
    if (sealed && last)
      from = last->time;
    else if (sealed && known == p.pages.end())
      from = p.since;
    if (begin < from) add_unknown(look.pid, seen.address, begin, from);
    keep(page, look, seen, from, sealed && last ? last->by : kNoTid);
    return;
  }
  Page& page = known->second;
  if (page.bytes == seen.bytes || *page.bytes == *seen.bytes) {
    page.seen = look.before;
    page.writable = seen.writable;
    if (const auto kept = kept_.find(page.version); kept != kept_.end())
      kept->second.to = std::max(kept->second.to, look.before);
    return;
  }
  const bool was_sealed = !page.writable && !lost_;
  const RecordTime end = was_sealed && first ? first->time : page.seen;
  const RecordTime from = sealed && last ? last->time : look.after;
  if (const auto kept = kept_.find(page.version); kept != kept_.end())
    kept->second.to = std::max(kept->second.from, end);
  if (end < from) add_unknown(look.pid, seen.address, end, from);
  keep(page, look, seen, from, sealed && last ? last->by : kNoTid);
}

std::vector<MemoryCopy> CodeWatch::versions() const {
  std::vector<const Kept*> order;
  // What one look alone found was read while it may have been written.
  for (const auto& [number, kept] : kept_)
    if (kept.from < kept.to) order.push_back(&kept);
  const auto key = [](const Kept& k) { return std::tuple(k.pid, k.from, k.to, k.by, k.address); };
  std::sort(order.begin(), order.end(), [&](const Kept* a, const Kept* b) { return key(*a) < key(*b); });
  std::vector<MemoryCopy> out;
  constexpr uint64_t kMostTogether = uint64_t{16} << 20;
  for (const Kept* k : order) {
    if (!out.empty()) {
      MemoryCopy& v = out.back();
      PlacementInfo& p = v.placements.front();
      if (p.pid == k->pid && p.from == k->from && p.to == k->to && p.by == k->by && v.path == k->path &&
          p.address + p.length == k->address && p.length < kMostTogether) {
        v.bytes.insert(v.bytes.end(), k->bytes->begin(), k->bytes->end());
        p.length += kPage;
        continue;
      }
    }
    MemoryCopy& v = out.emplace_back();
    v.placements.push_back({k->pid, k->address, kPage, 0, 0, k->from, k->to, k->by});
    v.path = k->path;
    v.bytes = *k->bytes;
  }
  return out;
}

std::vector<UnknownCode> CodeWatch::unknown() const { return {unknown_.begin(), unknown_.end()}; }

}  // namespace hindcast::capture
