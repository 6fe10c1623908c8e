// Never silently wrong: a recording with known truth is damaged in many ways, and whatever is then said of a thread must
// still be true. One program and seed by default; HINDCAST_LONG=1 runs all.
//
// What is promised depends on what the damage leaves to be noticed:
//   whole    What hardware, kernel and files lose, they lose whole and leave a mark: an OVF, an overwritten ring, a cut
//            ring, a LOST record, a checksum. Every decoded instruction must be the truth's, at its time, and all that
//            is missing must lie in gaps of that time.
//   ends     Nobody can see that a stream should have gone on, if it ends at a moment when nothing was traced. What it
//            still shows, and all that other streams show, must be there and be the truth.
//   survives Nothing of the kind happens to real traces, and it cannot be noticed: a flipped TNT bit takes a path that is
//            as legal as the right one, zeroed bytes are PADs, a switch record that vanishes without a LOST record
//            leaves a plausible history. The decoder must end, without a crash and without making more of the bytes
//            than they can hold. (In a file the checksums find all of it: see the damages of files.)
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>

#include "decode/host_trace.h"
#include "decode/packet_reader.h"
#include "hindcast/bundle_format.h"
#include "hindcast/perf_record.h"
#include "server/query.h"
#include "tests/e2e/flow_parts.h"
#include "tests/e2e/recording.h"
#include "tests/support/bundle_edit.h"
#include "tests/support/flow_seek_check.h"
#include "tests/support/perf_bytes.h"

namespace hindcast::test {
namespace {

using Random = std::mt19937_64;
using Bytes = std::vector<uint8_t>;

size_t below(Random& random, size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); }

enum class Promise { whole, ends, survives };

/// What was done, for the reader of a failure; empty when there was nothing to damage.
struct Done {
  std::string what;
  std::vector<GapCause> causes = {};  // when something is hidden, one of these must be among the gaps
  bool opens = false;                 // a file from which so little is gone must still be read
  uint32_t ended_stream = 0;          // Promise::ends: it ends ...
  uint64_t ended_at = 0;              // ... at this byte
};

// ---- trace
StreamInfo& any_stream(MemorySnapshot& s, StreamKind kind, Random& random) {
  // In proportion to the bytes, so that a CPU that idled is seldom picked.
  std::vector<StreamInfo*> streams;
  size_t total = 0;
  for (StreamInfo& i : s.info.streams)
    if (i.kind == kind) streams.push_back(&i), total += s.source.streams[i.id].size();
  size_t at = below(random, total);
  for (StreamInfo* i : streams) {
    const size_t n = s.source.streams[i->id].size();
    if (at < n) return *i;
    at -= n;
  }
  return *streams.front();
}

std::vector<uint64_t> packet_starts(const Bytes& bytes, decode::Kind only, bool any) {
  std::vector<uint64_t> starts;
  decode::PacketReader reader(bytes);
  reader.resync();
  decode::Packet p;
  while (reader.next(p) == decode::Step::ok)
    if (any || p.kind == only) starts.push_back(p.offset);
  return starts;
}

void erase(Bytes& bytes, size_t from, size_t to) {
  bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(from), bytes.begin() + static_cast<ptrdiff_t>(to));
}

struct Range {
  size_t from, to;
  std::string text() const { return std::to_string(from) + ".." + std::to_string(to); }
};
/// Short ones are as likely as long ones.
Range any_range(const Bytes& bytes, Random& random) {
  const size_t longest = size_t{1} << below(random, 18);
  const size_t from = below(random, bytes.size());
  return {from, std::min(bytes.size(), from + 1 + below(random, longest))};
}

Done front_overwritten(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const size_t n = 1 + below(random, b.size());
  erase(b, 0, n);
  i.wrapped = true;
  return {"the first " + std::to_string(n) + " bytes of stream " + std::to_string(i.id), {GapCause::not_captured}};
}

Done front_overwritten_up_to_a_psb(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const auto psbs = packet_starts(b, decode::Kind::psb, false);
  const size_t n = psbs.empty() ? 0 : psbs[below(random, psbs.size())];
  if (n == 0) return {};
  erase(b, 0, n);
  i.wrapped = true;
  return {"the first " + std::to_string(n) + " bytes of stream " + std::to_string(i.id), {GapCause::not_captured}};
}

Done end_lost(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const size_t n = below(random, b.size());
  b.resize(n);
  return {"stream " + std::to_string(i.id) + " ends at byte " + std::to_string(n), {}, false, i.id, n};
}

