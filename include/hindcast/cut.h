// What a freeze takes, as plain values: the hand-over from capture to transport to decode.
//
// A Snapshot is one host's frozen window: streams (one ring's bytes each), images (code bytes) and what one must know
// to read them. Bytes are owned where they are made and borrowed where they are read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/pt_config.h"
#include "hindcast/units.h"

namespace hindcast {

enum class StreamKind : uint8_t {
  pt = 1,        // Intel PT packets of one CPU (or one thread), oldest byte first
  sideband = 2,  // perf records (perf_record.h) of one CPU, or synthesised ones (cpu = kNoCpu), oldest first
  clocks = 3,    // clock samples (clock_sample.h)
  waits = 4,     // who slept, who woke whom, messages (wait_record.h)
  net = 5,       // reserved
};

/// Describes one stream. All offsets are bytes in that stream.
struct StreamInfo {
  uint32_t id = 0;  // unique in its snapshot, > 0
  StreamKind kind = StreamKind::pt;
  CpuId cpu = kNoCpu;  // the CPU whose ring it was
  Tid tid = kNoTid;    // for PT traced per thread: whose it is; else kNoTid
  uint64_t bytes = 0;
  uint64_t ring_bytes = 0;  // capacity of the ring; 0 when unknown (imports)
  bool wrapped = false;     // older bytes were overwritten: the first bytes may be the tail of a packet; of sideband:
                            // older context switches were dropped, and it may begin with the last one of these
  std::vector<uint64_t> cuts;  // offsets where earlier freezes cut it: packets may be broken there
  uint64_t sample_type = 0;    // sideband: what the records' sample_id trailers hold
  uint64_t lost_bytes = 0;     // bytes known to be lost before reaching the ring's reader
};

enum class ImageKind : uint8_t {
  elf = 1,       // a whole ELF file
  memory = 2,    // raw bytes as they stood in a process or in the kernel
  jitdump = 3,   // the jit-PID.dump that a process mapped, as it was at the freeze (decode/jitdump.h)
  perf_map = 4,  // the perf-PID.map of a process, as it was at the freeze (decode/perf_map.h)
  kallsyms = 5,  // the names of the kernel's code (kallsyms.h)
};

/// Code bytes, or what a process or the kernel says of its code, stored once per content.
struct ImageInfo {
  uint32_t id = 0;  // unique in its snapshot, > 0
  ImageKind kind = ImageKind::elf;
  std::string build_id;  // lower-case hex of the GNU build-id note; empty when there is none
  std::string path;      // as MMAP2 records name it; "[vdso]" and "//anon" as the kernel writes them
  uint64_t bytes = 0;
  Pid pid = kNoPid;  // jitdump, perf_map: whose code it is about
};

/// Places an image in a process. Files named by MMAP2 records need none: they are placed by those records. Used for
/// memory copies (anonymous code, vdso, page caches) and for imports without mmap records.
struct PlacementInfo {
  Pid pid = kNoPid;      // kNoPid: in every process (kernel text, single-image imports)
  uint64_t address = 0;  // of the image's byte `image_offset`
  uint64_t length = 0;
  uint64_t image_offset = 0;
  uint32_t image = 0;
  RecordTime from{0};  // valid in [from, to] on the record clock, or at those times and until a later one covers it
  RecordTime to = RecordTime::max();
  Tid by =
      kNoTid;  // whose system call at `from` made the bytes code: before for all that it ran until then, after for the
               // rest; kNoTid: nobody's, or not known
};

/// Executable memory of which nobody can say what it held: it may have been written in this time.
struct UnknownCode {
  Pid pid = kNoPid;
  uint64_t address = 0;
  uint64_t length = 0;
  RecordTime from{0};  // in [from, to] on the record clock
  RecordTime to = RecordTime::max();
};

struct SnapshotInfo {
  std::string host;      // host name, or the import's origin
  std::string source;    // "simulated", "perf", "import:raw", "import:lldb", "import:pevent"
  std::string incident;  // empty for `hindcast record` and imports
  std::string command;   // what was recorded, shell-quoted; may be empty
  uint64_t created_unix_ns = 0;
  // When tracing began, and when the rings were taken: all that they hold lies between. Tsc::min(), Tsc::max(): unknown.
  TscInterval traced = TscInterval::unknown();
  PtOptions pt;
  PtCpu cpu;  // the same for every CPU of a snapshot unless cpu_overrides says otherwise
  TscConversion clock;
  std::string record_clock = "perf";  // the clock of record times: "perf" (scheduler clock), "monotonic_raw", ...
  bool user_only = true;              // the kernel was not traced
  std::vector<StreamInfo> streams;
  std::vector<ImageInfo> images;
  std::vector<PlacementInfo> placements;
  std::vector<UnknownCode> unknown_code;
  std::vector<Pid> root_pids;      // processes the recording was about; empty: everything
  std::vector<std::string> notes;  // words for the reader: what was degraded, dropped or refused, one line each
};

/// One stream with its bytes. What capture hands to transport.
struct Cut {
  StreamInfo info;
  std::vector<uint8_t> bytes;  // size() == info.bytes
};

}  // namespace hindcast
