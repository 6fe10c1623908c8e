// hindcast snapshot: freeze hosts now, and say how far each came.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "server/views/cli/json.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct SnapshotFlags {
  SnapshotOrder order;
  uint32_t timeout_s = 30;
};

bool has_reached(const RemoteSnapshot& s, const std::string& wait) {
  static const std::vector<std::string> kOrder{"ordered", "frozen", "durable", "committed"};
  const auto rank = [](const std::string& state) { return std::find(kOrder.begin(), kOrder.end(), state); };
  return rank(s.state) != kOrder.end() && rank(s.state) >= rank(wait);
}

std::string host_line(const RemoteSnapshot& s) {
  std::string line = state_words(s);
  if (s.frozen_ns > s.ordered_ns && s.ordered_ns)
    line += " (frozen " + span_text(static_cast<double>(s.frozen_ns - s.ordered_ns)) + " after the order)";
  return line;
}

int snapshot(const Request& request, SnapshotFlags flags) {
  flags.order.timeout = std::chrono::seconds(flags.timeout_s);
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  ProgressBar bar("freezing");
  const auto incident = remote->snapshot(flags.order);
  bar.clear();
  if (!incident.ok()) return fail(incident.error());
  if (const int code = answer_with(request, *incident); code != kDone) return code;

  size_t width = 0, late = 0;
  for (const RemoteSnapshot& h : incident->hosts) width = std::max(width, width_of(printable(h.host)));
  for (const RemoteSnapshot& h : incident->hosts) {
    say(pad_right(printable(h.host), width) + "  " + host_line(h));
    late += !has_reached(h, flags.order.wait);
  }
  if (incident->hosts.empty() || late > 0)
    return fail({Errc::unavailable,
                 std::to_string(late) + " of " + count_text(incident->hosts.size(), "host") + " not " +
                     flags.order.wait + " after at most " + std::to_string(flags.timeout_s) + " s",
                 {},
                 "hindcast status --server " + remote->url() + "  says which hosts are there"});
  const bool here = std::all_of(incident->hosts.begin(), incident->hosts.end(),
                                [](const RemoteSnapshot& h) { return h.state == "committed"; });
  say((here ? "look:  hindcast ls --server " : "how far it is:  hindcast status --server ") + remote->url() +
      (here ? " " + incident->id : ""));
  return kDone;
}

}  // namespace

void add_snapshot_command(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<SnapshotFlags>();
  CLI::App* sub = app.add_subcommand("snapshot", "freeze the hosts of a server now, and print the incident");
  add_needed_server(*sub, request);
  flags->order.reason = "hindcast snapshot";
  sub->add_option("--reason", flags->order.reason, "why, for those who look later")->type_name("TEXT");
  sub->add_option("--host", flags->order.hosts, "freeze this host only; may be given several times")->type_name("HOST");
  sub->add_option("--wait", flags->order.wait,
                  "come back when each host is frozen (default: nothing before is overwritten any more), durable (it "
                  "survives a loss of power there), or committed (the server has it)")
      ->check(CLI::IsMember({"frozen", "durable", "committed"}))
      ->option_text("frozen|durable|committed");
  sub->add_option("--timeout", flags->timeout_s, "come back after this many seconds at the latest; default 30")
      ->check(CLI::Range(1, 600))
      ->option_text("SECONDS");
  sub->add_flag("--json", request.json, "answer in JSON (server/README.md lists the fields)");
  sub->footer(
      "The incident's id goes to stdout, what each host did to stderr. Exit code 0 only when every host came that "
      "far.\n"
      "\n"
      "Examples:\n"
      "  hindcast snapshot --server http://127.0.0.1:7412 --reason \"checkout hangs\"\n"
      "  id=$(hindcast snapshot --server http://127.0.0.1:7412 --host web-1 --wait committed)");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return snapshot(request, *flags); }; });
}

}  // namespace hindcast::server::cli
