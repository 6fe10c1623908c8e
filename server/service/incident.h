// Incidents and their snapshots as plain values: what the catalog keeps and the HTTP answers say.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::server {

/// How far one host's snapshot has come. Only ever goes forward, except that what failed may still arrive.
enum class SnapshotState : uint8_t {
  ordered,    // the server wants it; the host has not answered
  frozen,     // the host's rings are stopped; not durable
  durable,    // in the host's spool: survives loss of power there
  committed,  // in the server's store, verified and fsynced
  failed,     // see error; the host or the server gave up on it
  removed,    // was committed; the bundle is gone from the store, and error says why
};
const char* name_of(SnapshotState state);
/// False for a text that names none.
bool state_of(const std::string& name, SnapshotState& state);

/// Times are nanoseconds since 1970, 0: not yet.
struct HostSnapshot {
  std::string host;
  SnapshotState state = SnapshotState::ordered;
  uint64_t ordered_ns = 0, frozen_ns = 0, durable_ns = 0, committed_ns = 0;
  uint64_t bytes = 0;  // of the bundle: as the host says until it is committed
  std::string error;
};

using Labels = std::map<std::string, std::string>;

struct Alert {
  std::string fingerprint;
  std::string starts_at;  // RFC 3339 in UTC, one spelling for each moment
  Labels labels, annotations;
};

struct Incident {
  std::string id;
  uint64_t created_ns = 0;
  std::string reason;
  std::string trigger;  // "snapshot", "alert" or "upload"
  std::vector<Alert> alerts;
  std::vector<HostSnapshot> hosts;  // by name
};

/// The host whose bundle of this incident is in the store; `host` empty: the only one. Errors: not_found with how far they
/// are; usage when there are several.
Result<std::string> committed_host(const Incident& incident, const std::string& host);

/// Nanoseconds since 1970.
uint64_t unix_now_ns();

/// Not to be guessed and, in all likelihood, never the same twice: "20261126T104501Z-3f2a9c0b".
std::string new_incident_id(uint64_t now_ns);

}  // namespace hindcast::server
