// Bodies of /v1/snapshots and /v1/run: what is taken keeps the rules of those who act on it.
#include <algorithm>

#include "server/service/http_json.h"
#include "server/service/run_options.h"
#include "tests/fuzz/fuzz_support.h"
#include "transport/names.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static const char kRun[] =
      R"( {"command":"show","incident":"20261126T104501Z-3f2a9c0b","host":"web-1","options":["--tid=4711","--json"]})";
  static const char kSnapshot[] = R"(!{"reason":"slow","hosts":["web-1","web-2"],"wait":"durable","timeout_ms":30000})";
  const hindcast::ByteSpan seed =
      random % 2 ? hindcast::ByteSpan{reinterpret_cast<const uint8_t*>(kRun), sizeof kRun - 1}
                 : hindcast::ByteSpan{reinterpret_cast<const uint8_t*>(kSnapshot), sizeof kSnapshot - 1};
  return hindcast::mutate_from_template(seed, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;          // NOLINT
  using namespace hindcast::server;  // NOLINT
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 2 == 0) {
    const auto r = read_run_request(body);
    if (!r.ok()) {
      MUST(error_json(r.error()).size() > 2);
      return 0;
    }
    MUST(transport::is_name(r->incident) && (r->host.empty() || transport::is_name(r->host)));
    MUST(check_run(r->command, r->options).ok());
    for (const std::string& o : r->options) {
      MUST(o.starts_with("--"));
      for (const char* file : {"--output", "--truth", "--debug-dir"}) MUST(!o.starts_with(file));
      MUST(std::all_of(o.begin(), o.end(), [](char c) { return c >= 0x20 && c < 0x7f; }));
    }
    return 0;
  }
  const auto r = read_snapshot_request(body);
  if (!r.ok()) {
    MUST(error_json(r.error()).size() > 2);
    return 0;
  }
  MUST(!r->reason.empty() && r->reason.size() <= kMaxReasonBytes);
  MUST(r->timeout >= std::chrono::milliseconds(0) && r->timeout <= kLongestWait);
  MUST(r->wait >= SnapshotState::frozen && r->wait <= SnapshotState::committed);
  return 0;
}
