// Who each thread was at each time: cgroups, namespaces and ids, from looks into /proc, NAMESPACES records and forks.
//
// A look tells one moment, a NAMESPACES record a change. What lies between two looks that tell different things is either of
// them. What nobody looked at is inherited from the parent, as a fork does. Nothing is guessed: each span says how it is known.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hindcast/identity_record.h"
#include "hindcast/units.h"

namespace hindcast::decode {

using identity::Sure;

struct CgroupSpan {
  RecordTime from, to;
  Sure sure = Sure::unknown;
  std::vector<uint32_t> texts;  // one; either: more; unknown: none. For IdentityBook::text()
  bool operator==(const CgroupSpan&) const = default;
};

struct NamespaceSpan {
  RecordTime from, to;
  struct One {
    Sure sure = Sure::unknown;
    std::vector<identity::Namespace> any_of;
    bool operator==(const One&) const = default;
  };
  std::array<One, identity::kNamespaceKinds> kinds;
};

/// An id may be used by several threads one after the other: spans are in order of time, with room between them.
struct ThreadIdentity {
  std::vector<CgroupSpan> cgroups;
  std::vector<NamespaceSpan> namespaces;
  struct Levels {
    RecordTime from, to;
    std::vector<identity::Ids> ids;  // outermost pid namespace first
  };
  std::vector<Levels> levels;  // they never change in a thread's life
};

/// Life: add what there is, in any order but for texts, which stand before the looks that name them; finish(); ask.
class IdentityBook {
 public:
  void add_text(uint32_t stream, const identity::CgroupText& text);
  void add_look(uint32_t stream, const identity::ThreadCgroup& look);
  void add_look(identity::ThreadNamespaces look);
  enum class Told : uint8_t {
    at_birth,   // when it was forked, by who did that
    as_change,  // when it moved itself
    as_state,   // by a checkpoint: it is so, since whenever
  };
  /// A NAMESPACES record.
  void add_namespaces(RecordTime time, Tid tid, Told told, const identity::Namespaces& namespaces);
  void add_fork(RecordTime time, Tid parent, Tid child);
  void add_exit(RecordTime time, Tid tid);
  /// Records of all kinds may be missing in between.
  void add_loss(RecordTime from, RecordTime to);

  /// O(n log n).
  ///   recorded  whose NAMESPACES records are there, if any are; empty: everybody's
  void finish(const std::set<Pid>& recorded = {});

  /// Null: nothing is known of it.
  const ThreadIdentity* find(Tid tid) const;
  /// /proc/PID/cgroup as it was read.
  const std::string& text(uint32_t number) const { return texts_[number]; }
  size_t texts() const { return texts_.size(); }

 private:
  struct CgroupLook {
    RecordTime first_from, first_to, last_from;
    uint32_t text;
    bool earlier_forgotten;
  };
  struct Change {
    RecordTime time;
    Told told;
    identity::Namespaces namespaces;
  };
  struct Fork {
    RecordTime time;
    Tid parent;
  };
  struct Events {
    std::vector<CgroupLook> cgroups;
    std::vector<identity::ThreadNamespaces> looks;
    std::vector<Change> changes;
    std::vector<Fork> forks;
    std::vector<RecordTime> exits;
  };
  struct Life;
  struct Work;

  std::vector<std::string> texts_;
  std::unordered_map<std::string, uint32_t> text_numbers_;
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> text_ids_;  // stream and id
  std::map<Tid, Events> events_;
  std::vector<std::pair<RecordTime, RecordTime>> losses_;
  std::map<Tid, ThreadIdentity> threads_;
};

}  // namespace hindcast::decode
