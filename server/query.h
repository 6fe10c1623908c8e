// The only door for views: questions about recorded history, answered with plain values.
//
//   open_query(path)  ->  Query  ->  overview()            what there is: hosts, threads, coverage, gaps
//                                    flow(), calls()       what a thread did: pulled item by item
//                                    packets(), records()  what the trace says, as text
//                                    waits()               who slept, who woke whom, messages, signals, exits; packets
//                                    *_bytes()             what was recorded, as it is
//                                    verify()              is it whole, does it decode, does it equal the truth
//   import_to_bundle()                                   a trace of another tool becomes a bundle
//
// No answer holds a whole trace: flows are pulled. Every time is an interval in TSC ticks of its host; TimeScale turns
// ticks into nanoseconds since the snapshot's first tick. Where something is not known, a gap stands in its place.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/decoder.h"
#include "hindcast/event.h"
#include "hindcast/identity_record.h"
#include "hindcast/result.h"
#include "hindcast/units.h"
#include "server/import/import.h"

namespace hindcast::server {

/// Told now and then how far a long answer is: `done` of `total` in whatever unit; total 0 means unknown.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

/// TSC ticks of one snapshot as nanoseconds since its origin.
struct TimeScale {
  Tsc origin{0};           // the earliest tick that any stream of the snapshot shows
  double ns_per_tick = 0;  // 0: unknown, so times can only be shown in ticks
  bool known() const { return ns_per_tick > 0; }
  double ns(Tsc t) const;    // negative before the origin; ticks when !known()
  Tsc tsc(double ns) const;  // saturating
};

struct StreamRow {
  StreamInfo info;
  // For PT streams, from a scan of the packets:
  uint64_t first_psb = 0;  // bytes before it cannot be read; == info.bytes without any PSB
  TscInterval time;
  uint64_t stretches = 0;  // runs of tracing that was on
  uint64_t attributed_stretches = 0;
  uint64_t unattributed_bytes = 0;
  uint64_t overflows = 0;
};

struct ProcessRow {
  Pid pid = kNoPid, parent = kNoPid;
  std::string comm;
  std::vector<Tid> tids;
  TscInterval started, exited;  // unknown(): not inside what was captured
};

/// One unbroken run of a thread on a CPU.
struct SliceRow {
  CpuId cpu = kNoCpu;
  TscInterval in, out;
  bool open_start = false, open_end = false;  // no record shows that end
  bool preempted = false;
};

/// One answer to where a thread belongs: a cgroup of every hierarchy.
struct CgroupName {
  std::string path;                                       // in the hierarchy that tells most
  std::string controllers;                                // that hierarchy's; empty: version 2
  std::vector<std::pair<std::string, std::string>> all;   // controllers and path of each
  std::string runtime, container, pod, qos, unit, slice;  // what the path tells; empty: nothing
  std::string name;                                       // in a few words
};

/// What was so for a while, and how that is known.
struct CgroupRow {
  TscInterval time;
  identity::Sure sure = identity::Sure::unknown;
  std::vector<std::shared_ptr<const CgroupName>> any_of;  // several: it was one of them
};
struct NamespacesRow {
  TscInterval time;
  struct One {
    identity::Sure sure = identity::Sure::unknown;
    std::vector<identity::Namespace> any_of;
  };
  std::array<One, identity::kNamespaceKinds> kinds;
};

struct ThreadRow {
  Tid tid = kNoTid;
  Pid pid = kNoPid;
  std::string comm;
  std::vector<CpuId> cpus;
  uint64_t slices = 0;
  uint64_t on_cpu_ns = 0;  // over closed slices
  TscInterval time;        // from its first slice to its last; unknown() without slices
  uint64_t stretches = 0;  // of trace that is surely its own
  uint64_t pt_bytes = 0;
  std::vector<CgroupRow> cgroups;  // while the window lasted; empty: nothing is known
  std::vector<NamespacesRow> namespaces;
  std::vector<identity::Ids> ids;  // in each pid namespace from the host's inwards; empty: not known
  bool traced() const { return stretches > 0 || pt_bytes > 0; }
};

/// A known unknown that is seen before anything is decoded.
struct GapRow {
  GapCause cause = GapCause::none;
  CpuId cpu = kNoCpu;
  uint32_t stream = 0;
  TscInterval time;
  uint64_t count = 0;
  std::string words;
};

struct DamageRow {
  std::string what;
  uint32_t stream = 0;  // 0: not a stream
  uint64_t offset = 0, bytes = 0;
};

struct Overview {
  size_t snapshot = 0;
  SnapshotInfo info;  // host, source, command, PT options, images, placements, notes
  TimeScale scale;
  TscInterval window;  // of all PT streams; unknown() without timing packets
  std::vector<StreamRow> streams;
  std::vector<ProcessRow> processes;
  std::vector<ThreadRow> threads;
  std::vector<GapRow> gaps;
};

/// The file or store behind the door.
struct StoreInfo {
  std::string path;
  size_t snapshots = 0;
  uint64_t stored_bytes = 0, raw_bytes = 0;
  std::vector<DamageRow> damage;  // known from opening it
};

struct SourceLocation {
  std::string function;  // demangled; may be empty
  std::string file;
  uint32_t line = 0, column = 0;  // 0 unknown
  bool inlined = false;           // its code was inlined into the next one
};

/// What an address is called. Never empty: at worst the module is "?" and the offset the address itself.
struct Place {
  uint64_t ip = 0;
  std::string function;  // empty: no symbol covers it
  uint64_t function_offset = 0;
  std::string module;          // path of the mapped file, "[vdso]", "//anon" ...; "?" when nothing is mapped there
  uint64_t module_offset = 0;  // link-time address in an ELF file; else offset in the mapping's file or memory
  std::vector<SourceLocation> lines;  // innermost first; empty without DWARF
};

struct Instruction {
  uint64_t ip = 0;
  std::string text;  // disassembly; the bytes when it cannot be disassembled
  std::shared_ptr<const Place> place;
};

/// How much of a flow to spell out; each includes those before it.
enum class Detail : uint8_t { events, places, instructions };

struct FlowQuestion {
  size_t snapshot = 0;
  std::optional<Tid> tid;          // one thread ...
  std::optional<CpuId> cpu;        // ... or everything one CPU ran
  std::optional<uint32_t> stream;  // ... or everything one stream shows
  TscInterval time = TscInterval::unknown();
  Resync resync = Resync::earliest;
  Engine engine = Engine::fast;
  Detail detail = Detail::places;
  bool intel_syntax = false;
};

struct FlowItem {
  Event event;
  std::optional<uint64_t> number;  // instructions of its flow before it, when known
  Tid tid = kNoTid;
  Pid pid = kNoPid;
  CpuId cpu = kNoCpu;
  uint32_t stream = 0;
  std::shared_ptr<const Place> place;  // of event.ip; null when detail is events or the event has no address
  /// Detail instructions, blocks only; else null. Shared with other items of the same block.
  std::shared_ptr<const std::vector<Instruction>> instructions;
  bool instructions_missing = false;  // the code bytes to list all of them are not there
};

template <class T>
class Reader {
 public:
  virtual ~Reader() = default;
  /// False at the end.
  virtual bool next(T& out) = 0;
};

/// A flow, to be read from any place on. A reader stands between two items, at first before all of them.
class FlowReader : public Reader<FlowItem> {
 public:
  /// Goes back over so many items; returns over how many: fewer only at the beginning. Cost: of decoding them twice.
  virtual uint64_t back(uint64_t items) = 0;
  /// Before the first item that may have happened then or later.
  virtual void seek(Tsc time) = 0;
  virtual void seek_end() = 0;
  /// Before the block that has the instruction with this number. Errors: not_found with how many there are; usage when
  /// instructions have no numbers: see Query::number_instructions().
  virtual Result<void> seek_instruction(uint64_t number) = 0;
};

struct CallQuestion {
  size_t snapshot = 0;
  Tid tid = kNoTid;
  TscInterval time = TscInterval::unknown();
  Engine engine = Engine::fast;
};

/// Enter or exit of one frame of a thread's call tree, or a gap between them.
struct CallItem {
  enum class Kind : uint8_t { enter, exit, gap };
  Kind kind = Kind::enter;
  int32_t depth = 0;                      // 0 where the capture began, negative below
  bool signal = false;                    // a signal handler's frame
  bool uncertain = false;                 // a gap lies between enter and here
  bool unwound = false;                   // exit: by longjmp or an exception, not by its own RET
  bool below_start = false;               // exit: entered before the capture began
  bool open = false;                      // exit: had not returned when the flow ended
  std::shared_ptr<const Place> function;  // null when entered before the capture began
  std::shared_ptr<const Place> from;      // enter: where the call stands; null unknown
  TscInterval time;
  CpuId cpu = kNoCpu;
  uint64_t number = 0;        // enter: counts from 1. exit: its enter's number, 0 without one
  uint64_t instructions = 0;  // exit: run between enter and exit, callees included
  Event gap;                  // kind gap
};

/// One packet or sideband record as text.
struct TextItem {
  uint32_t stream = 0;
  CpuId cpu = kNoCpu;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::string kind;  // packet or record name
  std::string text;  // the whole line, the name included
  TscInterval time;  // records only; unknown() for packets
};

struct TextQuestion {
  size_t snapshot = 0;
  std::optional<CpuId> cpu;
  std::optional<uint32_t> stream;
  uint64_t from = 0, to = UINT64_MAX;  // bytes in each stream, [from, to)
};

/// One record of a `waits` or `net` stream, or bytes of it that are none.
struct WaitItem {
  uint32_t stream = 0;
  uint64_t offset = 0;
  std::vector<uint8_t> record;                 // whole, for wait_record.h; empty: see damage
  std::string damage;                          // what is wrong there, in words
  TscInterval time;                            // when; of what takes time, its end
  TscInterval begun = TscInterval::unknown();  // of what takes time, its begin where it is known
};

struct WaitQuestion {
  size_t snapshot = 0;
  StreamKind of = StreamKind::waits;   // or net
  std::optional<Tid> tid;              // what it did, and what was done to it
  std::optional<std::set<Tid>> among;  // the same of any of these
  std::optional<CpuId> cpu;
  TscInterval time = TscInterval::unknown();  // only what may have been under way then
};

/// Counts of one flow.
struct FlowCounts {
  uint64_t instructions = 0, blocks = 0, events = 0;
  struct ByCause {
    GapCause cause = GapCause::none;
    uint64_t gaps = 0, bytes = 0;
  };
  std::vector<ByCause> gaps;  // causes that occurred, in the enum's order
  void add(const Event& event);
};

struct VerifyQuestion {
  std::string truth;  // folder of truth files; empty: none
  Resync resync = Resync::earliest;
};

struct VerifyReport {
  struct Stream {
    size_t snapshot = 0;
    uint32_t stream = 0;
    CpuId cpu = kNoCpu;
    Tid tid = kNoTid;
    uint64_t bytes = 0;
    FlowCounts counts;
    std::string error;            // why it could not be decoded; empty: it was
    uint64_t stretches = 0;       // that both engines decoded
    uint64_t left_to_libipt = 0;  // of these, those that the fast engine leaves to libipt
    std::string engines_differ;   // the first difference, with context; empty: they tell the same
  };
  struct Thread {
    size_t snapshot = 0;
    Tid tid = kNoTid;
    std::string comm;
    uint64_t decoded = 0, truth = 0;  // instructions
    uint64_t gaps = 0;                // in the decoded flow
    FlowCounts counts;                // of the decoded flow
    uint64_t not_decoded = 0;         // instructions of the truth that lie in gaps
    uint64_t timed = 0;               // blocks whose time was compared with the truth's
    uint64_t misplaced = 0;           // of these, those whose interval excludes the time at which they ran
    uint64_t worst_ticks = 0;         // by how much the worst of them lies outside
    uint64_t worst_at = 0;            // its instruction's index in the truth
    bool equal = false;      // every decoded instruction is the truth's, and all of the truth's is decoded or in a gap
    std::string difference;  // the first one, with context; empty when equal
  };
  std::vector<DamageRow> damage;
  std::vector<Stream> streams;
  std::vector<Thread> threads;  // with a truth folder only
  bool whole() const;           // nothing damaged, everything decoded, equal to the truth if there was one
};

/// How fast a snapshot is decoded here, on one core.
struct BenchReport {
  struct Work {
    uint64_t instructions = 0, branches = 0;  // branches that used trace
  };
  struct Way {
    Work work;  // of one pass over all PT streams
    size_t passes = 0;
    double seconds = 0;  // of one pass: the median
  };
  uint64_t bytes = 0;                                 // of PT
  uint64_t stretches = 0, skipped = 0, given_up = 0;  // as decode::FlowTotals
  uint64_t intervals = 0;                             // the same
  Way cold;    // control flow alone, by the fast engine, which knows none of the code yet
  Way flow;    // the same when it knows the code
  Way times;   // and with an interval of time for each block
  Way events;  // each block with its thread and time, by the fast engine
  Way libipt;  // the same by the libipt engine, code known
};

class Query {
 public:
  virtual ~Query() = default;

