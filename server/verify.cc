#include "server/verify.h"

#include <algorithm>
#include <array>
#include <sstream>

#include "decode/engine_compare.h"
#include "decode/x86_insn.h"
#include "server/flow_reader.h"
#include "server/truth_compare.h"
#include "server/truth_files.h"

namespace hindcast::server {

std::vector<DamageRow> damage_rows(const std::vector<transport::BundleReader::Damage>& damage) {
  std::vector<DamageRow> rows;
  for (const auto& d : damage) rows.push_back({d.what, d.stream, d.offset, d.bytes});
  return rows;
}

namespace {

std::string event_words(const std::optional<Event>& e) {
  if (!e) return "nothing more of this stretch";
  std::ostringstream s;
  s << to_string(e->kind) << std::hex << " ip " << e->ip;
  if (e->kind == EventKind::block)
    s << ".." << e->last_ip << " " << std::dec << e->count << " instructions, " << to_string(e->end);
  if (e->to != 0) s << std::hex << " to " << e->to;
  return s.str();
}

}  // namespace

std::string difference_words(const decode::EngineComparison& c) {
  if (!c.first) return {};
  const decode::EngineDifference& d = *c.first;
  std::string s = "the engines differ in " + std::to_string(c.different) + " of " + std::to_string(c.stretches) +
                  " stretches, first in stretch " + std::to_string(d.stretch) + " at offset " +
                  std::to_string(d.offset) + ": fast says " + event_words(d.fast) + "; libipt says " +
                  event_words(d.libipt);
  if (d.before) s += "; both said before " + event_words(d.before);
  return s;
}

namespace {

/// Decodes one stream from start to end, with both engines.
void count_stream(OpenSnapshot& snapshot, const StreamInfo& info, Resync resync, uint64_t done_before, uint64_t total,
                  const Progress& progress, VerifyReport::Stream& out) {
  const auto progress_at = [&](uint64_t offset) {
    if (progress) progress(done_before + std::min(info.bytes, offset), total);
  };
  const uint64_t left_before = snapshot.trace->engine_counts().libipt;
  const auto compared = decode::compare_engines(
      *snapshot.trace, info.id, resync, [&](const Event& e) { out.counts.add(e); },
      [&](uint64_t offset) { progress_at(offset); });
  if (!compared.ok()) {
    out.error = compared.error().what;
    return;
  }
  out.stretches = compared->stretches;
  out.left_to_libipt = snapshot.trace->engine_counts().libipt - left_before;
  out.engines_differ = difference_words(*compared);
}

/// A thread's flow as the pieces that are compared. No cursor: nothing of it.
class ThreadPieces : public DecodedSequence {
 public:
  ThreadPieces(const OpenSnapshot& snapshot, std::unique_ptr<decode::FlowCursor> cursor,
               std::function<void(const Event&)> seen)
      : snapshot_(snapshot), cursor_(std::move(cursor)), seen_(std::move(seen)) {}

  bool next(DecodedPiece& out) override {
    while (true) {
      if (at_ == held_) {
        held_ = cursor_ ? cursor_->next(buffer_) : 0;
        at_ = 0;
        if (held_ == 0) return false;
        seen_(buffer_[held_ - 1].event);
      }
      const decode::FlowEvent& e = buffer_[at_++];
      counts_.add(e.event);
      if (e.event.kind != EventKind::block && e.event.kind != EventKind::gap) continue;
      out.gap = e.event.kind == EventKind::gap;
      out.event = e.event;
      out.ips = {};
      if (out.gap) return true;
      // A block whose code cannot be listed gives fewer addresses than ran: the comparison then finds the difference.
      const auto image = snapshot_.trace->image_of(e);
      if (image) out.ips = expander_.instructions(image, e.event);
      return true;
    }
  }
  /// Of what was handed out so far.
  const FlowCounts& counts() const { return counts_; }

