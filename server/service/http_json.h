// JSON of the HTTP interface, version 1: what requests ask and answers say.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/result.h"
#include "server/service/catalog.h"
#include "server/service/incident.h"
#include "transport/receiver.h"

namespace hindcast::server {

inline constexpr size_t kMaxRequestBytes = size_t{1} << 20;
inline constexpr std::chrono::milliseconds kLongestWait{600'000};
inline constexpr size_t kMaxReasonBytes = 1000;

struct SnapshotRequest {
  std::string reason;
  std::vector<std::string> hosts;  // empty: all
  SnapshotState wait = SnapshotState::frozen;
  std::chrono::milliseconds timeout{30'000};
};
/// Errors: bad_input, too_large.
Result<SnapshotRequest> read_snapshot_request(std::string_view body);

struct RunRequest {
  std::string command, incident, host;  // host empty: the only one
  std::vector<std::string> options;
};
/// Errors: bad_input, too_large; usage for what check_run() refuses.
Result<RunRequest> read_run_request(std::string_view body);

/// "frozen", "durable" or "committed". Errors: bad_input.
Result<SnapshotState> wait_of(const std::string& text);
/// A whole number of milliseconds up to kLongestWait. Errors: bad_input.
Result<std::chrono::milliseconds> timeout_of(const std::string& text);
/// What a person may give as a reason. Errors: bad_input when empty or longer than kMaxReasonBytes.
Result<std::string> reason_of(const std::string& text);

struct StatusReport {
  std::string version, transport, http, folder;
  uint64_t started_ns = 0, bytes = 0, limit_bytes = 0;  // limit 0: none
  CatalogTotals totals;
  std::map<std::string, uint64_t> counters;
  std::vector<transport::HostView> hosts;  // heard_ago negative: never heard of
};

std::string error_json(const Error& error);
std::string incident_json(const Incident& incident);
std::string incidents_json(const std::vector<Incident>& incidents);
std::string webhook_json(const AlertOutcome& outcome);
std::string status_json(const StatusReport& report);

int http_status_of(Errc code);

}  // namespace hindcast::server
