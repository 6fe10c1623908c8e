#include "server/service/incident.h"

#include <sys/random.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "hindcast/result.h"

namespace hindcast::server {
namespace {

constexpr std::array<const char*, 6> kStates{"ordered", "frozen", "durable", "committed", "failed", "removed"};

}  // namespace

const char* name_of(SnapshotState state) { return kStates[static_cast<size_t>(state)]; }

bool state_of(const std::string& name, SnapshotState& state) {
  for (size_t i = 0; i < kStates.size(); ++i) {
    if (name != kStates[i]) continue;
    state = static_cast<SnapshotState>(i);
    return true;
  }
  return false;
}

Result<std::string> committed_host(const Incident& incident, const std::string& host) {
  std::string states, found;
  size_t committed = 0;
  for (const HostSnapshot& h : incident.hosts) {
    states += (states.empty() ? "" : ", ") + h.host + " is " + name_of(h.state);
    if (!h.error.empty()) states += " (" + h.error + ")";
    if (h.state != SnapshotState::committed || (!host.empty() && h.host != host)) continue;
    found = h.host;
    ++committed;
  }
  if (committed == 1) return found;
  if (committed > 1)
    return Error{Errc::usage, "incident " + incident.id + " has bundles of several hosts", states, "name one of them"};
  return Error{
      Errc::not_found,
      "the store has no bundle of " + (host.empty() ? "" : "host " + host + " for ") + "incident " + incident.id,
      states.empty() ? "no host was ordered to freeze" : states,
      {}};
}

uint64_t unix_now_ns() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

std::string new_incident_id(uint64_t now_ns) {
  const std::time_t seconds = static_cast<std::time_t>(now_ns / 1'000'000'000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc);
  uint32_t random = 0;
  HC_CHECK(::getrandom(&random, sizeof random, 0) == sizeof random);
  char tail[16];
  std::snprintf(tail, sizeof tail, "-%08x", random);
  return std::string(text) + tail;
}

}  // namespace hindcast::server