 private:
  const OpenSnapshot& snapshot_;
  std::unique_ptr<decode::FlowCursor> cursor_;
  std::function<void(const Event&)> seen_;
  FlowCounts counts_;
  decode::BlockExpander expander_;
  std::array<decode::FlowEvent, 1024> buffer_;
  size_t at_ = 0, held_ = 0;
};

VerifyReport::Thread compare_thread(const OpenSnapshot& snapshot, const TruthFolder& truth, Tid tid, Resync resync,
                                    const Progress& progress) {
  VerifyReport::Thread row;
  row.snapshot = snapshot.overview.snapshot;
  row.tid = tid;
  const decode::ThreadInfo* info = snapshot.trace->find_thread(tid);
  if (info) row.comm = info->comm;
  const auto sequence = truth.sequence(tid);
  if (!sequence) {
    row.difference = "the bundle has trace of this thread, but no truth file is about it";
    return row;
  }
  row.difference = truth.incomplete(tid);
  if (!row.difference.empty()) return row;
  FlowQuestion question;
  question.tid = tid;
  question.resync = resync;
  // A snapshot of a window that goes on: its programs ran on, and threads began.
  const SnapshotInfo& recorded = snapshot.overview.info;
  const Tsc frozen = recorded.incident.empty() ? Tsc::max() : recorded.traced.latest;
  auto cursor = open_cursor(snapshot, question);
  const bool began_later = !cursor.ok() && cursor.error().code == Errc::not_found && frozen != Tsc::max();
  if (!cursor.ok() && !began_later) {
    row.difference = cursor.error().what;
    return row;
  }
  const TscInterval window = snapshot.overview.window;
  ThreadPieces pieces(snapshot, began_later ? nullptr : std::move(cursor).value(), [&](const Event& e) {
    if (progress && !window.is_unknown() && e.time.latest >= window.earliest && e.time.latest <= window.latest)
      progress(e.time.latest.value() - window.earliest.value(), window.latest.value() - window.earliest.value());
  });
  CompareResult result = compare_with_truth(pieces, *sequence, frozen);
  row.counts = pieces.counts();
  row.decoded = result.decoded;
  row.truth = result.truth;
  row.gaps = result.gaps;
  row.not_decoded = result.not_decoded;
  row.timed = result.timed;
  row.misplaced = result.misplaced;
  row.worst_ticks = result.worst_ticks;
  row.worst_at = result.worst_at;
  row.equal = result.equal;
  row.difference = std::move(result.difference);
  return row;
}

/// Every thread that the truth or the trace knows.
Result<void> compare_threads(const transport::BundleReader& reader,
                             const std::function<Result<OpenSnapshot*>(size_t)>& open, const VerifyQuestion& question,
                             const Progress& progress, VerifyReport& report) {
  if (reader.snapshot_count() != 1)
    return Error{Errc::usage, "truth belongs to one recording",
                 "this bundle holds " + std::to_string(reader.snapshot_count()) + " snapshots",
                 "verify its recordings one by one"};
  HC_TRY(const TruthFolder truth, TruthFolder::open(question.truth));
  HC_TRY(OpenSnapshot * snapshot, open(0));
  std::vector<Tid> tids = truth.threads();
  for (const decode::ThreadInfo& t : snapshot->trace->threads())
    if (t.tid != kNoTid && t.stretches > 0) tids.push_back(t.tid);
  std::sort(tids.begin(), tids.end());
  tids.erase(std::unique(tids.begin(), tids.end()), tids.end());
  for (const Tid tid : tids) report.threads.push_back(compare_thread(*snapshot, truth, tid, question.resync, progress));
  return {};
}

}  // namespace

Result<VerifyReport> verify_bundle(const transport::BundleReader& reader,
                                   const std::function<Result<OpenSnapshot*>(size_t)>& open,
                                   const VerifyQuestion& question, const Progress& progress) {
  VerifyReport report;
  report.damage = damage_rows(reader.scrub());

  uint64_t total = 0, done = 0;
  for (size_t i = 0; i < reader.snapshot_count(); ++i)
    for (const StreamInfo& s : reader.snapshot(i).streams)
      if (s.kind == StreamKind::pt) total += s.bytes;

  for (size_t i = 0; i < reader.snapshot_count(); ++i) {
    auto snapshot = open(i);
    for (const StreamInfo& s : reader.snapshot(i).streams) {
      if (s.kind != StreamKind::pt) continue;
      VerifyReport::Stream row;
      row.snapshot = i;
      row.stream = s.id;
      row.cpu = s.cpu;
      row.tid = s.tid;
      row.bytes = s.bytes;
      if (snapshot.ok())
        count_stream(**snapshot, s, question.resync, done, total, progress, row);
      else
        row.error = snapshot.error().what;
      done += s.bytes;
      report.streams.push_back(std::move(row));
    }
  }
  if (!question.truth.empty()) HC_TRY_VOID(compare_threads(reader, open, question, progress, report));
  return report;
}

}  // namespace hindcast::server
