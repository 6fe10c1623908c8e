// What a hindcast-server tells of itself and of its incidents, as plain values. Times are Unix nanoseconds, 0: not yet.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hindcast::server {

/// How far one host's snapshot is. state: ordered, frozen, durable, committed, failed or removed (server/README.md).
struct RemoteSnapshot {
  std::string host, state;
  uint64_t ordered_ns = 0, frozen_ns = 0, durable_ns = 0, committed_ns = 0;
  uint64_t bytes = 0;
  std::string error;
};

struct RemoteAlert {
  std::string fingerprint, starts_at;
  std::map<std::string, std::string> labels, annotations;
};

struct RemoteIncident {
  std::string id;
  uint64_t created_ns = 0;
  std::string reason, trigger;
  std::vector<RemoteAlert> alerts;
  std::vector<RemoteSnapshot> hosts;
};

/// A host that the server's allow-list names.
struct RemoteHost {
  std::string host;
  bool connected = false;
  std::string program, state;
  int64_t heard_ago_ms = -1;  // -1: never heard of
  uint64_t spool_bytes = 0, spool_limit_bytes = 0, snapshots_waiting = 0;
  std::vector<std::string> notes;
};

struct RemoteStatus {
  std::string version, transport, http, folder;
  uint64_t started_ns = 0;
  uint64_t store_bytes = 0, store_limit_bytes = 0;  // limit 0: none
  uint64_t incidents = 0, snapshots = 0;
  std::map<std::string, uint64_t> counters;
  std::vector<RemoteHost> hosts;
};

}  // namespace hindcast::server
