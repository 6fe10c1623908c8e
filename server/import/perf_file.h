// The outer parts of a perf.data file: header, attrs, features. Every offset, length and count is checked here.
#pragma once

#include <linux/perf_event.h>

#include <map>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/perf_file.h"
#include "hindcast/result.h"

namespace hindcast::server {

struct PerfAttr {
  perf_event_attr attr{};  // fields that the file does not have are 0
  std::vector<uint64_t> ids;
};

struct PerfFile {
  std::vector<PerfAttr> attrs;            // at least one
  ByteSpan data;                          // the events
  std::map<uint32_t, ByteSpan> features;  // by bit; borrowed from the file

  /// A feature that is one counted text; empty when it is not there or broken.
  std::string text(uint32_t feature) const;
};

/// Errors: bad_input, unsupported (a pipe, another byte order, a folder's file), too_large.
Result<PerfFile> read_perf_file(ByteSpan file);

/// The Error of everything that is wrong inside: "cannot import the perf.data file: ...".
Error bad_perf_file(const std::string& why, const std::string& found = {});

}  // namespace hindcast::server
