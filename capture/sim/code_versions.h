// Code that no file holds, as it was translated: which bytes ran where, and from when to when.
//
// A block is translated before it runs for the first time and again after its page was written, so bytes that ran are known
// exactly: a new version of a page begins when a block is translated whose bytes differ from what was translated there before.
// That is in the middle of what a thread runs, unless the page was made executable and not writable by a system call since:
// then it changed before that call.
#pragma once

#include <bitset>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/cut.h"

namespace hindcast::sim {

class CodeVersions {
 public:
  static constexpr uint64_t kPage = 4096;
  /// Of versions that have ended; beyond it the oldest are forgotten.
  static constexpr size_t kMostEnded = 65536;
  /// Of those that have not: later code is not known, and full() says so.
  static constexpr size_t kMostOpen = 65536;

  // In the order of one process's messages; times are TSC ticks.
  void translated(Pid pid, uint64_t ip, ByteSpan code, uint64_t tsc);
  void protect(Pid pid, Tid by, uint64_t address, uint64_t length, bool executable, bool writable, uint64_t tsc);
  void gone(Pid pid, uint64_t address, uint64_t length, uint64_t tsc);
  /// The process has a new program.
  void exec(Pid pid, uint64_t tsc);

  /// One page of one version: those of its bytes that were translated.
  struct Version {
    Pid pid;
    uint64_t address = 0;
    std::vector<uint8_t> bytes;  // kPage of them
    std::bitset<kPage> known;
    uint64_t from = 0;
    std::optional<uint64_t> to;
    Tid by = kNoTid;
  };
  const std::deque<Version>& ended() const { return ended_; }
  std::vector<const Version*> open() const;
  bool full() const { return full_; }

 private:
  struct Page {
    Version version;
    struct Sealed {
      uint64_t tsc;
      Tid by;
    };
    std::optional<Sealed> sealed;  // executable and not writable since
  };
  using Pages = std::map<uint64_t, Page>;  // by address

  void end(const Page& page, uint64_t tsc);
  void end_all(Pages& pages, Pages::iterator from, Pages::iterator to, uint64_t tsc);

  std::map<Pid, Pages> processes_;
  std::deque<Version> ended_;
  size_t open_ = 0;
  bool full_ = false;
};

}  // namespace hindcast::sim
