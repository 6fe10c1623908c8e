#include "decode/fast/walker.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace hindcast::decode {
namespace {

constexpr unsigned kWindowBits = 57;

}  // namespace

WalkStop walk_blocks(BlockGraph& graph, RunMemo& memo, const Lanes& lanes, bool ret_compression, Walk& walk,
                     ReturnStack& stack, std::span<BlockId> out, size_t& n) {
  BlockId at = walk.at;
  uint32_t bit = walk.bit;
  size_t tip = walk.tip;
  uint32_t limit = bit_limit(lanes, bit, tip);
  uint64_t window = 0;
  unsigned in_window = 0;
  BlockId* o = out.data() + n;
  BlockId* const end = out.data() + out.size();

  const auto stop = [&](WalkStop why) {
    n = static_cast<size_t>(o - out.data());
    walk.at = at;
    walk.bit = bit;
    walk.tip = tip;
    return why;
  };
  const auto take_bit = [&] {
    if (in_window == 0) {
      window = lanes.window(bit);
      in_window = kWindowBits;
    }
    const bool taken = window >> 63;
    window <<= 1;
    --in_window;
    ++bit;
    return taken;
  };

  if (bit == limit && tip == lanes.tips) return stop(WalkStop::used_all);
  for (;;) {
    if (o == end) return stop(WalkStop::out_full);
    switch (kind_of(at)) {
      case BlockKind::branch: {
        if (bit == limit) return stop(WalkStop::wants_bit);
        if (limit - bit >= 8 && static_cast<size_t>(end - o) >= Run::kMostBlocks) {
          if (in_window < 8) {
            window = lanes.window(bit);
            in_window = kWindowBits;
          }
          if (const Run* run = memo.find(graph, at, static_cast<uint8_t>(window >> 56), ret_compression)) {
            std::memcpy(o, run->ids.data(), sizeof run->ids);
            for (uint32_t calls = run->pushes; calls != 0; calls &= calls - 1) stack.push(o[std::countr_zero(calls)]);
            o += run->blocks;
            at = run->next;
            bit += run->bits;
            window <<= run->bits;
            in_window -= run->bits;
            if (bit == limit && tip == lanes.tips) return stop(WalkStop::used_all);
            continue;
          }
        }
        *o++ = at;
        at = graph.next(at, take_bit());
        if (bit == limit && tip == lanes.tips) return stop(WalkStop::used_all);
        continue;
      }
      case BlockKind::call:
      case BlockKind::jump:
        if (const uint64_t used = uint64_t{bit} + tip; used != walk.used) {
          walk.used = used;
          walk.free.reset();
        }
        if (walk.free.is_circle(at)) return stop(WalkStop::circle);
        if (kind_of(at) == BlockKind::call) stack.push(at);
        *o++ = at;
        at = graph.next(at, true);
        continue;
      case BlockKind::ret:
        if (ret_compression && is_compressed(bit, limit)) {
          if (!take_bit()) {
            --bit;
            return stop(WalkStop::bad_return);
          }
          const BlockId to = stack.pop(graph);
          if (to == kNoBlock) return stop(WalkStop::unseen_call);
          *o++ = at;
          at = to;
          if (bit == limit && tip == lanes.tips) return stop(WalkStop::used_all);
          continue;
        }
        break;
      case BlockKind::indirect:
      case BlockKind::indirect_call:
      case BlockKind::far:
        break;
      case BlockKind::stop:
        return stop(WalkStop::no_code);
    }
    // It takes a TIP, even one that was sent behind bits of later branches.
    if (tip == lanes.tips) return stop(WalkStop::wants_tip);
    if (kind_of(at) == BlockKind::indirect_call) stack.push(at);
    *o++ = at;
    at = graph.target(at, lanes.tip[tip++]);
    limit = bit_limit(lanes, bit, tip);
    if (bit == limit && tip == lanes.tips) return stop(WalkStop::used_all);
  }
}

}  // namespace hindcast::decode
