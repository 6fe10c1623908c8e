// What freeze after freeze knows of one AUX ring in overwrite mode: how much of it is trace, and where it was stopped.
#pragma once

#include <cstdint>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::capture {

/// The kernel tells only where in the ring it stopped writing (aux_head, an offset), never how often it went round. So:
///  * The ring starts zeroed: bytes other than zero behind the head show that it went round once. What was seen to have gone
///    round stays so: the end of the ring may hold zeros that are trace.
///  * Where the first head lies too close to the ring's end for its zeros to say anything, the ring counts as gone round:
///    that claims less than it may hold.
///  * Going on after a stop sends no PSB, so each stop is a place where packets may be broken. It stays one until it is
///    written over: by arithmetic while less than a round was written since, which a copy of the bytes in front of the last
///    stop proves; when they have changed, or cannot tell, all of the ring is newer than every earlier stop.
/// One object per ring and event: a ring that was mapped anew starts anew.
class AuxHistory {
 public:
  struct Copy {
    std::vector<uint8_t> bytes;  // oldest first
    bool wrapped = false;        // older bytes were overwritten, or may have been
    std::vector<uint64_t> cuts;  // offsets in bytes where earlier stops were, ascending
  };

  /// ring: all of the AUX area, of the same size each time; head: aux_head, read after the event was stopped. Costs a copy of
  /// the ring.
  Copy take(ByteSpan ring, uint64_t head);

 private:
  bool gone_round(ByteSpan ring, size_t at) const;

  bool stopped_before_ = false, wrapped_ = false;
  size_t last_ = 0;                 // where it stopped last
  std::vector<uint8_t> reference_;  // what lay in front of that place then
  std::vector<size_t> cuts_;        // where it stopped, and is still to be seen
};

}  // namespace hindcast::capture