  virtual const StoreInfo& store() const = 0;
  /// What answering showed to be damaged, beyond store().damage: bytes are checked when they are read.
  virtual std::vector<DamageRow> damage_met() const = 0;
  /// Reads sideband and scans the packets of that snapshot at the first call. Errors: not_found, corrupt, io,
  /// unsupported.
  virtual Result<const Overview*> overview(size_t snapshot) = 0;
  /// Errors: as overview(), and not_found for an unknown thread.
  virtual Result<std::vector<SliceRow>> slices(size_t snapshot, Tid tid) = 0;

  /// Events in program order for a thread, in trace order for a CPU or stream. Readers must not outlive the Query.
  /// Errors: as overview(); not_found with what there is; usage when not exactly one of tid, cpu and stream is given.
  virtual Result<std::unique_ptr<FlowReader>> flow(const FlowQuestion& question) = 0;
  /// Numbers the instructions of every flow of the snapshot, from 0 on: those that are known, a gap has none. Flows that are
  /// opened afterwards know the numbers (engine fast and Resync::earliest only). Decodes all of the trace, on all CPUs, the
  /// first time. Errors: as overview().
  virtual Result<void> number_instructions(size_t snapshot, const Progress& progress) = 0;
  virtual Result<std::unique_ptr<Reader<CallItem>>> calls(const CallQuestion& question) = 0;
  virtual Result<std::unique_ptr<Reader<TextItem>>> packets(const TextQuestion& question) = 0;
  virtual Result<std::unique_ptr<Reader<TextItem>>> records(const TextQuestion& question) = 0;
  /// In order of time; records that were lost are told whatever is asked for. Errors: as overview(), and not_found where none
  /// were recorded.
  virtual Result<std::unique_ptr<Reader<WaitItem>>> waits(const WaitQuestion& question) = 0;

