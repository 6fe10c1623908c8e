// The code that one process's JIT compiler says to have put somewhere, at every time.
//
// Later code covers earlier code where it lies. When code came is an interval: before it the code was not there, behind it it
// was, and inside of it, it may have been.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "decode/code_layout.h"
#include "hindcast/units.h"

namespace hindcast::decode {

struct JitClaim {
  uint64_t address = 0;
  uint64_t length = 0;
  uint32_t image = 0;  // 0: nothing is there any more; kUnknownImage: code, but which is not known
  uint64_t image_offset = 0;
  Interval<RecordTime> from;
};

/// Feed add() and exec() in the order in which they happened, as far as it is known; then ask.
class JitLayer {
 public:
  void add(const JitClaim& claim);
  /// The process begins anew: what was there is gone.
  void exec(RecordTime time) { execs_.push_back(time); }
  bool empty() const { return claims_.empty(); }

  /// What lay there at a time, as of all claims that surely held by then. Borrowed until the next call of this object. Cheapest
  /// when times ascend: O(claims since the last time).
  const Layout& settled(RecordTime time);
  struct Piece {
    uint64_t begin;
    Segment segment;
  };
  /// What lay at an address at time.earliest; when nothing did, what first came there by time.latest. It has bytes.
  std::optional<Piece> at(Interval<RecordTime> time, uint64_t address);
  /// Those that may have come to hold in (settled, ended], in order.
  void for_each_unsettled(RecordTime settled, RecordTime ended, const std::function<void(const JitClaim&)>& told);
  /// The times at which something may change.
  void add_times(std::vector<RecordTime>& times);

  static Segment segment_of(const JitClaim& claim);

 private:
  void prepare();

  std::vector<JitClaim> claims_;  // prepared: by from.latest
  std::vector<RecordTime> execs_;
  std::vector<RecordTime> earliest_from_;  // of the claims from this one on
  bool prepared_ = false;

  /// The layout after claims_[0, count). One for each of settled() and at(), which are asked about different times in turn.
  struct Cursor {
    Layout layout;
    size_t count = 0;
  };
  void move(Cursor& cursor, RecordTime time);
  Cursor for_layouts_, for_places_;
};

}  // namespace hindcast::decode
