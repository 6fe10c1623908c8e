// hindcast status: a server, its hosts and its last incidents.
#include <CLI/CLI.hpp>
#include <ctime>

#include "server/views/cli/json.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/table.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

constexpr size_t kLastIncidents = 5;

/// "3 s", "12 min", "5 h", "3 d".
std::string age_text(uint64_t seconds) {
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  if (seconds < 2 * 86400) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " d";
}

std::string of_limit(uint64_t bytes, uint64_t limit) {
  return size_text(bytes) + (limit ? " of " + size_text(limit) : ", no limit");
}

void status_text(Output& out, const Remote& remote, const RemoteStatus& s,
                 const std::vector<RemoteIncident>& incidents) {
  const uint64_t now = static_cast<uint64_t>(std::time(nullptr)), started = s.started_ns / 1'000'000'000;
  field(out, "server",
        remote.url() + ", hindcast-server " + printable(s.version) + ", up " +
            age_text(now > started ? now - started : 0));
  field(out, "hosts at", printable(s.transport));
  field(out, "store",
        printable(s.folder) + ", " + of_limit(s.store_bytes, s.store_limit_bytes) + ", " +
            count_text(s.snapshots, "bundle"));
  heading(out, "HOSTS", s.hosts.size());
  Table hosts({"host", "connected", "state", ">heard", "spool", ">waiting", "program"});
  for (const RemoteHost& h : s.hosts)
    hosts.row({printable(h.host), h.connected ? "yes" : "no", h.state.empty() ? "-" : printable(h.state),
               h.heard_ago_ms < 0 ? "never" : age_text(static_cast<uint64_t>(h.heard_ago_ms) / 1000) + " ago",
               h.heard_ago_ms < 0 ? "-" : of_limit(h.spool_bytes, h.spool_limit_bytes),
               h.heard_ago_ms < 0 ? "-" : std::to_string(h.snapshots_waiting),
               h.program.empty() ? "-" : printable(h.program)});
  hosts.print(out);
  for (const RemoteHost& h : s.hosts)
    for (const std::string& note : h.notes)
      out.line("  " + out.paint(Colour::yellow, printable(h.host) + ": " + printable(note)));
  heading(out, "INCIDENTS", s.incidents);
  print_incidents(out, incidents);
}

void status_json(Output& out, const Remote& remote, const RemoteStatus& s,
                 const std::vector<RemoteIncident>& incidents) {
  json_line(out, {{"type", "server"},
                  {"url", remote.url()},
                  {"version", s.version},
                  {"started_unix_ns", s.started_ns},
                  {"transport", s.transport},
                  {"folder", s.folder},
                  {"bytes", s.store_bytes},
                  {"limit_bytes", s.store_limit_bytes},
                  {"incidents", s.incidents},
                  {"snapshots", s.snapshots},
                  {"counters", s.counters}});
  for (const RemoteHost& h : s.hosts)
    json_line(out, {{"type", "host"},
                    {"host", h.host},
                    {"connected", h.connected},
                    {"program", h.program},
                    {"state", h.state},
                    {"heard_ago_ms", h.heard_ago_ms},
                    {"spool_bytes", h.spool_bytes},
                    {"spool_limit_bytes", h.spool_limit_bytes},
                    {"snapshots_waiting", h.snapshots_waiting},
                    {"notes", h.notes}});
  for (const RemoteIncident& i : incidents) json_incident(out, i);
}

int status(const Request& request) {
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  const auto s = remote->status();
  if (!s.ok()) return fail(s.error());
  const auto incidents = remote->incidents(kLastIncidents);
  if (!incidents.ok()) return fail(incidents.error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  (request.json ? status_json : status_text)(*opened, *remote, *s, *incidents);
  const auto done = opened->finish();
  return done.ok() ? kDone : fail(done.error());
}

}  // namespace

void add_status(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("status", "a server, its hosts and its last incidents");
  add_needed_server(*sub, request);
  add_answer_flags(*sub, request);
  sub->footer(
      "What is wrong with them, if anything, and what to do:  hindcast doctor --server URL\n"
      "\n"
      "Examples:\n"
      "  hindcast status --server http://127.0.0.1:7412\n"
      "  hindcast status --server http://127.0.0.1:7412 --json | jq 'select(.type==\"host\")'");
  sub->callback([&request, &chosen] { chosen = [&request] { return status(request); }; });
}

}  // namespace hindcast::server::cli
