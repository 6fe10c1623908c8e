// hindcast keygen: a key pair, and what to do with it.
#include <CLI/CLI.hpp>

#include "server/views/cli/json.h"
#include "server/views/cli/remote.h"

namespace hindcast::server::cli {
namespace {

int keygen(const Request& request, const std::string& host) {
  const auto key = make_key_files(request.file);
  if (!key.ok()) return fail(key.error());
  const std::string secret_file = request.file + ".secret", public_file = request.file + ".public";
  const std::string allow = (host.empty() ? "HOST" : host) + " " + *key;
  Output out;
  if (request.json)
    json_line(out, {{"type", "keys"},
                    {"public_key", *key},
                    {"secret_file", secret_file},
                    {"public_file", public_file},
                    {"allow_line", allow}});
  else
    out.line(*key);
  if (const auto done = out.finish(); !done.ok()) return fail(done.error());
  say("wrote " + secret_file + " (mode 0600; it stays on this machine) and " + public_file +
      "\n  a server's key   key_file = \"" + secret_file + "\" in its settings; give " + public_file +
      " to every host\n  a host's key     the line below into the server's allow-list, then SIGHUP to the server\n   "
      " " +
      allow);
  return kDone;
}

}  // namespace

void add_keygen(CLI::App& app, Request& request, Command& chosen) {
  auto host = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand("keygen", "make the key pair of a host or of a server");
  sub->add_option("PATH", request.file, "PATH.secret and PATH.public are written; neither may exist")
      ->required()
      ->type_name("");
  sub->add_option("--host", *host, "the host that it is for: its name in the allow-list line")->type_name("HOST");
  sub->add_flag("--json", request.json, "answer in JSON");
  sub->footer(
      "The public key goes to stdout.\n"
      "\n"
      "Examples:\n"
      "  hindcast keygen /etc/hindcast/server\n"
      "  hindcast keygen /etc/hindcast/web-1 --host web-1");
  sub->callback([&request, &chosen, host] { chosen = [&request, host] { return keygen(request, *host); }; });
}

}  // namespace hindcast::server::cli