Done freeze_between(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const Range r = any_range(b, random);
  erase(b, r.from, r.to);
  if (r.from > 0) i.cuts.push_back(r.from);
  i.wrapped |= r.from == 0;
  return {"bytes " + r.text() + " of stream " + std::to_string(i.id) + " at a cut", {GapCause::not_captured}};
}

/// The CPU drops packets up to a PSB and says so.
Done overflow(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const auto starts = packet_starts(b, {}, true);
  const auto psbs = packet_starts(b, decode::Kind::psb, false);
  if (psbs.size() < 2) return {};
  const uint64_t to = psbs[1 + below(random, psbs.size() - 1)];
  const auto last = std::upper_bound(starts.begin(), starts.end(), to) - starts.begin() - 1;
  const size_t back = std::min<size_t>(1 + below(random, size_t{1} << below(random, 12)), static_cast<size_t>(last));
  uint64_t from = starts[static_cast<size_t>(last) - back];
  // Not inside a PSB+: there an OVF stands for its end, and the FUP would have to follow.
  const auto psb = std::upper_bound(psbs.begin(), psbs.end(), from);
  if (psb != psbs.begin() && from - *std::prev(psb) < 64) from = *std::prev(psb);
  if (from == 0 || from == to) return {};
  erase(b, from, to);
  const uint8_t ovf[] = {0x02, 0xf3};
  b.insert(b.begin() + static_cast<ptrdiff_t>(from), std::begin(ovf), std::end(ovf));
  return {"packets " + Range{from, to}.text() + " of stream " + std::to_string(i.id) + " became an OVF",
          {GapCause::pt_overflow}};
}

Done flip(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const size_t flips = 1 + below(random, 20);
  for (size_t k = 0; k < flips && !b.empty(); ++k)
    b[below(random, b.size())] ^= static_cast<uint8_t>(1u << below(random, 8));
  return {std::to_string(flips) + " bits of stream " + std::to_string(i.id) + " flipped", {}};
}
Done zero(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::pt, random);
  Bytes& b = s.source.streams[i.id];
  const Range r = any_range(b, random);
  std::fill(b.begin() + static_cast<ptrdiff_t>(r.from), b.begin() + static_cast<ptrdiff_t>(r.to), uint8_t{0});
  return {"bytes " + r.text() + " zeroed", {}};
}
Done remove_silently(MemorySnapshot& s, Random& random) {
  Bytes& b = s.source.streams[any_stream(s, StreamKind::pt, random).id];
  const Range r = any_range(b, random);
  erase(b, r.from, r.to);
  return {"bytes " + r.text() + " removed", {}};
}
Done duplicate(MemorySnapshot& s, Random& random) {
  Bytes& b = s.source.streams[any_stream(s, StreamKind::pt, random).id];
  const Range r = any_range(b, random);
  const Bytes copy(b.begin() + static_cast<ptrdiff_t>(r.from), b.begin() + static_cast<ptrdiff_t>(r.to));
  b.insert(b.begin() + static_cast<ptrdiff_t>(r.to), copy.begin(), copy.end());
  return {"bytes " + r.text() + " doubled", {}};
}

// ---- sideband
struct SidebandRecords {
  std::vector<perf::Record> records;
  std::vector<size_t> sizes;
  explicit SidebandRecords(const Bytes& bytes) {
    perf::RecordReader reader(bytes);
    perf::Record r;
    while (reader.next(r)) {
      records.push_back(r);
      sizes.push_back(r.body.size() + 8);
    }
  }
};
using Wanted = std::function<bool(const perf::Record&)>;
bool is_switch(const perf::Record& r) { return r.type == perf::kSwitch || r.type == perf::kSwitchCpuWide; }

