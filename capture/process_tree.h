// Which processes descend from the recorded command, and which of them still run, by FORK and EXIT records.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "capture/record_builder.h"

namespace hindcast::capture {

class ProcessTree {
 public:
  /// The command's own process, before it runs.
  void add_root(Pid pid);
  /// FORK, EXIT: in time order. Others are ignored.
  void see(const perf::Record& record);
  /// A descendant learned of out of order (a FORK whose time has not come): it counts as a member from now on.
  void expect(const perf::Record& fork_record);

  bool contains(Pid pid) const { return members_.count(pid) != 0; }
  /// All that ever belonged to it, in the order they appeared.
  const std::vector<Pid>& members() const { return order_; }
  /// Those with a thread whose EXIT has not been seen.
  std::vector<Pid> alive() const;
  /// Forgets processes that `proc` no longer shows, or shows as zombies: their EXIT records were lost.
  void forget_dead(const std::string& proc = "/proc");

 private:
  void add_member(Pid pid);
  std::set<Pid> members_;
  std::vector<Pid> order_;
  std::map<Tid, Pid> threads_;
};

}  // namespace hindcast::capture
