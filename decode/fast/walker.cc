#include "decode/fast/walker.h"

#include <algorithm>
#include <cstring>

namespace hindcast::decode {
namespace {

/// Bits taken between two looks at what may run out; all in one window.
constexpr size_t kSteps = 56;

/// Not a superblock: it has to be looked up.
bool is_open(BlockId id) {
  return kind_of(id) == SuperKind::none || kind_of(id) == SuperKind::pending || kind_of(id) == SuperKind::foreign;
}

/// For what the trace decides: a branch on it would be predicted wrongly.
BlockId choose(bool which, BlockId yes, BlockId no) {
  return __builtin_expect_with_probability(which, 1, 0.5) ? yes : no;
}

struct Walker {
  BlockGraph& graph;
  RunMemo& memo;
  const Lanes& lanes;
  std::span<const BlockId> targets;
  Walk& walk;
  ReturnStack& stack;
  BlockId* const begin;
  BlockId* out;  // where the next one is written
  BlockId* const end;

  template <bool ret_compression>
  WalkStop go() {
    WalkStop why = WalkStop::out_full;
    for (;;) {
      if (!memo.resting()) take_runs<ret_compression>();
      if (!step<ret_compression>() && !pass(why)) return why;
    }
  }

  /// Walks run by run, as long as there are TIPs ahead and room.
  template <bool ret_compression>
  void take_runs() {
    const auto tips = static_cast<uint32_t>(lanes.tips);
    BlockId* calls = stack.entries();
    uint32_t top = stack.top();
    BlockId at = walk.at;
    uint32_t bit = walk.bit;
    auto tip = static_cast<uint32_t>(walk.tip);
    BlockId* o = out;
    BlockId* const stop = end - Run::kMostIds;
    uint64_t runs = 0;
    bool took_tip = walk.took_tip, deferred = walk.deferred;
    while (tip < tips && stop - o >= 0) {
      if (!stack.has_room(top, Run::kMostPushes)) top = stack.make_room(top);
      const uint32_t left = std::max(lanes.tip_bits[tip], bit) - bit;
      const unsigned before = std::min<uint32_t>(left, Run::kMostBits);
      const auto bits = static_cast<uint8_t>(lanes.window(bit) >> 56 & (0xff00u >> before));
      const uint64_t key = memo.key(ret_compression, at, bits, before);
      Run& run = memo.slot(key);
      if (run.key != key) [[unlikely]] {
        if (is_open(at)) break;
        memo.missed();
        RunMemo::build(graph, ret_compression, at, bits, before, run);
        run.key = key;
      }
      if (run.count == 0) [[unlikely]]
        break;
      ++runs;
      std::memcpy(o, run.ids.data(), sizeof run.ids);
      o += run.count;
      bit += run.bits;
      std::memcpy(&calls[top + 1], run.push.data(), sizeof run.push);
      top += run.pushes;
      std::memset(&calls[top - ReturnStack::kDepth + 1 - Run::kMostPushes], 0, sizeof run.push);
      const bool returns = run.end == Run::End::ret, takes_tip = run.end == Run::End::tip;
      at = choose(returns, calls[top], choose(takes_tip, targets[tip], run.next));
      top -= returns;
      tip += takes_tip;
      took_tip = takes_tip | (took_tip & (run.bits == 0));
      deferred |= takes_tip & (run.bits != left);
    }
    if (runs != 0) memo.wrote(static_cast<uint64_t>(o - out), runs);
    walk.at = at;
    walk.bit = bit;
    walk.tip = tip;
    walk.took_tip = took_tip;
    walk.deferred = deferred;
    stack.set_top(top);
    out = o;
  }

