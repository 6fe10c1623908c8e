#include "decode/fast/run_memo.h"

namespace hindcast::decode {

void RunMemo::build(BlockGraph& graph, BlockId at, uint8_t bits, bool ret_compression, Run& run) {
  run.bits = run.blocks = 0;
  run.pushes = 0;
  std::array<uint8_t, Run::kMostBlocks> calls;  // places in ids of those that have not returned
  size_t open = 0;
  while (run.blocks < Run::kMostBlocks && run.bits < 8) {
    const BlockKind kind = kind_of(at);
    const bool bit = bits & (0x80 >> run.bits);
    BlockId next;
    if (kind == BlockKind::branch) {
      next = graph.next(at, bit);
      ++run.bits;
    } else if (kind == BlockKind::jump || kind == BlockKind::call) {
      if (kind == BlockKind::call) calls[open++] = run.blocks;
      next = graph.next(at, true);
    } else if (kind == BlockKind::ret && ret_compression && bit && open != 0) {
      next = graph.return_of(run.ids[calls[--open]]);
      ++run.bits;
    } else {
      break;
    }
    run.ids[run.blocks++] = at;
    at = next;
  }
  for (size_t i = 0; i < open; ++i) run.pushes |= static_cast<uint16_t>(1u << calls[i]);
  run.next = at;
}

}  // namespace hindcast::decode
