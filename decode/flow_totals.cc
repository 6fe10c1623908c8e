#include <array>

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

}  // namespace

Result<FlowTotals> HostTrace::count(uint32_t stream) const {
  const PtStream* s = impl_->find_stream(stream);
  if (!s)
    return Error{Errc::not_found,
                 "no PT stream " + std::to_string(stream) + " in this snapshot",
                 {},
                 "list them:  hindcast ls FILE"};
  Totals totals;
  walk_stream(
      s->trace, !impl_->info.pt.noretcomp, impl_->graphs, [&](size_t stretch) { return impl_->image_of(*s, stretch); },
      totals);
  totals.t.stretches = s->trace.map.stretches.size();
  return totals.t;
}

}  // namespace hindcast::decode