/// Drops some consecutive records that are wanted, and any between them; lost: leaves a LOST record, as the kernel does
/// in front of the next one that it can write.
Done drop_records(MemorySnapshot& s, Random& random, const Wanted& wanted, bool lost) {
  StreamInfo& i = any_stream(s, StreamKind::sideband, random);
  if (i.cpu == kNoCpu && lost) return {};  // /proc loses nothing
  Bytes& b = s.source.streams[i.id];
  const SidebandRecords all(b);
  std::vector<size_t> candidates;
  for (size_t k = 0; k < all.records.size(); ++k)
    if (wanted(all.records[k])) candidates.push_back(k);
  if (candidates.empty()) return {};
  const size_t first = below(random, candidates.size());
  const size_t count = 1 + below(random, size_t{1} << below(random, 8));
  const size_t from = candidates[first], to = candidates[std::min(first + count, candidates.size()) - 1] + 1;
  Bytes out(b.begin(), b.begin() + static_cast<ptrdiff_t>(all.records[from].offset));
  size_t dropped = 0;
  for (size_t k = from; k < to; ++k) dropped += lost || wanted(all.records[k]);
  if (lost) {
    const auto id = perf::read_sample_id(all.records[std::min(to, all.records.size() - 1)], i.sample_type);
    if (!id || !id->time || i.sample_type != perf::kOurSampleType) return {};
    const PerfBytes record =
        PerfBytes(i.cpu.value()).at(id->time->value(), id->pid.value(), id->tid.value()).lost(dropped);
    out.insert(out.end(), record.bytes().begin(), record.bytes().end());
  } else {
    for (size_t k = from; k < to; ++k)
      if (!wanted(all.records[k]))
        out.insert(out.end(), b.begin() + static_cast<ptrdiff_t>(all.records[k].offset),
                   b.begin() + static_cast<ptrdiff_t>(all.records[k].offset + all.sizes[k]));
  }
  if (to < all.records.size())
    out.insert(out.end(), b.begin() + static_cast<ptrdiff_t>(all.records[to].offset), b.end());
  b = std::move(out);
  return {"records " + std::to_string(from) + ".." + std::to_string(to) + " of " + std::to_string(all.records.size()) +
              " of stream " + std::to_string(i.id) + (lost ? ", marked" : ""),
          {}};
}
std::function<Done(MemorySnapshot&, Random&)> drop(Wanted wanted, bool lost) {
  return [wanted = std::move(wanted), lost](MemorySnapshot& s, Random& random) {
    return drop_records(s, random, wanted, lost);
  };
}
Wanted of_type(std::initializer_list<uint32_t> types) {
  return [types = std::vector<uint32_t>(types)](const perf::Record& r) {
    return std::find(types.begin(), types.end(), r.type) != types.end();
  };
}
bool anything(const perf::Record&) { return true; }

/// In the middle of a record, which shows; between two nobody can see it.
Done sideband_cut(MemorySnapshot& s, Random& random) {
  StreamInfo& i = any_stream(s, StreamKind::sideband, random);
  Bytes& b = s.source.streams[i.id];
  const SidebandRecords all(b);
  if (all.records.empty()) return {};
  const size_t k = below(random, all.records.size());
  b.resize(all.records[k].offset + 1 + below(random, all.sizes[k] - 1));
  return {"stream " + std::to_string(i.id) + " (sideband) ends inside record " + std::to_string(k), {}};
}

// ---- code
Done image_missing(MemorySnapshot& s, Random& random) {
  if (s.info.images.empty()) return {};
  const ImageInfo gone = s.info.images[below(random, s.info.images.size())];
  std::erase_if(s.info.images, [&](const ImageInfo& i) { return i.id == gone.id; });
  std::erase_if(s.info.placements, [&](const PlacementInfo& p) { return p.image == gone.id; });
  s.source.images.erase(gone.id);
  return {"image " + gone.path, {GapCause::image_missing}};
}
/// An image whose own build-id differs from the one that was mapped: an update of the package came first.
Done another_image(MemorySnapshot& s, Random& random) {
  std::vector<ImageInfo*> elves;
  for (ImageInfo& i : s.info.images)
    if (i.kind == ImageKind::elf && !i.build_id.empty()) elves.push_back(&i);
  if (elves.size() < 2) return {};
  const size_t a = below(random, elves.size()), b = (a + 1 + below(random, elves.size() - 1)) % elves.size();
  s.source.images[elves[a]->id] = s.source.images[elves[b]->id];
  const uint64_t size = s.source.images[elves[a]->id].size();
  std::erase_if(s.info.placements,
                [&](const PlacementInfo& p) { return p.image == elves[a]->id && p.image_offset + p.length > size; });
  return {elves[a]->path + " has the bytes of " + elves[b]->path, {GapCause::image_missing}};
}

