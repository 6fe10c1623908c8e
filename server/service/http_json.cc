#include "server/service/http_json.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "server/service/run_options.h"
#include "transport/errc_name.h"
#include "transport/json_depth.h"
#include "transport/names.h"
#include "transport/one_line.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kMaxDepth = 8;
constexpr size_t kMaxHosts = 1000;

/// Bytes that are no UTF-8 (a host may put them into an error) must not cost the answer.
std::string text_of(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

Error bad_request(const std::string& found) {
  return {Errc::bad_input, "refused a request: its body is not what this address takes", found, {}};
}

Result<Json> parse_object(std::string_view body) {
  if (body.size() > kMaxRequestBytes)
    return Error{Errc::too_large,
                 "refused a request: its body is too large",
                 "at most " + std::to_string(kMaxRequestBytes) + " bytes",
                 {}};
  if (transport::nested_deeper_than(body, kMaxDepth))
    return bad_request("JSON nested deeper than " + std::to_string(kMaxDepth));
  Json j = Json::parse(body, nullptr, false);
  if (!j.is_object()) return bad_request("no JSON object");
  return j;
}

/// Every member is one of these: a misspelt one must not be ignored.
Result<void> only(const Json& object, std::initializer_list<const char*> names) {
  for (const auto& [key, value] : object.items()) {
    bool known = false;
    std::string all;
    for (const char* name : names) {
      known = known || key == name;
      all += (all.empty() ? "'" : ", '") + std::string(name) + "'";
    }
    if (!known) return bad_request("'" + transport::one_line(key, 100) + "'; known are " + all);
  }
  return {};
}

Result<std::string> text_member(const Json& object, const char* name, bool needed) {
  const auto it = object.find(name);
  if (it == object.end() && !needed) return std::string();
  if (it == object.end() || !it->is_string()) return bad_request("no text '" + std::string(name) + "'");
  return it->get<std::string>();
}

Result<std::vector<std::string>> text_list(const Json& object, const char* name, size_t most) {
  std::vector<std::string> all;
  const auto it = object.find(name);
  if (it == object.end()) return all;
  if (!it->is_array() || it->size() > most)
    return bad_request("'" + std::string(name) + "' is no list of at most " + std::to_string(most) + " texts");
  for (const Json& item : *it) {
    if (!item.is_string()) return bad_request("'" + std::string(name) + "' holds something that is no text");
    all.push_back(item.get<std::string>());
  }
  return all;
}

Json json_of(const Incident& incident) {
  Json alerts = Json::array(), hosts = Json::array();
  for (const Alert& a : incident.alerts)
    alerts.push_back({{"fingerprint", a.fingerprint},
                      {"starts_at", a.starts_at},
                      {"labels", Json(a.labels)},
                      {"annotations", Json(a.annotations)}});
  for (const HostSnapshot& h : incident.hosts)
    hosts.push_back({{"host", h.host},
                     {"state", name_of(h.state)},
                     {"ordered_unix_ns", h.ordered_ns},
                     {"frozen_unix_ns", h.frozen_ns},
                     {"durable_unix_ns", h.durable_ns},
                     {"committed_unix_ns", h.committed_ns},
                     {"bytes", h.bytes},
                     {"error", h.error}});
  return {{"incident", incident.id},     {"created_unix_ns", incident.created_ns},
          {"reason", incident.reason},   {"trigger", incident.trigger},
          {"alerts", std::move(alerts)}, {"hosts", std::move(hosts)}};
}

}  // namespace

Result<SnapshotState> wait_of(const std::string& text) {
  SnapshotState state{};
  if (state_of(text, state) && state >= SnapshotState::frozen && state <= SnapshotState::committed) return state;
  return bad_request("wait '" + transport::one_line(text, 50) + "'; it may be frozen, durable or committed");
}

Result<std::chrono::milliseconds> timeout_of(const std::string& text) {
  int64_t ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error != std::errc() || end != text.data() + text.size() || ms < 0 || ms > kLongestWait.count())
    return bad_request("timeout_ms '" + transport::one_line(text, 50) + "'; it may be 0 to " +
                       std::to_string(kLongestWait.count()));
  return std::chrono::milliseconds(ms);
}

Result<std::string> reason_of(const std::string& text) {
  if (text.empty() || text.size() > kMaxReasonBytes)
    return bad_request("a reason of " + std::to_string(text.size()) + " bytes; it may have 1 to " +
                       std::to_string(kMaxReasonBytes));
  return transport::one_line(text, kMaxReasonBytes);
}

