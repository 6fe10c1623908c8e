#include "server/views/cli/remote.h"

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "hindcast/fd.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {

Result<Remote> open_remote(const Request& request) {
  const char* token = std::getenv("HINDCAST_TOKEN");
  return Remote::at({request.server, token ? token : "", request.token_file});
}

Result<RemoteName> resolve_name(const Remote& remote, const std::string& text) {
  const size_t slash = std::min(text.find('/'), text.size());
  RemoteName name{text.substr(0, slash), slash < text.size() ? text.substr(slash + 1) : ""};
  if (name.incident.ends_with(".hcb"))
    return Error{Errc::usage, "with --server a bundle is named by its incident, not by a file", printable(text),
                 "list them:  hindcast ls --server " + remote.url()};
  if (name.incident != "latest") return name;
  HC_TRY(const auto newest, remote.incidents(1));
  if (newest.empty())
    return Error{Errc::not_found,
                 "there is no latest incident: " + remote.url() + " has none",
                 {},
                 "freeze all hosts now:  hindcast snapshot --server " + remote.url()};
  name.incident = newest[0].id;
  return name;
}

Result<RemoteName> resolve_bundle(const Remote& remote, const std::string& text) {
  HC_TRY(RemoteName name, resolve_name(remote, text));
  if (!name.host.empty()) return name;
  HC_TRY(const RemoteIncident incident, remote.incident(name.incident));
  std::string all;
  size_t committed = 0;
  for (const RemoteSnapshot& h : incident.hosts) {
    all += (all.empty() ? "" : ", ") + printable(h.host) + " " + printable(h.state);
    if (h.state != "committed") continue;
    ++committed;
    name.host = h.host;
  }
  if (committed == 1) return name;
  if (committed == 0)
    return Error{Errc::not_found, "the server has no bundle of incident " + name.incident + " (yet)",
                 all.empty() ? "no host" : all, "ask again when a host is committed"};
  return Error{Errc::usage, "incident " + name.incident + " has bundles of several hosts", all,
               "name one:  " + name.incident + "/HOST"};
}

int ask(const Request& request, const std::string& command) {
  for (const std::string& word : request.words) {
    const std::string name = word.substr(0, word.find('='));
    if (name == "--truth" || name == "--debug-dir")
      return fail({Errc::usage,
                   name + " names a folder of this machine, and the server decodes on its own",
                   {},
                   "get the bundle, and ask here:  hindcast fetch --server " + request.server + " " + request.file +
                       " -o FILE.hcb"});
  }
  const auto remote = open_remote(request);
  if (!remote.ok()) return fail(remote.error());
  const auto name = resolve_name(*remote, request.file);
  if (!name.ok()) return fail(name.error());

  // As the commands do here: a question that has no answer replaces no file.
  std::optional<Output> out;
  Result<void> opening;
  ProgressBar bar("asking");
  const auto open_once = [&] {
    bar.clear();
    if (out || !opening.ok()) return opening.ok();
    auto opened = open_output(request);
    if (opened.ok())
      out.emplace(std::move(*opened));
    else
      opening = std::move(opened).error();
    return opening.ok();
  };
  const auto code = remote->run(
      command, name->incident, name->host, request.words,
      [&](std::string_view bytes) {
        if (!open_once()) return false;
        // Bytes for a file are the server's; on a terminal they may only be words.
        out->terminal() ? out->text(printable_lines(bytes)) : out->text(bytes);
        return !out->failed();
      },
      [&](std::string_view bytes) {
        bar.clear();
        const std::string words = printable_lines(bytes);
        std::fwrite(words.data(), 1, words.size(), stderr);
        return true;
      });
  bar.clear();
  if (code.ok() && *code == kDone) open_once();
  if (!opening.ok()) return fail(opening.error());
  if (out)
    if (const auto done = out->finish(); !done.ok()) return fail(done.error());
  return code.ok() ? *code : fail(code.error());
}

Result<RemoteIncident> send_bundle(const Request& request, const std::string& path, const std::string& reason) {
  HC_TRY(const Remote remote, open_remote(request));
  ProgressBar bar("sending");
  return remote.upload(path, reason, bar.callback());
}

void say_kept(const Request& request, const std::string& incident) {
  say("kept as incident " + incident + "; look at it:  hindcast ls --server " + request.server + " " + incident);
}

int send_written(const Request& request, const std::string& path, const std::string& reason) {
  const auto incident = send_bundle(request, path, reason);
  if (incident.ok()) {
    say_kept(request, incident->id);
    return kDone;
  }
  const int code = fail(incident.error());
  say(path + " is not on the server; send it:  hindcast upload --server " + request.server + " " + path);
  return code;
}

Result<FetchedBundle> FetchedBundle::get(const Request& request) {
  HC_TRY(const Remote remote, open_remote(request));
  FetchedBundle b;
  HC_TRY(b.name_, resolve_bundle(remote, request.file));
  std::error_code error;
  std::string folder = (std::filesystem::temp_directory_path(error) / "hindcast-XXXXXX").string();
  if (error || !::mkdtemp(folder.data()))
    return errno_error("cannot make a folder for the download", folder, "name another one with TMPDIR");
  b.folder_ = folder;
  b.path_ = folder + "/" + b.name_.host + ".hcb";
  ProgressBar bar("fetching");
  HC_TRY_VOID(remote.fetch(b.name_.incident, b.name_.host, b.path_, bar.callback()));
  return b;
}

FetchedBundle::FetchedBundle(FetchedBundle&& o) noexcept
    : folder_(std::exchange(o.folder_, {})), path_(std::move(o.path_)), name_(std::move(o.name_)) {}

FetchedBundle::~FetchedBundle() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

}  // namespace hindcast::server::cli