// ---- the file
Done file_cut(Bytes& file, Random& random) {
  file.resize(below(random, file.size()));
  // What the recording will hold is said in its first few KiB.
  return {"the file ends at byte " + std::to_string(file.size()), {}, file.size() > (size_t{64} << 10)};
}
Done file_flipped(Bytes& file, Random& random) {
  const size_t at = below(random, file.size());
  file[at] ^= static_cast<uint8_t>(1u << below(random, 8));
  return {"a bit of byte " + std::to_string(at) + " of the file flipped", {}};
}
Done file_zeroed(Bytes& file, Random& random) {
  const Range r = any_range(file, random);
  std::fill(file.begin() + static_cast<ptrdiff_t>(r.from), file.begin() + static_cast<ptrdiff_t>(r.to), uint8_t{0});
  return {"bytes " + r.text() + " of the file zeroed", {}};
}
Done chunks_swapped(Bytes& file, Random& random) {
  std::vector<Range> chunks;
  for (size_t at = sizeof(bundle::FileHeader); at + sizeof(bundle::ChunkHeader) <= file.size();) {
    bundle::ChunkHeader h;
    std::memcpy(&h, file.data() + at, sizeof h);
    const size_t end = at + sizeof h + h.stored_bytes;
    if (end > file.size() || h.type == static_cast<uint8_t>(bundle::ChunkType::index)) break;
    chunks.push_back({at, end});
    at = end;
  }
  if (chunks.size() < 2) return {};
  const size_t a = below(random, chunks.size() - 1), b = a + 1 + below(random, chunks.size() - a - 1);
  const auto part = [&](size_t from, size_t to) {
    return Bytes(file.begin() + static_cast<ptrdiff_t>(from), file.begin() + static_cast<ptrdiff_t>(to));
  };
  Bytes out = part(0, chunks[a].from);
  for (const Bytes& p : {part(chunks[b].from, chunks[b].to), part(chunks[a].to, chunks[b].from),
                         part(chunks[a].from, chunks[a].to), part(chunks[b].to, file.size())})
    out.insert(out.end(), p.begin(), p.end());
  file = std::move(out);
  return {"chunks " + std::to_string(a) + " and " + std::to_string(b) + " swapped", {}};
}

// ---- the campaign
struct Damage {
  const char* name;
  Promise promise;
  std::function<Done(MemorySnapshot&, Random&)> contents;  // one of the two
  std::function<Done(Bytes&, Random&)> file;
};

const std::vector<Damage>& damages() {
  static const std::vector<Damage> all = {
      {"front_overwritten", Promise::whole, front_overwritten, {}},
      {"front_overwritten_up_to_a_psb", Promise::whole, front_overwritten_up_to_a_psb, {}},
      {"end_lost", Promise::ends, end_lost, {}},
      {"freeze_between", Promise::whole, freeze_between, {}},
      {"overflow", Promise::whole, overflow, {}},
      {"bits_flipped", Promise::survives, flip, {}},
      {"bytes_zeroed", Promise::survives, zero, {}},
      {"bytes_removed", Promise::survives, remove_silently, {}},
      {"bytes_doubled", Promise::survives, duplicate, {}},
      {"switches_lost", Promise::whole, drop(is_switch, true), {}},
      {"any_records_lost", Promise::whole, drop(anything, true), {}},
      {"mmaps_lost", Promise::whole, drop(of_type({perf::kMmap, perf::kMmap2}), true), {}},
      {"tasks_and_comms_lost", Promise::whole, drop(of_type({perf::kFork, perf::kComm, perf::kExit}), true), {}},
      {"switches_removed", Promise::survives, drop(is_switch, false), {}},
      {"mmaps_removed", Promise::whole, drop(of_type({perf::kMmap, perf::kMmap2}), false), {}},
      {"forks_removed", Promise::whole, drop(of_type({perf::kFork}), false), {}},
      {"comms_removed", Promise::whole, drop(of_type({perf::kComm}), false), {}},
      {"exits_removed", Promise::whole, drop(of_type({perf::kExit}), false), {}},
      {"sideband_cut", Promise::whole, sideband_cut, {}},
      {"image_missing", Promise::whole, image_missing, {}},
      {"another_image", Promise::whole, another_image, {}},
      {"file_cut", Promise::whole, {}, file_cut},
      {"file_flipped", Promise::whole, {}, file_flipped},
      {"file_zeroed", Promise::whole, {}, file_zeroed},
      {"chunks_swapped", Promise::whole, {}, chunks_swapped},
  };
  return all;
}