Result<SnapshotRequest> read_snapshot_request(std::string_view body) {
  HC_TRY(const Json j, parse_object(body));
  HC_TRY_VOID(only(j, {"reason", "hosts", "wait", "timeout_ms"}));
  SnapshotRequest request;
  HC_TRY(const std::string reason, text_member(j, "reason", true));
  HC_TRY(request.reason, reason_of(reason));
  HC_TRY(request.hosts, text_list(j, "hosts", kMaxHosts));
  if (j.contains("hosts") && request.hosts.empty())
    return bad_request("'hosts' is empty; leave it away for all known hosts");
  HC_TRY(const std::string wait, text_member(j, "wait", false));
  if (j.contains("wait")) {
    HC_TRY(request.wait, wait_of(wait));
  }
  if (j.contains("timeout_ms")) {
    if (!j["timeout_ms"].is_number_integer()) return bad_request("'timeout_ms' is no whole number");
    HC_TRY(request.timeout, timeout_of(j["timeout_ms"].dump()));
  }
  return request;
}

Result<RunRequest> read_run_request(std::string_view body) {
  HC_TRY(const Json j, parse_object(body));
  HC_TRY_VOID(only(j, {"command", "incident", "host", "options"}));
  RunRequest request;
  HC_TRY(request.command, text_member(j, "command", true));
  HC_TRY(request.incident, text_member(j, "incident", true));
  HC_TRY(request.host, text_member(j, "host", false));
  HC_TRY(request.options, text_list(j, "options", kMaxHosts));
  if (!transport::is_name(request.incident))
    return bad_request("an incident that is not " + std::string(transport::kNameRule));
  if (j.contains("host") && !transport::is_name(request.host))
    return bad_request("a host that is not " + std::string(transport::kNameRule));
  HC_TRY_VOID(check_run(request.command, request.options));
  return request;
}

int http_status_of(Errc code) {
  switch (code) {
    case Errc::bad_input:
    case Errc::usage:
    case Errc::version:
    case Errc::unsupported:
    case Errc::corrupt:
      return 400;
    case Errc::permission:
      return 403;
    case Errc::not_found:
      return 404;
    case Errc::too_large:
      return 413;
    case Errc::unavailable:
      return 503;
    case Errc::io:
      return 500;
  }
  return 500;
}

std::string error_json(const Error& error) {
  return text_of(
      {{"error",
        {{"code", transport::name_of(error.code)}, {"what", error.what}, {"found", error.found}, {"fix", error.fix}}}});
}

std::string incident_json(const Incident& incident) { return text_of(json_of(incident)); }

std::string incidents_json(const std::vector<Incident>& incidents) {
  Json all = Json::array();
  for (const Incident& i : incidents) all.push_back(json_of(i));
  return text_of({{"incidents", std::move(all)}});
}

std::string webhook_json(const AlertOutcome& outcome) {
  return text_of({{"incident", outcome.incident.empty() ? Json() : Json(outcome.incident)},
                  {"new", outcome.created},
                  {"alerts", outcome.new_alerts}});
}

std::string status_json(const StatusReport& r) {
  using std::chrono::milliseconds;
  Json hosts = Json::array();
  for (const transport::HostView& v : r.hosts)
    hosts.push_back(
        {{"host", v.host},
         {"connected", v.connected},
         {"program", v.program},
         {"capabilities", v.capabilities},
         {"state", v.status.state},
         {"heard_ago_ms", v.heard_ago.count() < 0 ? -1 : std::chrono::floor<milliseconds>(v.heard_ago).count()},
         {"spool_bytes", v.status.spool_bytes},
         {"spool_limit_bytes", v.status.spool_limit_bytes},
         {"snapshots_waiting", v.status.snapshots_waiting},
         {"notes", v.status.notes},
         {"open_snapshots", v.open_snapshots},
         {"bytes_under_way", v.bytes_under_way}});
  return text_of({{"version", r.version},
                  {"started_unix_ns", r.started_ns},
                  {"transport", r.transport},
                  {"http", r.http},
                  {"store",
                   {{"folder", r.folder},
                    {"bytes", r.bytes},
                    {"limit_bytes", r.limit_bytes},
                    {"incidents", r.totals.incidents},
                    {"alerts", r.totals.alerts},
                    {"snapshots", r.totals.snapshots}}},
                  {"counters", r.counters},
                  {"hosts", std::move(hosts)}});
}

}  // namespace hindcast::server
