#include "decode/fast/run_memo.h"

namespace hindcast::decode {

void RunMemo::set_graph(uint64_t serial) {
  constexpr size_t kMostTags = 0xffff;
  if (tags_.size() == kMostTags && !tags_.contains(serial)) {
    tags_.clear();
    std::fill_n(runs_.data(), runs_.size(), Run{});
  }
  serial_ = serial;
  tag_ = tags_.try_emplace(serial, static_cast<uint16_t>(tags_.size() + 1)).first->second;
}

void RunMemo::build(BlockGraph& graph, bool ret_compression, BlockId at, uint8_t bits, unsigned before, Run& run) {
  run.bits = run.count = run.pushes = 0;
  run.end = Run::End::next;
  const auto pushes_fit = [&] { return run.pushes + calls_of(at) <= Run::kMostPushes; };
  while (run.count < Run::kMostIds && run.end == Run::End::next && pushes_fit()) {
    const SuperKind kind = kind_of(at);
    const bool has_bit = run.bits < before, bit = bits & (0x80 >> run.bits);
    const bool compressed = kind == SuperKind::ret && ret_compression && has_bit;
    BlockId next = kNoBlock;
    if (kind == SuperKind::branch && has_bit) {
      next = graph.next()[index_of(at)][bit];
      if (next == kNoBlock) next = graph.find_next(at, bit);
    } else if (kind == SuperKind::tip ||
               (kind == SuperKind::ret && (!ret_compression || (!has_bit && before < Run::kMostBits)))) {
      run.end = Run::End::tip;
    } else if (!compressed || !bit) {
      break;
    }
    for (unsigned i = 0; i < calls_of(at); ++i) run.push[run.pushes++] = graph.push()[index_of(at)][i];
    if (compressed) {
      if (run.pushes == 0)
        run.end = Run::End::ret;
      else
        next = run.push[--run.pushes];
    }
    run.ids[run.count++] = at;
    run.bits += kind == SuperKind::branch || compressed;
    at = next;
  }
  run.next = at;
}

}  // namespace hindcast::decode
