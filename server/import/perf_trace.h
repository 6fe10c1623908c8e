// The PT bytes of a perf.data file: AUXTRACE records joined to one stream per CPU or thread.
#pragma once

#include <vector>

#include "hindcast/perf_file.h"
#include "server/import/imported.h"

namespace hindcast::server {

class PerfTrace {
 public:
  /// The trace behind one AUXTRACE record; borrowed until the streams are made. In file order.
  void add(const perf::AuxtraceBody& record, ByteSpan trace) { chunks_.push_back({record, trace}); }
  bool empty() const { return chunks_.empty(); }

  /// snapshot_mode: each chunk is what a ring held at one moment, so tracing may have stopped between two of them.
  /// Errors: bad_input (of nobody, or a chunk before the begin of its stream), too_large.
  Result<void> make_streams(bool snapshot_mode, Imported& out) const;

 private:
  struct Chunk {
    perf::AuxtraceBody record;
    ByteSpan trace;
  };
  std::vector<Chunk> chunks_;
};

}  // namespace hindcast::server
