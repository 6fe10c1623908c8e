// hindcast fetch and upload: whole bundles from a server and to it.
#include <CLI/CLI.hpp>
#include <filesystem>

#include "server/views/cli/json.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"

namespace hindcast::server::cli {
namespace {

int fetch(const Request& request) {
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  const auto name = resolve_bundle(*remote, request.file);
  if (!name.ok()) return fail(name.error());
  const std::string output = request.output.empty() ? name->incident + "." + name->host + ".hcb" : request.output;
  std::error_code ignored;
  if (request.output.empty() && std::filesystem::exists(output, ignored))
    return fail({Errc::usage, output + " exists already", {}, "name the bundle to write with -o FILE"});
  ProgressBar bar("fetching");
  const auto done = remote->fetch(name->incident, name->host, output, bar.callback());
  bar.clear();
  if (!done.ok()) return fail(done.error());
  if (request.json) {
    Output out;
    json_line(out, {{"type", "fetched"}, {"path", output}, {"incident", name->incident}, {"host", name->host}});
    const auto written = out.finish();
    return written.ok() ? kDone : fail(written.error());
  }
  say("wrote " + output + "; look at it:  hindcast ls " + output);
  return kDone;
}

int upload(const Request& request, const std::string& reason) {
  const auto incident = send_bundle(request, request.file, reason);
  if (!incident.ok()) return fail(incident.error());
  if (const int code = answer_with(request, *incident); code != kDone) return code;
  say_kept(request, incident->id);
  return kDone;
}

}  // namespace

void add_fetch(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("fetch", "download a bundle from a server");
  sub->add_option("INCIDENT", request.file, "INCIDENT, INCIDENT/HOST, or latest")->required()->type_name("");
  add_needed_server(*sub, request);
  sub->add_option("-o,--output", request.output, "bundle to write; default: INCIDENT.HOST.hcb, here")
      ->type_name("FILE");
  sub->add_flag("--json", request.json, "say what was written in JSON");
  sub->footer(
      "The file has its name only once it is whole.\n"
      "\n"
      "Examples:\n"
      "  hindcast fetch --server http://127.0.0.1:7412 latest -o run.hcb\n"
      "  hindcast fetch --server http://127.0.0.1:7412 20261126T104501Z-3f2a9c0b/web-1");
  sub->callback([&request, &chosen] { chosen = [&request] { return fetch(request); }; });
}

void add_upload(CLI::App& app, Request& request, Command& chosen) {
  auto reason = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand("upload", "give a bundle to a server, and print its incident");
  sub->add_option("FILE", request.file, "bundle to send")->required()->type_name("");
  add_needed_server(*sub, request);
  sub->add_option("--reason", *reason, "why, for those who look later; default: the file's name")->type_name("TEXT");
  sub->add_flag("--json", request.json, "answer in JSON (server/README.md lists the fields)");
  sub->footer(
      "The server checks it whole. A bundle that it has already stays in the incident that has it.\n"
      "\n"
      "Examples:\n"
      "  hindcast upload --server http://127.0.0.1:7412 run.hcb --reason \"slow start on web-1\"");
  sub->callback([&request, &chosen, reason] {
    chosen = [&request, reason] {
      const std::string name = std::filesystem::path(request.file).filename().string();
      return upload(request, reason->empty() ? "upload of " + name : *reason);
    };
  });
}

}  // namespace hindcast::server::cli
