// One host's snapshot, opened for questions: who ran where and when, what is missing, and each thread's flow.
//
//   HostTrace::build  ->  processes(), threads(), cpus(), gaps()     facts from sideband and a packet-level
//   scan
//                     ->  thread_flow(tid), cpu_flow(cpu)            pull cursors of FlowEvents, decoded on
//                     demand
//
// Nothing here reads a file or a clock: all bytes come from the ByteSource.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/decoder.h"
#include "hindcast/event.h"
#include "hindcast/result.h"

namespace hindcast::decode {

class IdentityBook;

/// An unbroken run of one thread on one CPU, by context-switch records. A side that no record shows is open:
/// the thread ran at that end of what was captured, or the record was lost.
struct Slice {
  Tid tid = kNoTid;
  Pid pid = kNoPid;
  CpuId cpu = kNoCpu;
  RecordTime in{0};
  RecordTime out = RecordTime::max();
  bool open_start = false;  // `in` is only the earliest possible time
  bool open_end = false;    // `out` is only the latest possible time
  bool preempted = false;   // left the CPU while runnable
};

struct CommChange {
  RecordTime time;
  std::string comm;
  bool exec = false;
};

struct ThreadInfo {
  Tid tid = kNoTid;  // kNoTid: everything a whole-CPU trace without sideband ran
  Pid pid = kNoPid;
  std::string comm;                           // the last one
  std::vector<CommChange> comms;              // in time order
  std::optional<RecordTime> started, exited;  // by FORK and EXIT records
  std::vector<Slice> slices;                  // in time order over all CPUs
  std::vector<CpuId> cpus;                    // CPUs with at least one of its traced stretches, ascending
  uint64_t stretches = 0;                     // traced stretches that are surely its own
  uint64_t pt_bytes = 0;                      // and their bytes of trace
};

struct ProcessInfo {
  Pid pid = kNoPid;
  Pid parent = kNoPid;
  std::string comm;  // of its main thread, the last one
  std::optional<RecordTime> started, exited;
  std::vector<Tid> tids;  // ascending
};

/// What one PT stream holds.
struct CpuCoverage {
  uint32_t stream = 0;
  CpuId cpu = kNoCpu;
  Tid tid = kNoTid;  // for a per-thread stream
  uint64_t bytes = 0;
  uint64_t first_psb = 0;  // bytes before it cannot be read; == bytes when there is no PSB at all
  bool wrapped = false;
  TscInterval time;  // earliest and latest moment that its packets can show
  uint64_t stretches = 0, attributed_stretches = 0;
  uint64_t attributed_bytes = 0, unattributed_bytes = 0;
  uint64_t overflows = 0;
};

/// A known unknown that sideband or the packet scan shows before anything is decoded.
struct HostGap {
  GapCause cause = GapCause::none;
  CpuId cpu = kNoCpu;   // kNoCpu: all
  uint32_t stream = 0;  // where it was seen
  RecordTime from{0}, to = RecordTime::max();
  uint64_t count = 0;  // lost records, or bytes of trace: see cause
  std::string words;   // one line for a person
};

/// Where an address comes from: for symbols.
struct CodeLocation {
  uint32_t image = 0;         // ImageInfo.id; 0: mapped, but its bytes are not in the snapshot
  std::string path;           // as the mapping names it
  std::string build_id;       // of the image, or as the mapping's record says; may be empty
  uint64_t image_offset = 0;  // file offset for ELF images, byte offset for memory images
  uint64_t map_start = 0, map_length = 0;
};

/// A function that a process made and named itself.
struct MadeFunction {
  std::string name;
  uint64_t offset = 0;  // in it
  std::string file;     // empty: not said
  uint32_t line = 0;
};

inline constexpr uint32_t kNoStretch = 0xffffffffu;

inline constexpr uint64_t kNoNumber = ~uint64_t{0};

struct FlowEvent {
  Event event;
  uint64_t number = kNoNumber;  // instructions of its flow before it; kNoNumber: not known
  Tid tid = kNoTid;
  Pid pid = kNoPid;
  CpuId cpu = kNoCpu;
  uint32_t stream = 0;
  uint32_t stretch = 0;  // index of the traced stretch in its stream, for image_of(); kNoStretch: outside of all
};

/// Events in order, pulled. Same contract as FlowDecoder::next: 0 only at the end.
class FlowCursor {
 public:
  virtual ~FlowCursor() = default;
  virtual size_t next(std::span<FlowEvent> out) = 0;
};

/// A flow that is read from any place on, in both directions: the events are the same, however they are come by (but for
/// libipt where trace is damaged: it tells what it lost by where it came from). A position lies between two events, at first
/// before all of them.
class SeekableFlow : public FlowCursor {
 public:
  /// The events before the position, the nearest one first; 0 only at the beginning. It moves before them. Cost: each PSB's
  /// events are decoded twice; at most kMostKept of them are kept.
  virtual size_t previous(std::span<FlowEvent> out) = 0;
  static constexpr size_t kMostKept = size_t{1} << 16;