struct Subject {
  std::string name;
  std::vector<std::string> command;
};
std::vector<Subject> subjects() {
  return {{"signals", {test_program("signals"), "1"}},
          {"forkexec", {test_program("forkexec"), "1"}},
          {"threads", {test_program("threads"), "2", "1"}},
          {"threads_on_one_cpu", {test_program("threads"), "3", "1", "one_cpu"}}};
}

struct Base {
  Recording recording;
  std::unique_ptr<MemorySnapshot> snapshot;
  Bytes file;  // as it was recorded

  /// The bundle that damages are done to.
  std::string again() const { return recording.folder.path() + "/again.hcb"; }

  bool record(const Subject& subject) {
    recording.run("tsc,mtc,mtc_period=3,psb_period=0", {"--ring", "64M"}, subject.command);
    if (recording.record.code != 0) {
      ADD_FAILURE() << recording.record.err;
      return false;
    }
    snapshot = read_bundle(recording.bundle);
    write_bundle(*snapshot, again());
    std::ifstream in(recording.bundle, std::ios::binary);
    file.assign(std::istreambuf_iterator<char>(in), {});
    return true;
  }
};

struct Verdict {
  bool opened = false;
  std::string error;
  server::VerifyReport report;
};

Verdict verify(const Base& base, const std::string& path) {
  Verdict v;
  auto query = server::open_query(path);
  if (!query.ok()) {
    v.error = query.error().text();
    return v;
  }
  server::VerifyQuestion question;
  question.truth = base.recording.truth;
  auto report = (*query)->verify(question, {});
  if (!report.ok()) {
    v.error = report.error().text();
    return v;
  }
  v.opened = true;
  v.report = std::move(report).value();
  return v;
}

/// A thread that decoded to nothing and ran nothing claims nothing: a foreign one that may have been there.
bool claims(const server::VerifyReport::Thread& t) { return t.decoded > 0 || t.truth > 0; }

/// Nothing at all is known of it: no record names it, and the bundle says which are lost.
bool unheard_of(const server::VerifyReport::Thread& t) { return t.decoded == 0 && t.gaps == 0; }

/// whole, damaged: the bundles without and with the damage.
std::string judge(const Verdict& v, Promise promise, const Done& done, bool of_file, const std::string& whole,
                  const std::string& damaged) {
  if (!v.opened) return of_file && !done.opens ? "" : "cannot be opened: " + v.error;
  uint64_t hidden = 0;
  bool cause_seen = false;
  for (const auto& s : v.report.streams)
    if (s.counts.blocks > 100 * s.bytes + 100000) return "more blocks than the trace can hold";
  if (promise == Promise::survives) return {};
  for (const auto& t : v.report.threads) {
    if (!claims(t)) continue;
    hidden += t.not_decoded;
    for (const auto& c : t.counts.gaps)
      cause_seen |= std::find(done.causes.begin(), done.causes.end(), c.cause) != done.causes.end();
    if (t.equal) continue;
    if (promise == Promise::ends) {
      const std::string difference =
          differs_before_the_end(blocks_of(whole, t.tid), blocks_of(damaged, t.tid), done.ended_stream, done.ended_at);
      if (difference.empty()) continue;
      return "thread " + std::to_string(t.tid.value()) + " (" + t.comm + "): " + difference + "; " + t.difference;
    }
    if (of_file && unheard_of(t) && !v.report.damage.empty()) continue;
    return "thread " + std::to_string(t.tid.value()) + " (" + t.comm + "): " + t.difference;
  }
  if (hidden > 0 && !done.causes.empty() && !cause_seen)
    return std::to_string(hidden) + " instructions are hidden, but no gap has the cause " +
           std::string(to_string(done.causes.front()));
  if (of_file && hidden > 0 && v.report.damage.empty()) return "the damage was not noticed";
  return {};
}

/// Whatever is said of a stream or a thread, it is the same from wherever one reads.
std::string differs_when_sought(MemorySnapshot& damaged, Random& random) {
  const auto host = decode::HostTrace::build(damaged.info, damaged.source);
  if (!host.ok()) return {};
  for (const bool numbered : {false, true}) {
    if (numbered)
      if (const auto r = (*host)->number_instructions(1 + below(random, 3), {}); !r.ok()) return r.error().text();
    const auto streams = (*host)->cpus();
    const auto threads = (*host)->threads();
    const size_t which = below(random, streams.size() + threads.size());
    const auto open = [&] {
      return which < streams.size() ? (*host)->stream_flow(streams[which].stream).value()
                                    : (*host)->thread_flow(threads[which - streams.size()].tid).value();
    };
    size_t events = 0;
    const std::string difference = seeking_differs(open, random(), 5, size_t{1} << 19, events);
    if (!difference.empty())
      return (which < streams.size() ? "stream " + std::to_string(streams[which].stream)
                                     : "thread " + std::to_string(threads[which - streams.size()].tid.value())) +
             " read " + difference;
  }
  return {};
}

