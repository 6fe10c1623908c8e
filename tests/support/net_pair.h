// Two network namespaces of the test's own, joined by a cable: nothing of the machine's network is touched.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "tests/support/run_program.h"

namespace hindcast::test {

/// ip(8) in the network namespace of this thread.
Ran ip(const std::vector<std::string>& words);

/// 10.77.0.1 and fd77::1 at `hca` in `here`, 10.77.0.2 and fd77::2 at `hcb` in `there`. Both end with the object. Needs root.
class NetPair {
 public:
  NetPair();
  /// Why there is none; empty: there is.
  const std::string& missing() const { return missing_; }

  /// Runs it on a thread of that namespace, to its end.
  void here(const std::function<void()>& what) const { in(here_, what); }
  void there(const std::function<void()>& what) const { in(there_, what); }
  int here_fd() const { return here_.get(); }

  /// Whether TCP makes packets longer than the cable takes, which are cut (GSO) when tc has seen them.
  void offload(bool on) const;

  static constexpr const char* kHere = "hca";
  static constexpr const char* kThere = "hcb";

 private:
  static void in(const Fd& space, const std::function<void()>& what);
  bool make();

  Fd here_, there_;
  std::string missing_;
};

}  // namespace hindcast::test
