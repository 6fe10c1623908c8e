#include "server/query.h"

#include <algorithm>
#include <thread>

#include "server/bench.h"
#include "server/call_reader.h"
#include "server/flow_reader.h"
#include "server/open_snapshot.h"
#include "server/text_reader.h"
#include "server/verify.h"
#include "server/wait_reader.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {

void FlowCounts::add(const Event& e) {
  ++events;
  if (e.kind == EventKind::block) {
    ++blocks;
    instructions += e.count;
  } else if (e.kind == EventKind::gap) {
    auto it = std::find_if(gaps.begin(), gaps.end(), [&](const ByCause& c) { return c.cause >= e.cause; });
    if (it == gaps.end() || it->cause != e.cause) it = gaps.insert(it, ByCause{e.cause, 0, 0});
    ++it->gaps;
    it->bytes += e.count;
  }
}

bool VerifyReport::whole() const {
  return damage.empty() &&
         std::all_of(streams.begin(), streams.end(),
                     [](const Stream& s) { return s.error.empty() && s.engines_differ.empty(); }) &&
         std::all_of(threads.begin(), threads.end(), [](const Thread& t) { return t.equal && t.misplaced == 0; });
}

namespace {

/// Each keeps what it learned about code.
constexpr unsigned kMostThreads = 4;

class BundleQuery : public Query {
 public:
  BundleQuery(const std::string& path, transport::BundleReader reader, const QueryOptions& options)
      : reader_(std::move(reader)), options_(options), snapshots_(reader_.snapshot_count()) {
    store_.path = path;
    store_.snapshots = reader_.snapshot_count();
    store_.stored_bytes = reader_.stored_bytes();
    store_.raw_bytes = reader_.raw_bytes();
    store_.damage = damage_rows(reader_.damage());
    if (!options_.scan_folder.empty()) scans_.emplace(options_.scan_folder, options_.most_scan_bytes);
  }

  const StoreInfo& store() const override { return store_; }

  std::vector<DamageRow> damage_met() const override {
    std::vector<DamageRow> rows;
    for (const auto& s : snapshots_)
      if (s)
        for (DamageRow& row : damage_rows(s->source.damage())) rows.push_back(std::move(row));
    return rows;
  }

  Result<const Overview*> overview(size_t snapshot) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    return &s->overview;
  }
  Result<std::vector<SliceRow>> slices(size_t snapshot, Tid tid) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    const decode::ThreadInfo* thread = s->trace->find_thread(tid);
    if (!thread)
      return Error{Errc::not_found,
                   "no thread " + std::to_string(tid.value()) + " in this snapshot",
                   {},
                   "list them:  hindcast ls FILE"};
    return s->slices(*thread);
  }
  Result<std::unique_ptr<FlowReader>> flow(const FlowQuestion& question) override {
    HC_TRY(OpenSnapshot * s, open(question.snapshot));
    return read_flow(*s, question);
  }
  Result<void> number_instructions(size_t snapshot, const Progress& progress) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    return s->trace->number_instructions(std::clamp(std::thread::hardware_concurrency(), 1u, kMostThreads), progress);
  }
  Result<std::unique_ptr<Reader<CallItem>>> calls(const CallQuestion& question) override {
    HC_TRY(OpenSnapshot * s, open(question.snapshot));
    return read_calls(*s, question);
  }
  Result<std::unique_ptr<Reader<TextItem>>> packets(const TextQuestion& question) override {
    HC_TRY(OpenSnapshot * s, open(question.snapshot));
    return read_packets(*s, question);
  }
  Result<std::unique_ptr<Reader<TextItem>>> records(const TextQuestion& question) override {
    HC_TRY(OpenSnapshot * s, open(question.snapshot));
    return read_records(*s, question);
  }
  Result<std::unique_ptr<Reader<WaitItem>>> waits(const WaitQuestion& question) override {
    HC_TRY(OpenSnapshot * s, open(question.snapshot));
    return read_waits(*s, question);
  }
  Result<SharedBytes> stream_bytes(size_t snapshot, uint32_t id) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    return s->source.stream(id);
  }
  Result<SharedBytes> image_bytes(size_t snapshot, uint32_t id) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    return s->source.image(id);
  }
  Result<VerifyReport> verify(const VerifyQuestion& question, const Progress& progress) override {
    return verify_bundle(
        reader_, [this](size_t i) { return open(i); }, question, progress);
  }
  Result<BenchReport> bench(size_t snapshot, std::chrono::duration<double> budget, const Progress& progress) override {
    HC_TRY(OpenSnapshot * s, open(snapshot));
    return bench_snapshot(*s, budget, progress);
  }

 private:
  Result<OpenSnapshot*> open(size_t index) {
    if (index >= snapshots_.size())
      return Error{Errc::not_found,
                   "no snapshot " + std::to_string(index) + " in " + store_.path,
                   std::to_string(snapshots_.size()) + " snapshots, numbered from 0",
                   {}};
    if (!snapshots_[index]) {
      HC_TRY(snapshots_[index], open_snapshot(reader_, index, options_.debug_dirs, scans_ ? &*scans_ : nullptr));
    }
    return snapshots_[index].get();
  }

  transport::BundleReader reader_;
  const QueryOptions options_;
  std::optional<ScanStore> scans_;
  StoreInfo store_;
  std::vector<std::unique_ptr<OpenSnapshot>> snapshots_;  // opened when first asked for
};

}  // namespace

Result<std::unique_ptr<Query>> open_query(const std::string& path, const QueryOptions& options) {
  HC_TRY(auto reader, transport::BundleReader::open(path));
  return std::unique_ptr<Query>(new BundleQuery(path, std::move(reader), options));
}

}  // namespace hindcast::server
