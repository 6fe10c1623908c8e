// Where each instruction of a stream stands: what makes its number a place to begin at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "decode/fast/fast_engine.h"
#include "decode/libipt_engine.h"
#include "hindcast/decoder.h"

namespace hindcast::decode {

/// Instructions are numbered in the order of the stream, from 0 on, gaps have none. Those of the fast engine with
/// Resync::earliest. Memory: 16 bytes a PSB and 8 a stretch.
struct FlowIndex {
  struct Place {
    uint64_t psb = 0;     // a decoder that seeks it
    uint64_t number = 0;  // tells this instruction first
  };
  std::vector<Place> places;     // ascending
  std::vector<uint64_t> before;  // instructions before each stretch, and one more: all of them

  uint64_t instructions() const { return before.back(); }
  /// The last place at or before this instruction and at or before that offset; nullptr when there is none.
  const Place* place(uint64_t number, uint64_t offset) const;
};

/// Decodes the whole stream.
///   decoders  of this trace: one for each thread to work on. The result is the same for any number of them.
///   done      told now and then how many bytes are done: on any thread, one at a time. May be empty.
FlowIndex build_index(const PtTrace& trace, std::span<const std::unique_ptr<FastDecoder>> decoders,
                      const std::function<void(uint64_t bytes)>& done);

}  // namespace hindcast::decode
