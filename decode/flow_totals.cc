#include <array>

#include "decode/fast/fast_engine.h"
#include "decode/fast/walk_stream.h"
#include "decode/host_trace_impl.h"

namespace hindcast::decode {
namespace {

struct Totals {
  FlowTotals t;
  std::array<BlockId, 1024> ids;

  std::span<BlockId> room() { return ids; }
  void wrote(const BlockGraph& graph, size_t n) {
    for (const BlockId id : std::span(ids).first(n)) t.instructions += graph.block(index_of(id)).through;
    t.branches += n;
  }
  void last(const BlockGraph&, uint32_t instructions) { t.instructions += instructions; }
  void skipped() { ++t.skipped; }
  void stuck() { ++t.given_up; }
};

Error no_stream(uint32_t id) {
  return {
      Errc::not_found, "no PT stream " + std::to_string(id) + " in this snapshot", {}, "list them:  hindcast ls FILE"};
}

bool uses_trace(BlockEnd end) {
  return end != BlockEnd::none && end != BlockEnd::direct_jump && end != BlockEnd::direct_call;
}

}  // namespace

Result<FlowTotals> HostTrace::count_timed(uint32_t stream) const {
  const PtStream* s = impl_->find_stream(stream);
  if (!s) return no_stream(stream);
  StreamImages images(*impl_, *s);
  HC_TRY(const auto decoder, make_fast_decoder(s->trace, impl_->decode_config(Resync::earliest), images, impl_->code,
                                               impl_->graphs, impl_->engine_counts));
  FlowTotals t;
  t.stretches = s->trace.map.stretches.size();
  TscInterval time;
  const auto add_time = [&](const TscInterval& next) {
    t.intervals += t.intervals == 0 || next != time;
    time = next;
  };
  for (Ran ran; decoder->next(ran);) {
    for (const BlockId id : ran.ids) t.instructions += ran.graph->block(index_of(id)).through;
    t.branches += ran.ids.size();
    for (const TimeFrom& from : ran.times) add_time(from.time);
    for (const Event& e : ran.events) {
      if (e.kind != EventKind::block) continue;
      t.instructions += e.count;
      t.branches += uses_trace(e.end);
      add_time(e.time);
    }
  }
  return t;
}

Result<FlowTotals> HostTrace::count(uint32_t stream) const {
  const PtStream* s = impl_->find_stream(stream);
  if (!s) return no_stream(stream);
  Totals totals;
  walk_stream(
      s->trace, !impl_->info.pt.noretcomp, impl_->graphs, [&](size_t stretch) { return impl_->image_of(*s, stretch); },
      totals);
  totals.t.stretches = s->trace.map.stretches.size();
  return totals.t;
}

}  // namespace hindcast::decode
