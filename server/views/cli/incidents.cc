// Incidents of a server, for a person and for programs.
#include <algorithm>

#include "server/views/cli/json.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/table.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

constexpr size_t kShown = 20, kPage = 500, kMost = 100000;

std::string hosts_text(const RemoteIncident& incident) {
  std::string s;
  constexpr size_t kNamed = 3;
  for (size_t i = 0; i < incident.hosts.size() && i < kNamed; ++i)
    s += (s.empty() ? "" : ", ") + printable(incident.hosts[i].host) + " " + printable(incident.hosts[i].state);
  if (incident.hosts.size() > kNamed) s += ", " + std::to_string(incident.hosts.size() - kNamed) + " more";
  return s.empty() ? "none" : s;
}

uint64_t bytes_of(const RemoteIncident& incident) {
  uint64_t n = 0;
  for (const RemoteSnapshot& h : incident.hosts) n += h.bytes;
  return n;
}

}  // namespace

std::string state_words(const RemoteSnapshot& s) {
  const std::string why = s.error.empty() ? "" : ": " + printable(s.error);
  if (s.state == "ordered") return "ordered, not frozen yet: the host has not answered" + why;
  if (s.state == "frozen") return "frozen, not durable yet: lost if the host goes down now" + why;
  if (s.state == "durable") return "durable on the host, not on the server yet" + why;
  if (s.state == "committed") return "committed: on the server, whole and checked";
  if (s.state == "failed") return "failed" + (why.empty() ? std::string(": the host does not say why") : why);
  if (s.state == "removed") return "removed from the server" + why;
  return printable(s.state) + why;
}

void print_incidents(Output& out, const std::vector<RemoteIncident>& incidents) {
  Table table({"incident", "when", "by", ">size", "hosts", "reason"});
  for (const RemoteIncident& i : incidents)
    table.row({i.id, utc_text(i.created_ns), printable(i.trigger), bytes_of(i) ? size_text(bytes_of(i)) : "-",
               hosts_text(i), printable(i.reason)});
  table.print(out);
}

void json_incident(Output& out, const RemoteIncident& i) {
  Json alerts = Json::array(), hosts = Json::array();
  for (const RemoteAlert& a : i.alerts)
    alerts.push_back({{"fingerprint", a.fingerprint},
                      {"starts_at", a.starts_at},
                      {"labels", a.labels},
                      {"annotations", a.annotations}});
  for (const RemoteSnapshot& h : i.hosts)
    hosts.push_back({{"host", h.host},
                     {"state", h.state},
                     {"ordered_unix_ns", h.ordered_ns},
                     {"frozen_unix_ns", h.frozen_ns},
                     {"durable_unix_ns", h.durable_ns},
                     {"committed_unix_ns", h.committed_ns},
                     {"bytes", h.bytes},
                     {"error", h.error}});
  json_line(out, {{"type", "incident"},
                  {"incident", i.id},
                  {"created_unix_ns", i.created_ns},
                  {"reason", i.reason},
                  {"trigger", i.trigger},
                  {"alerts", std::move(alerts)},
                  {"hosts", std::move(hosts)}});
}

int answer_with(const Request& request, const RemoteIncident& incident) {
  Output out;
  if (request.json)
    json_incident(out, incident);
  else
    out.line(incident.id);
  const auto done = out.finish();
  return done.ok() ? kDone : fail(done.error());
}

int list_incidents(const Request& request) {
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  std::vector<RemoteIncident> all;
  bool more = true;
  const size_t page = request.verbose || request.json ? kPage : kShown;
  do {
    auto next = remote->incidents(page, all.empty() ? "" : all.back().id);
    if (!next.ok()) return fail(next.error());
    more = next->size() >= page;
    std::move(next->begin(), next->end(), std::back_inserter(all));
  } while (more && page == kPage && all.size() < kMost);
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  if (request.json)
    for (const RemoteIncident& i : all) json_incident(out, i);
  else
    print_incidents(out, all);
  if (const auto done = out.finish(); !done.ok()) return fail(done.error());
  if (all.empty()) say("no incident yet; freeze all hosts now:  hindcast snapshot --server " + remote->url());
  if (more) say("older ones:  hindcast ls -v --server " + remote->url());
  return kDone;
}

}  // namespace hindcast::server::cli
