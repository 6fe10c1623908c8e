// All plain stretches of a stream, walked for their superblocks alone: no times, no events.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "decode/fast/block_graphs.h"
#include "decode/fast/stretch_walk.h"

namespace hindcast::decode {

/// image_of(s): the code of stretch s, or nullptr. The sink is told of all that ran, in order:
///   room()              where ids may be written; not empty
///   wrote(graph, n)     so many were
///   last(graph, count)  a block before a PSB, a FUP or a stretch's end, or a part of one, with so many instructions
///   skipped()           a stretch that is not plain, or whose code nobody knows
///   stuck()             the rest of a stretch was given up: trace and code do not fit
template <class ImageOf, class Sink>
void walk_stream(const PtTrace& trace, bool ret_compression, BlockGraphs& graphs, const ImageOf& image_of, Sink& sink) {
  StretchWalk walk(trace, ret_compression, graphs.memo());
  std::shared_ptr<BlockGraph> graph;
  std::vector<uint32_t> tail;
  uint64_t sync = ~uint64_t{0};
  bool hands_over = false;
  for (size_t s = 0; s < trace.map.stretches.size(); ++s) {
    const Stretch& st = trace.map.stretches[s];
    const bool goes_on = st.start == StretchStart::handover;
    if (goes_on ? !hands_over : st.sync != sync || st.start != StretchStart::enabled) walk.stack().clear();
    sync = st.sync;
    const std::shared_ptr<const CodeImage> code = image_of(s);
    if (!code || !st.plain || st.bits == 0 || (goes_on ? !hands_over : st.begin_ip == 0)) {
      hands_over = false;
      sink.skipped();
      walk.stack().clear();
      sync = ~uint64_t{0};
      continue;
    }
    const auto left = graph;  // where the walk stands that goes on
    const int bits = goes_on ? graph->bits() : st.bits;
    if (!graph || graph->code() != code || graph->bits() != bits || graph->full()) {
      if (graph && !goes_on) walk.stack().leave(*graph);
      graph = graphs.of(code, bits);
    }
    const auto change_graph = [&](int bits) {
      const auto left = std::exchange(graph, graphs.of(code, bits));
      walk.move_to(*graph);
    };
    bool going = true;
    if (goes_on)
      walk.hand_over(st, *graph);
    else
      going = walk.begin(st, *graph);
    hands_over = going;
    if (!going) sink.stuck();
    while (going) {
      if (graph->full()) change_graph(graph->bits());
      size_t n = 0;
      const auto found = walk.next(sink.room(), n);
      sink.wrote(*graph, n);
      if (found == StretchWalk::Found::blocks) continue;
      std::optional<BlockPart> part;
      tail.clear();
      PacketEvent event;
      const bool fits = found == StretchWalk::Found::psb     ? walk.cross_psb(tail, part)
                        : found == StretchWalk::Found::event ? walk.cross_event(event, tail, part)
                        : found == StretchWalk::Found::end   ? st.how == StretchEnd::handover || walk.finish(tail, part)
                                                             : false;
      for (const uint32_t index : tail) sink.last(*graph, graph->block(index).count);
      if (part) sink.last(*graph, part->count);
      if (event.bits != 0 && event.bits != graph->bits()) change_graph(event.bits);
      if (walk.last_psb() != 0) sync = walk.last_psb();
      going = fits && found != StretchWalk::Found::end;
      if (fits) continue;
      hands_over = false;
      sink.stuck();
      walk.stack().clear();
      sync = ~uint64_t{0};
    }
  }
}

}  // namespace hindcast::decode