std::string one_case(const Base& base, const Damage& damage, Random& random, Done& done, uint64_t& hiding) {
  const std::string path = base.recording.folder.path() + "/damaged.hcb";
  if (damage.contents) {
    MemorySnapshot damaged = *base.snapshot;
    done = damage.contents(damaged, random);
    if (!done.what.empty()) write_bundle(damaged, path);
    if (const std::string d = differs_when_sought(damaged, random); !d.empty()) return d;
  } else {
    Bytes file = base.file;
    done = damage.file(file, random);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  }
  if (done.what.empty()) return {};
  const Verdict v = verify(base, path);
  for (const auto& t : v.report.threads) hiding += t.not_decoded > 0;
  return judge(v, damage.promise, done, damage.file != nullptr, base.again(), path);
}

class NeverSilentlyWrong : public ::testing::TestWithParam<size_t> {};

/// HINDCAST_SEEDS=N and HINDCAST_FIRST_SEED=N set the seeds; HINDCAST_DAMAGE=NAME picks one damage; HINDCAST_KEEP=FOLDER
/// keeps the files of failures, with the truth and the undamaged bundle.
TEST_P(NeverSilentlyWrong, OutsideGapsTheFlowIsTheTruth) {
  HC_REQUIRE_PLUGIN();
  const Subject subject = subjects()[GetParam()];
  if (!long_run() && subject.name != "forkexec") GTEST_SKIP() << "HINDCAST_LONG=1 runs it";
  Base base;
  ASSERT_TRUE(base.record(subject));
  // The comparison means something only when it is exact without damage.
  const Verdict undamaged = verify(base, base.again());
  ASSERT_TRUE(undamaged.opened) << undamaged.error;
  for (const auto& t : undamaged.report.threads) {
    ASSERT_TRUE(!claims(t) || t.equal) << t.difference;
    ASSERT_TRUE(!claims(t) || t.gaps == 0) << t.gaps << " gaps";
  }
  const uint64_t first = number_from("HINDCAST_FIRST_SEED", 1);
  const uint64_t seeds = number_from("HINDCAST_SEEDS", long_run() ? 20 : 1);
  const char* only = std::getenv("HINDCAST_DAMAGE");
  for (size_t d = 0; d < damages().size(); ++d) {
    const Damage& damage = damages()[d];
    if (only && std::string_view(only) != damage.name) continue;
    uint64_t cases = 0, failures = 0, hiding = 0;
    for (uint64_t seed = first; seed < first + seeds; ++seed) {
      Random random(seed * 1000 + d);
      Done done;
      const std::string wrong = one_case(base, damage, random, done, hiding);
      cases += !done.what.empty();
      if (wrong.empty()) continue;
      if (++failures <= 3) ADD_FAILURE() << damage.name << ", seed " << seed << ": " << done.what << "\n" << wrong;
      if (const char* keep = std::getenv("HINDCAST_KEEP")) {
        const std::string folder = std::string(keep) + "/" + subject.name;
        std::filesystem::create_directories(folder);
        const auto overwrite = std::filesystem::copy_options::overwrite_existing;
        std::filesystem::copy_file(base.again(), folder + "/undamaged.hcb", overwrite);
        std::filesystem::copy(base.recording.truth, folder + "/truth", overwrite);
        std::filesystem::copy_file(base.recording.folder.path() + "/damaged.hcb",
                                   folder + "/" + damage.name + "-" + std::to_string(seed) + ".hcb", overwrite);
      }
    }
    std::printf("%-30s %4llu cases  %4llu flows with something hidden  %4llu wrong\n", damage.name,
                static_cast<unsigned long long>(cases), static_cast<unsigned long long>(hiding),
                static_cast<unsigned long long>(failures));
    std::fflush(stdout);
  }
}

INSTANTIATE_TEST_SUITE_P(Programs, NeverSilentlyWrong, ::testing::Range<size_t>(0, 4),
                         [](const auto& info) { return subjects()[info.param].name; });

}  // namespace
}  // namespace hindcast::test
