#include "server/views/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"

namespace hindcast::server::cli {
namespace {

constexpr const char* kAbout =
    "What every thread executed, instruction by instruction, from Intel Processor Trace.\n"
    "Works on local bundles (*.hcb). Data goes to stdout, words to stderr.";

constexpr const char* kExamples =
    "Examples:\n"
    "  hindcast record -- ./server --port 80     run a program under capture, write hindcast.hcb\n"
    "  hindcast ls hindcast.hcb                  what was captured, and what is missing\n"
    "  hindcast show hindcast.hcb -t 4711        what thread 4711 executed\n"
    "  hindcast calls hindcast.hcb -t 4711       its call tree with times\n"
    "  hindcast verify hindcast.hcb              checksums, and a decode of everything\n"
    "\n"
    "Exit codes: 0 done, 1 failed (or verify found a difference), 2 misused. NO_COLOR turns colours off.";

}  // namespace

void say(const std::string& words) {
  const std::string line = "hindcast: " + words + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int fail(const Error& error) {
  say(error.text());
  return error.code == Errc::usage ? kMisused : kFailed;
}

void add_file(CLI::App& sub, Request& request) { sub.add_option("FILE", request.file, "bundle to read")->required(); }

void add_json(CLI::App& sub, Request& request) {
  sub.add_flag("--json", request.json, "answer in JSON, one object per line (server/README.md lists the fields)");
}

void add_time(CLI::App& sub, Request& request) {
  sub.add_option(
         "--time", request.time,
         "only what may have happened from A to B after the window's start; units ns (default), us, ms, s, or t for "
         "TSC ticks; an empty side is open: 1.5ms,2ms or 3s,")
      ->type_name("A,B");
}

void add_snapshot(CLI::App& sub, Request& request) {
  sub.add_option("--snapshot", request.snapshot, "which snapshot of the bundle, from 0")->type_name("N");
}

void add_thread_flags(CLI::App& sub, Request& request) {
  sub.add_option("-p,--pid", request.pid, "process")->type_name("PID");
  sub.add_option("-t,--tid", request.tid, "thread")->type_name("TID");
  add_snapshot(sub, request);
  sub.add_option("--debug-dir", request.debug_dirs,
                 "look here for separate debug files too (DIR/.build-id/xx/yyyy.debug)")
      ->type_name("DIR");
}

Result<std::unique_ptr<Query>> open(const Request& request) {
  QueryOptions options;
  options.debug_dirs.insert(options.debug_dirs.begin(), request.debug_dirs.begin(), request.debug_dirs.end());
  HC_TRY(auto query, open_query(request.file, options));
  for (const DamageRow& d : query->store().damage) say("damaged: " + d.what);
  return query;
}

Result<const Overview*> read_overview(Query& query, const Request& request) {
  const ProgressBar bar("reading");
  return query.overview(request.snapshot);
}

Result<std::optional<Tid>> chosen_thread(const Overview& overview, const Request& request) {
  const auto thread_list = [&](const auto& wanted) {
    std::string s;
    size_t n = 0;
    for (const ThreadRow& t : overview.threads)
      if (wanted(t) && ++n <= 12)
        s += (s.empty() ? "" : ", ") + std::to_string(t.tid.value()) + " (" + printable(t.comm) + ")";
    return n > 12 ? s + " ... (" + std::to_string(n) + " in all)" : s.empty() ? std::string("none") : s;
  };
  const bool any_traced =
      std::any_of(overview.threads.begin(), overview.threads.end(), [](const ThreadRow& t) { return t.traced(); });
  const auto all = [&](const ThreadRow& t) { return t.traced() || !any_traced; };
  if (request.tid) {
    const Tid tid(*request.tid);
    for (const ThreadRow& t : overview.threads) {
      if (t.tid != tid) continue;
      if (request.pid && t.pid != Pid(*request.pid))
        return Error{
            Errc::usage,
            "thread " + std::to_string(*request.tid) + " is not one of process " + std::to_string(*request.pid),
            "it belongs to process " + std::to_string(t.pid.value()), "leave -p away"};
      return std::optional<Tid>(tid);
    }
    return Error{Errc::not_found, "no thread " + std::to_string(*request.tid) + " in " + request.file,
                 "threads " + thread_list(all), "list them:  hindcast ls " + request.file};
  }
  const auto in_process = [&](const ThreadRow& t) { return !request.pid || t.pid == Pid(*request.pid); };
  const auto traced = [&](const ThreadRow& t) { return in_process(t) && t.traced(); };
  if (request.pid && std::none_of(overview.threads.begin(), overview.threads.end(), in_process))
    return Error{Errc::not_found, "no process " + std::to_string(*request.pid) + " in " + request.file,
                 "threads " + thread_list(all), "list them:  hindcast ls " + request.file};
  const auto n = std::count_if(overview.threads.begin(), overview.threads.end(), traced);
  if (n == 1) return std::optional<Tid>(std::find_if(overview.threads.begin(), overview.threads.end(), traced)->tid);
  if (request.pid && n > 1)
    return Error{Errc::usage, "process " + std::to_string(*request.pid) + " has several threads",
                 "threads " + thread_list(traced), "choose one with -t TID"};
  return std::optional<Tid>();
}

int run(int argc, const char* const* argv) {
  CLI::App app(kAbout, "hindcast");
  app.footer(kExamples);
  app.set_version_flag("--version", "hindcast " HINDCAST_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(30);

  Request request;
  Command chosen;
  add_record(app, request, chosen);
  add_ls(app, request, chosen);
  add_show(app, request, chosen);
  add_calls(app, request, chosen);
  add_dump(app, request, chosen);
  add_verify(app, request, chosen);
  add_import(app, request, chosen);
  add_export(app, request, chosen);
  add_doctor(app, request, chosen);
  app.add_subcommand("version", "print the version")->callback([&] {
    chosen = [] {
      Output out(stdout);
      out.line("hindcast " HINDCAST_VERSION);
      const auto done = out.finish();
      return done.ok() ? kDone : fail(done.error());
    };
  });

  // What stands behind "--" belongs to the program to record and is not ours to parse.
  std::vector<std::string> args;
  int i = 1;
  for (; i < argc && std::strcmp(argv[i], "--") != 0; ++i) args.emplace_back(argv[i]);
  const bool separated = i < argc;
  for (++i; i < argc; ++i) request.rest.emplace_back(argv[i]);
  if (separated && (args.empty() || args[0] != "record")) {
    args.insert(args.end(), request.rest.begin(), request.rest.end());  // the usual meaning: no flags behind it
  }
  if (args.empty()) {
    std::fputs(app.help().c_str(), stderr);
    return kMisused;
  }
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  const auto is_typed = [&](const CLI::App* sub) { return sub->get_name() == args[0]; };
  if (!args[0].starts_with('-') && std::none_of(commands.begin(), commands.end(), is_typed)) {
    std::string all;
    for (const CLI::App* sub : commands) all += (all.empty() ? "" : ", ") + sub->get_name();
    return fail({Errc::usage, "no command \"" + printable(args[0]) + "\"", "commands: " + all, "hindcast --help"});
  }
  std::reverse(args.begin(), args.end());  // as CLI11 wants it
  try {
    app.parse(args);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {
      app.exit(e);  // --help, --version
      std::fflush(stdout);
      return std::ferror(stdout) ? kFailed : kDone;
    }
    std::string name;
    for (const CLI::App* sub : app.get_subcommands()) name = " " + sub->get_name();
    return fail({Errc::usage, e.what(), {}, "hindcast" + name + " --help"});
  }
  return chosen();
}

}  // namespace hindcast::server::cli
