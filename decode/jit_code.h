// What the jitdumps and perf maps of a snapshot say: which code was where from when on, and what it is called.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decode/host_trace.h"
#include "decode/jit_layer.h"
#include "decode/jitdump.h"
#include "decode/perf_map.h"
#include "hindcast/cut.h"
#include "hindcast/decoder.h"

namespace hindcast::decode {

/// A moment of a jitdump on the record clock; unknown() when it cannot be said.
struct JitTimes {
  std::function<Interval<RecordTime>(uint64_t ns)> monotonic;
  std::function<Interval<RecordTime>(uint64_t ticks)> tsc;
};

class JitCode {
 public:
  /// Reads the images, which stay in memory. Those that cannot be read are among the gaps.
  void read(const SnapshotInfo& info, ByteSource& source);
  /// Every claim in the order of the files. A time that cannot be said makes unknown code, and so does everything behind
  /// damage where the damage may have told of other code.
  void tell(const JitTimes& times, const std::function<void(Pid, const JitClaim&)>& told);
  std::vector<HostGap>& gaps() { return gaps_; }

  /// The function whose bytes are at the offset in a jitdump, or, without one, what the process's perf map names.
  std::optional<MadeFunction> function(Pid pid, const std::optional<CodeLocation>& where, Ip ip) const;

 private:
  struct Dump {
    uint32_t image;
    Pid pid;
    SharedBytes bytes;
    JitDump dump;
    std::vector<uint32_t> by_offset;  // the loads, by the offset of their bytes
  };
  struct Map {
    SharedBytes bytes;
    PerfMap map;
  };
  void read_dump(const ImageInfo& image, SharedBytes bytes);
  void gap(GapCause cause, uint64_t bytes, std::string words);

  std::map<uint32_t, Dump> dumps_;  // by image
  std::map<Pid, Map> maps_;
  std::vector<HostGap> gaps_;
};

}  // namespace hindcast::decode