  /// Walks superblock by superblock until something has to be looked up or has run out: then false.
  template <bool ret_compression>
  bool step() {
    const BlockGraph::Pair* const next = graph.next();
    const BlockGraph::Pair* const push = graph.push();
    const auto tips = static_cast<uint32_t>(lanes.tips);
    BlockId* calls = stack.entries();
    uint32_t top = stack.top();
    BlockId at = walk.at;
    uint32_t bit = walk.bit;
    auto tip = static_cast<uint32_t>(walk.tip);
    BlockId* o = out;
    // Until runs can be taken again.
    const ptrdiff_t patience = memo.resting() || tip >= tips ? end - o : ptrdiff_t{Run::kMostIds};
    bool going = true, took_tip = walk.took_tip, deferred = walk.deferred;
    const auto enter = [&](uint32_t index) {
      std::memcpy(&calls[top + 1], push[index].data(), sizeof push[index]);
      top += calls_of(at);
      std::memset(&calls[top - ReturnStack::kDepth - 1], 0, 2 * sizeof(BlockId));
    };

    do {
      if (!stack.has_room(top, kSteps * BlockGraph::kMostCalls)) top = stack.make_room(top);
      const uint32_t limit = tip < tips ? std::max(lanes.tip_bits[tip], bit) : lanes.bits;
      uint64_t window = lanes.window(bit);
      BlockId* const before = o;
      BlockId* const stop = o + std::min({kSteps, static_cast<size_t>(limit - bit), static_cast<size_t>(end - o)});
      // What takes a bit each. The kind of what comes next is a guess that is mostly right, or the loop ends; nothing else here
      // depends on the trace in a way that a CPU has to guess.
      for (; o != stop; ++o) {
        const unsigned kind = at & 7;
        if (ret_compression ? kind - 1 > 1 : kind != 1) break;
        const uint32_t index = index_of(at);
        *o = at;
        enter(index);
        const bool taken = static_cast<int64_t>(window) < 0;
        window <<= 1;
        const BlockId chosen = choose(taken, next[index][1], next[index][0]);
        if constexpr (ret_compression) {
          // A RET whose bit is 0, or whose call was not seen, leads to kNoBlock.
          const BlockId returned = choose(taken, calls[top], kNoBlock);
          top -= kind >> 1;
          at = choose(kind == 2, returned, chosen);
        } else {
          at = chosen;
        }
      }
      bit += static_cast<uint32_t>(o - before);
      took_tip &= o == before;

      const SuperKind kind = kind_of(at);
      const bool takes_tip = kind == SuperKind::tip || (kind == SuperKind::ret && (!ret_compression || bit == limit));
      if (takes_tip && tip < tips && o != end) {
        enter(index_of(at));
        *o++ = at;
        at = targets[tip++];
        took_tip = true;
        deferred |= bit != limit;
      } else if (o == before || is_open(at)) {
        going = false;
      }
    } while (going && o - out < patience);
    memo.wrote(static_cast<uint64_t>(o - out), 0);

    walk.at = at;
    walk.bit = bit;
    walk.tip = tip;
    walk.took_tip = took_tip;
    walk.deferred = deferred;
    stack.set_top(top);
    out = o;
    return going && o != end;
  }

  /// Does what step() does not. False when the walk has to stop.
  bool pass(WalkStop& why) {
    if (is_open(walk.at)) return find_open(why);
    if (walk.used_all(lanes)) {
      why = WalkStop::used_all;
    } else if (out == end) {
      why = WalkStop::out_full;
    } else if (kind_of(walk.at) == SuperKind::cut) {
      if (pass_cut()) return true;
      why = WalkStop::circle;
    } else {
      why = why_not();
    }
    return false;
  }

  /// A successor that is met for the first time, an entry of the stack, or a RET that went nowhere.
  bool find_open(WalkStop& why) {
    if (kind_of(walk.at) != SuperKind::none) {
      walk.at = stack.find(graph, walk.at);
      return true;
    }
    const BlockId from = out[-1];
    const bool taken = kind_of(from) == SuperKind::cut || lanes.window(walk.bit - 1) >> 63;
    if (kind_of(from) == SuperKind::ret) {
      walk.at = from;
      --out;
      stack.set_top(stack.top() + 1);
      if (!taken) --walk.bit;
      why = taken ? WalkStop::unseen_call : WalkStop::bad_return;
      return false;
    }
    walk.at = graph.find_next(from, taken);
    return true;
  }

  WalkStop why_not() const {
    switch (kind_of(walk.at)) {
      case SuperKind::branch:
        return WalkStop::wants_bit;
      case SuperKind::dead:
        return graph.last_block(walk.at).stops ? WalkStop::no_code : WalkStop::circle;
      default:
        return WalkStop::wants_tip;
    }
  }

  /// False when it is not the first time that nothing was used since.
  bool pass_cut() {
    if (const uint64_t used = uint64_t{walk.bit} + walk.tip; used != walk.used) {
      walk.used = used;
      walk.free.reset();
    }
    if (walk.free.is_circle(walk.at)) return false;
    const uint32_t index = index_of(walk.at);
    for (unsigned i = 0; i < calls_of(walk.at); ++i) stack.push(graph.push()[index][i]);
    walk.cuts.push_back(static_cast<uint32_t>(out - begin));
    *out++ = walk.at;
    walk.at = graph.next()[index][1];
    return true;
  }
};

}  // namespace

WalkStop walk_blocks(BlockGraph& graph, RunMemo& memo, const Lanes& lanes, std::span<const BlockId> targets,
                     bool ret_compression, Walk& walk, ReturnStack& stack, std::span<BlockId> out, size_t& n) {
  walk.deferred = false;
  walk.cuts.clear();
  if (walk.used_all(lanes)) return WalkStop::used_all;
  memo.use(graph);
  Walker w{graph, memo, lanes, targets, walk, stack, out.data(), out.data() + n, out.data() + out.size()};
  const WalkStop why = ret_compression ? w.go<true>() : w.go<false>();
  n = static_cast<size_t>(w.out - out.data());
  return why;
}

}  // namespace hindcast::decode