  /// What a stream or an image holds, whole, for those who hand it on. Ranges of a PT stream that are damaged hold a byte
  /// that begins no packet; damaged sideband ends early. Errors: as overview(); not_found; corrupt for a damaged image.
  virtual Result<SharedBytes> stream_bytes(size_t snapshot, uint32_t id) = 0;
  virtual Result<SharedBytes> image_bytes(size_t snapshot, uint32_t id) = 0;

  /// Reads every chunk and decodes every stream. Differences and damage are in the report, not errors.
  virtual Result<VerifyReport> verify(const VerifyQuestion& question, const Progress& progress) = 0;
  /// Takes about four times `budget` of wall time, or longer where one pass does. Errors: as overview().
  virtual Result<BenchReport> bench(size_t snapshot, std::chrono::duration<double> budget,
                                    const Progress& progress) = 0;
};

struct QueryOptions {
  /// Folders with separate debug files, searched as DIR/.build-id/xx/yyyy.debug.
  std::vector<std::string> debug_dirs{"/usr/lib/debug"};
  /// Where is kept what scans of large streams found, so that they are opened at once the next time. Empty: nowhere.
  std::string scan_folder;
  uint64_t most_scan_bytes = uint64_t{2} << 30;  // of all in the folder
};

/// Opens a local bundle. Errors: not_found, bad_input (not a bundle), version, corrupt, io; each with what to do.
Result<std::unique_ptr<Query>> open_query(const std::string& path, const QueryOptions& options = {});

}  // namespace hindcast::server
