// hindcast export: a snapshot for another tool.
#include <CLI/CLI.hpp>
#include <filesystem>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/export/perf_data.h"

namespace hindcast::server::cli {
namespace {

std::string default_folder(const std::string& bundle) {
  const std::string stem = std::filesystem::path(bundle).stem().string();
  return (stem.empty() ? "export" : stem) + ".perf";
}

/// For a shell: as it is when nothing in it is special.
std::string quoted(const std::string& path) {
  if (path.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+=,@%") == path.npos)
    return path;
  std::string s = "'";
  for (const char c : path) s += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return s + "'";
}

int export_snapshot(const Request& request) {
  if (request.remote()) {
    const auto bundle = FetchedBundle::get(request);
    if (!bundle.ok()) return fail(bundle.error());
    Request here = request;
    here.server.clear();
    here.file = bundle->path();
    if (here.output.empty()) here.output = bundle->name().incident + "." + bundle->name().host + ".perf";
    return export_snapshot(here);
  }
  const std::string folder = request.output.empty() ? default_folder(request.file) : request.output;
  std::error_code ignored;
  if (std::filesystem::exists(folder + "/perf.data", ignored) || std::filesystem::exists(folder + "/buildid", ignored))
    return fail({Errc::usage, folder + " holds an export already", {}, "name another folder with -o DIR"});
  if (std::filesystem::exists(folder, ignored) && !std::filesystem::is_directory(folder, ignored))
    return fail({Errc::usage, folder + " is not a folder", {}, "name another one with -o DIR"});
  const auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const auto overview = read_overview(**query, request);
  if (!overview.ok()) return fail(overview.error());
  const auto done = views::export_perf_data(**query, request.snapshot, folder);
  if (!done.ok()) return fail(done.error());
  for (const std::string& note : done->notes) say(printable(note));

  Output out;
  const std::string command = "perf --buildid-dir " + quoted(done->code_folder) + " script -i " + quoted(done->file) +
                              " --itrace=b --ns -F tid,cpu,time,ip,addr,flags";
  if (request.json) {
    json_line(out, {{"type", "exported"},
                    {"path", done->file},
                    {"buildid_dir", done->code_folder},
                    {"trace_bytes", done->trace_bytes},
                    {"record_bytes", done->records},
                    {"code_files", done->code_files},
                    {"notes", done->notes},
                    {"command", command}});
  } else {
    say("wrote " + done->file + ", and its code to " + done->code_folder);
    say("the code is found by --buildid-dir alone, so perf decodes what ran and not today's files");
    out.line(command);
  }
  const auto written = out.finish();
  return written.ok() ? kDone : fail(written.error());
}

}  // namespace

void add_export(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("export", "write a snapshot as a perf.data file that perf script decodes");
  add_file(*sub, request);
  add_server(*sub, request);
  auto format = std::make_shared<std::string>("perf-data");
  sub->add_option("--format", *format, "perf-data: Linux perf's own file, with the code in a build-id cache beside it")
      ->check(CLI::IsMember({"perf-data"}))
      ->capture_default_str();
  sub->add_option("-o,--output", request.output, "folder to write into; default: FILE's name with .perf, here")
      ->type_name("DIR");
  add_snapshot(*sub, request);
  sub->add_flag("--json", request.json, "say what was written in JSON");
  sub->footer(
      "Prints the perf command that decodes it. hindcast import DIR/perf.data reads it back.\n"
      "\n"
      "Examples:\n"
      "  hindcast export run.hcb -o run.perf\n"
      "  perf --buildid-dir run.perf/buildid script -i run.perf/perf.data --itrace=b --ns");
  sub->callback([&request, &chosen, format] { chosen = [&request] { return export_snapshot(request); }; });
}

}  // namespace hindcast::server::cli