  /// Before the first event that may have happened then or later. Cost: of decoding two PSBs.
  virtual void seek(Tsc time) = 0;
  virtual void seek_end() = 0;
  /// Before the block that has the instruction with this number. False, and nothing moves: there is no such instruction, or
  /// instructions() is not known. Cost: of decoding one PSB, or two.
  virtual bool seek_instruction(uint64_t number) = 0;
  /// Of the whole flow, whatever the range of time. Known when HostTrace::number_instructions() was done before the flow was
  /// opened; and only by the fast engine with Resync::earliest.
  virtual std::optional<uint64_t> instructions() const = 0;
};

struct FlowOptions {
  TscInterval time = TscInterval::unknown();  // only what may have run in it
  Resync resync = Resync::earliest;
  Engine engine = Engine::fast;
};

/// What the decoders did. Stretches count once for each time that they were decoded.
struct EngineCounts {
  uint64_t fast = 0;    // stretches
  uint64_t libipt = 0;  // those that the fast engine left to libipt
};

/// What a stream's flow amounts to.
struct FlowTotals {
  uint64_t instructions = 0;
  uint64_t branches = 0;   // that used trace: conditional and indirect ones, returns
  uint64_t stretches = 0;  // of the stream
  uint64_t skipped = 0;   // of these, those that only libipt decodes, or whose code or thread nobody knows: not counted
  uint64_t given_up = 0;  // and those counted in part: trace and code do not fit
  uint64_t intervals = 0;  // of time, one behind the other, each different from the one before; 0: not asked for
};

/// One thread of the caller at a time, cursors included; cursors must not outlive the HostTrace.
class HostTrace {
 public:
  /// Reads sideband and scans PT packets (no flow is decoded): O(bytes). `info` and `source` must outlive the
  /// object. Damage inside the bytes is not an error but a HostGap; errors are the source's own (not_found,
  /// corrupt, io), and unsupported for a snapshot without PT streams.
  static Result<std::unique_ptr<HostTrace>> build(const SnapshotInfo& info, ByteSource& source);
  ~HostTrace();
  HostTrace(const HostTrace&) = delete;
  HostTrace& operator=(const HostTrace&) = delete;

  const SnapshotInfo& info() const;
  EngineCounts engine_counts() const;              // of all flows so far
  std::span<const ProcessInfo> processes() const;  // by pid
  std::span<const ThreadInfo> threads() const;     // by tid; those seen in sideband, placements or streams
  std::span<const CpuCoverage> cpus() const;       // one per PT stream, in SnapshotInfo order
  std::span<const HostGap> gaps() const;           // by time
  const IdentityBook& identities() const;          // cgroups and namespaces of threads
  const ThreadInfo* find_thread(Tid tid) const;
  const ProcessInfo* find_process(Pid pid) const;

  /// One thread's events in its program order, across CPUs. Gaps that may hide its execution are included;
  /// events that are surely another thread's are not. Errors: not_found for a thread nobody has heard of.
  Result<std::unique_ptr<SeekableFlow>> thread_flow(Tid tid, const FlowOptions& options = {}) const;
  /// Everything a PT stream shows, each event with its thread. Where that is unknown it is kNoTid: what ran is a gap
  /// `unattributed` then, but around the context switches of a trace of the kernel, where its code is known whoever runs it.
  Result<std::unique_ptr<SeekableFlow>> stream_flow(uint32_t stream, const FlowOptions& options = {}) const;
  /// The same by CPU: the per-CPU stream of that CPU.
  Result<std::unique_ptr<SeekableFlow>> cpu_flow(CpuId cpu, const FlowOptions& options = {}) const;

  /// Gives every instruction its number: decodes all streams once, on so many threads, each of which takes memory for the
  /// code that it meets. Nothing to do the second time. Errors: unsupported when libipt rejects the configuration.
  ///   done  told now and then how many of the streams' bytes are done, on any thread, one at a time; may be empty.
  Result<void> number_instructions(size_t threads,
                                   const std::function<void(uint64_t done, uint64_t total)>& done) const;

  /// The fast engine over a whole stream, without events and times: the least that a decode can cost. Errors: not_found.
  Result<FlowTotals> count(uint32_t stream) const;
  /// The same of all stretches, resuming behind damage, and finding an interval of time for every block: nothing is skipped or
  /// given up. Errors: as count(), and unsupported when libipt rejects the configuration.
  Result<FlowTotals> count_timed(uint32_t stream) const;

  /// The code that an event ran in; nullptr when its thread is unknown. For block_instructions() and
  /// disassembly.
  std::shared_ptr<const CodeImage> image_of(const FlowEvent& event) const;
  /// The code of a process at a time.
  std::shared_ptr<const CodeImage> image_at(Pid pid, RecordTime time) const;
  /// By the jitdump that `where` lies in, else by the process's perf map.
  std::optional<MadeFunction> made_function(Pid pid, const std::optional<CodeLocation>& where, Ip ip) const;
  std::optional<CodeLocation> locate(Pid pid, Interval<RecordTime> time, Ip ip) const;
  /// The record times that stand for an event in locate(): mappings are those of the earliest, which image_at() takes, too.
  Interval<RecordTime> record_times_of(const FlowEvent& event) const;

  struct Impl;

 private:
  explicit HostTrace(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::decode
