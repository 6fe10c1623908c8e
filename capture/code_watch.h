// What executable memory that no file backs held at which time: looked at again and again, kept when it changed.
//
// Nothing tells of a write to memory. A look reads pages and compares them with the last copy, which is kept in any case and so
// takes the place of a hash. What changed between two looks is unknown in between, unless the page was executable and not
// writable: such memory changes only after an mprotect that makes it something else, and the MMAP2 record of the one that makes
// it executable again says when the new code began. Not noticed: pages that were changed and changed back between two looks,
// and what another process writes into memory that this one cannot write.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "capture/memory_copy.h"
#include "capture/record_builder.h"
#include "hindcast/cut.h"
#include "hindcast/fd.h"

namespace hindcast::capture {

/// Whether a mapping's code is in memory alone: it has no file, or a file that only memory holds.
bool is_memory_code(const MapRecord& map);

class CodeWatch {
 public:
  /// Read in a second, of all processes together; a page costs its bytes, a process's list of mappings about 100 bytes each.
  static constexpr uint64_t kBytesPerSecond = uint64_t{8} << 20;
  /// Of versions, all processes together; beyond it the oldest go, and are missing from then on.
  static constexpr uint64_t kMostKept = uint64_t{512} << 20;
  static constexpr size_t kMostVersions = size_t{1} << 17;  // pages
  static constexpr size_t kMostUnknown = size_t{1} << 16;

  using Now = std::function<RecordTime()>;
  explicit CodeWatch(std::string proc = "/proc") : proc_(std::move(proc)) {}

  /// A process whose mappings are known from now on only: it ran before its records did.
  void add_running(Pid pid, RecordTime now);
  /// Records of processes of the window, in order of time.
  void on_map(const MapRecord& map, RecordTime time, Tid by);
  void on_fork(Pid parent, Pid child, RecordTime time);
  void on_exec(Pid pid, RecordTime time);
  void on_exit(Pid pid, RecordTime time);
  /// From now on protection changes may have been missed.
  void on_lost() { lost_ = true; }

  /// Looks at what is due, within the budget since the last call.
  void look(std::chrono::steady_clock::time_point wall, const Now& now);
  /// Looks at everything of one process, whatever it costs, up to kMostKept.
  void look_at(Pid pid, const Now& now);
  /// All records up to this time have been told of: looks before it can be understood.
  void settle(RecordTime complete);

  /// All that is known, pages that belong together as one. A copy: the watch goes on.
  std::vector<MemoryCopy> versions() const;
  std::vector<UnknownCode> unknown() const;
  const std::set<std::string>& notes() const { return notes_; }
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  using Bytes = std::shared_ptr<const std::vector<uint8_t>>;  // of one page
  struct Change {
    uint64_t start, end;
    RecordTime time;
    Tid by;
  };
  /// One page as one look saw it; without bytes it was no code any more.
  struct Seen {
    uint64_t address;
    bool writable;
    Bytes bytes;
    std::string path;
  };
  /// A look, kept until all records up to its end are known.
  struct Look {
    Pid pid;
    RecordTime before, after;
    std::vector<Seen> pages;
  };
  struct Page {
    Bytes bytes;  // null: it was no code when it was looked at last
    bool writable = false;
    RecordTime seen{0};    // before the last look that found these bytes
    uint64_t version = 0;  // its number in kept_
  };
  struct Process {
    RecordTime since{0};  // its program began, or it was met
    bool met_running = false;
    bool has_code = false;           // in memory, besides the vdso
    std::map<uint64_t, Page> pages;  // by address, as the understood looks left them
    std::map<uint64_t, Bytes> last;  // as the last look found them
    std::vector<Change> changes;     // executable mappings, in order of time
    uint64_t next = 0;               // where the next look goes on
    bool due = true;                 // a record told of a change
    std::chrono::steady_clock::time_point next_look{};
  };
  struct Kept {
    Pid pid;
    uint64_t address;
    std::string path;
    Bytes bytes;
    RecordTime from{0}, to{0};
    Tid by = kNoTid;
  };

  uint64_t read_pages(Pid pid, Process& process, uint64_t budget, const Now& now);
  void understand(const Look& look);
  void understand_page(Process& p, const Look& look, const Seen& seen);
  void end_page(Pid pid, uint64_t address, Page& page, RecordTime end);
  void keep(Page& page, const Look& look, const Seen& seen, RecordTime from, Tid by);
  void add_unknown(Pid pid, uint64_t address, RecordTime from, RecordTime to);
  void forget_oldest();

  std::string proc_;
  bool lost_ = false;
  std::map<Pid, Process> processes_;
  std::deque<Look> looks_;
  std::map<uint64_t, Kept> kept_;  // by number: the oldest first
  uint64_t next_version_ = 1;
  uint64_t kept_bytes_ = 0;
  std::deque<UnknownCode> unknown_;
  std::set<std::string> notes_;
  uint64_t bytes_read_ = 0;
  uint64_t allowance_ = 0;  // bytes that may be read now
  std::optional<std::chrono::steady_clock::time_point> refilled_;
  Pid last_looked_ = kNoPid;
};

}  // namespace hindcast::capture
