// hindcast doctor --server: whether a server can freeze its hosts and keep what they send.
#include "server/views/cli/json.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct Finding {
  std::string name, state, found, needed, consequence, fix;  // state: ok, missing or degraded, as for this machine
};

Finding host_finding(const RemoteHost& h, const std::string& transport) {
  Finding f{"host " + printable(h.host), "ok", {}, "a connection of its hindcastd", {}, {}};
  if (!h.connected) {
    f.state = "missing";
    f.found = h.heard_ago_ms < 0 ? "never heard of since the server's start"
                                 : "not connected; heard " + std::to_string(h.heard_ago_ms / 1000) + " s ago";
    f.consequence = "it is frozen late or never";
    f.fix = "start hindcastd there, with server.endpoint = \"" + printable(transport) + "\"; its log says what it met";
    return f;
  }
  f.found = printable(h.program) + ", " + printable(h.state) + ", spool " + size_text(h.spool_bytes) + " of " +
            size_text(h.spool_limit_bytes);
  for (const std::string& note : h.notes) f.found += "; " + printable(note);
  if (h.spool_bytes >= h.spool_limit_bytes / 10 * 9 && h.snapshots_waiting > 0) {
    f.state = "degraded";
    f.needed = "room in the spool";
    f.consequence = "further snapshots may fail there";
    f.fix = "see why " + std::to_string(h.snapshots_waiting) + " snapshots wait, or raise spool.limit";
  }
  return f;
}

std::vector<Finding> findings_of(const Remote& remote, const RemoteStatus& s) {
  std::vector<Finding> all;
  all.push_back({"server " + remote.url(), "ok", "hindcast-server " + printable(s.version), {}, {}, {}});
  Finding store{"store", "ok", printable(s.folder) + ", " + size_text(s.store_bytes), "room", {}, {}};
  if (s.store_limit_bytes > 0) store.found += " of " + size_text(s.store_limit_bytes);
  if (s.store_limit_bytes > 0 && s.store_bytes >= s.store_limit_bytes / 10 * 9) {
    store.state = "degraded";
    store.consequence = "snapshots stay on their hosts when it is full";
    store.fix = "raise store.limit, or set store.keep_bytes or store.keep_age below it";
  }
  all.push_back(store);
  if (s.hosts.empty())
    all.push_back({"hosts", "missing", "the allow-list names none", "at least one", "there is nothing to freeze",
                   "hindcast keygen HOST, and the line that it prints into the allow-list"});
  for (const RemoteHost& h : s.hosts) all.push_back(host_finding(h, s.transport));
  return all;
}

void print(Output& out, const Finding& f) {
  const Colour colour = f.state == "ok" ? Colour::green : f.state == "missing" ? Colour::red : Colour::yellow;
  out.line(out.paint(colour, pad_right(f.state, 10)) + f.name);
  const auto more = [&](const char* what, const std::string& text) {
    if (!text.empty()) out.line("            " + pad_right(what, 8) + text);
  };
  more("found", f.found);
  if (f.state == "ok") return;
  more("needed", f.needed);
  more("so", f.consequence);
  more("fix", f.fix);
}

}  // namespace

int server_doctor(const Request& request) {
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  const auto s = remote->status();
  if (!s.ok()) return fail(s.error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  bool can_freeze = true;
  for (const Finding& f : findings_of(*remote, *s)) {
    can_freeze = can_freeze && f.state != "missing";
    if (request.json)
      json_line(*opened, {{"type", "ability"},
                          {"name", f.name},
                          {"state", f.state},
                          {"found", f.found},
                          {"needed", f.needed},
                          {"consequence", f.consequence},
                          {"fix", f.fix}});
    else
      print(*opened, f);
  }
  if (request.json) json_line(*opened, {{"type", "summary"}, {"can_freeze", can_freeze}});
  const auto done = opened->finish();
  if (!done.ok()) return fail(done.error());
  return can_freeze ? kDone : kFailed;
}

}  // namespace hindcast::server::cli
