// The records of a perf.data file as sideband streams: one per CPU, all with the same trailer.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "hindcast/perf_record.h"
#include "server/import/imported.h"
#include "server/import/perf_file.h"

namespace hindcast::server {

class PerfSideband {
 public:
  /// Errors: unsupported when the attrs do not say how trailers look.
  static Result<PerfSideband> make(const std::vector<PerfAttr>& attrs);

  /// One record of the kernel's types, SAMPLE excepted. Errors: bad_input when its trailer cannot be read.
  Result<void> add(const perf::Record& record);

  /// What mappings name: path and build-id (hex; empty when the record has none); true when one of them is executable.
  const std::map<std::pair<std::string, std::string>, bool>& files() const { return files_; }

  /// Gives the streams over to out: first that of no CPU, sorted by time; CPUs' as they were written.
  /// Errors: too_large.
  Result<void> make_streams(Imported& out);

 private:
  Result<uint64_t> sample_type_of(const perf::Record& record) const;
  void note_file(const perf::Record& record, size_t trailer);

  std::vector<uint64_t> sample_types_;  // by attr
  std::map<uint64_t, size_t> by_id_;
  bool uniform_ = true;
  std::map<uint32_t, std::vector<uint8_t>> cpus_;
  struct Shared {
    uint64_t time;
    std::vector<uint8_t> bytes;
  };
  std::vector<Shared> shared_;
  std::map<std::pair<std::string, std::string>, bool> files_;
};

}  // namespace hindcast::server
