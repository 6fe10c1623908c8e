#include "server/views/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/who.h"

namespace hindcast::server::cli {
namespace {

constexpr const char* kAbout =
    "What every thread executed, instruction by instruction, from Intel Processor Trace.\n"
    "Works on local bundles (*.hcb), or with --server on what a hindcast-server keeps. Data goes to stdout, words to\n"
    "stderr.";

constexpr const char* kExamples =
    "Examples:\n"
    "  hindcast record -- ./server --port 80     run a program under capture, write hindcast.hcb\n"
    "  hindcast ls hindcast.hcb                  what was captured, and what is missing\n"
    "  hindcast show hindcast.hcb -t 4711        what thread 4711 executed\n"
    "  hindcast calls hindcast.hcb -t 4711       its call tree with times\n"
    "  hindcast waits hindcast.hcb               who waited for what, who woke whom, messages\n"
    "  hindcast net hindcast.hcb                 packets on the network, where they were recorded\n"
    "  hindcast verify hindcast.hcb              checksums, and a decode of everything\n"
    "  hindcast snapshot --server URL            freeze all hosts now; prints the incident\n"
    "  hindcast ls --server URL                  incidents, newest first; latest is the name of the first\n"
    "  hindcast calls --server URL latest -t 4711\n"
    "More with  hindcast COMMAND --help.\n"
    "\n"
    "Exit codes: 0 done, 1 failed (or verify found a difference), 2 misused. NO_COLOR turns colours off.";

class HelpText : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string s = CLI::Formatter::make_usage(app, name);
    if (app->get_name() == "record") s.insert(s.find_last_not_of('\n') + 1, " -- CMD ARGS...");
    return s;
  }
};

/// Up to four bundles in the folder of a path that does not exist, for a message.
std::string bundles_beside(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder.empty() ? fs::path(".") : folder, error), end;
       !error && it != end && names.size() < 1000; it.increment(error))
    if (it->path().extension() == ".hcb") names.push_back(printable((folder / it->path().filename()).string()));
  std::sort(names.begin(), names.end());
  std::string s;
  for (size_t i = 0; i < names.size() && i < 4; ++i) s += (s.empty() ? "" : ", ") + names[i];
  return s + (names.size() > 4 ? " ..." : "");
}

/// Lines of a description that end before column 100 of a help text.
std::string wrapped(const std::string& text) {
  constexpr size_t kWidth = 68;
  std::string out, line;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && width_of(line) + 1 + width_of(word) > kWidth) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return out + line;
}

void wrap_descriptions(CLI::App& app) {
  for (CLI::Option* o : app.get_options()) o->description(wrapped(o->get_description()));
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) wrap_descriptions(*sub);
}

/// Every option that was typed, in one word each; not those that say where to ask and where the answer goes.
std::vector<std::string> words_of(const CLI::App& sub) {
  std::vector<std::string> words;
  for (const CLI::Option* o : sub.get_options()) {
    if (o->count() == 0 || o->get_lnames().empty()) continue;
    const std::string& name = o->get_lnames()[0];
    if (name == "server" || name == "token-file" || name == "output" || name == "help") continue;
    if (o->get_items_expected_max() == 0) {
      words.push_back("--" + name);
      continue;
    }
    for (const std::string& value : o->results()) words.push_back("--" + name + "=" + value);
  }
  return words;
}

/// The command that a typo may have meant: same letters, or one more, less or other; empty: none.
std::string nearest(const std::string& typed, const std::vector<std::string>& commands) {
  for (const std::string& c : commands) {
    if (typed.size() > 1 && (c.starts_with(typed) || (c.size() > 2 && typed.starts_with(c)))) return c;
    std::string a = typed, b = c;
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    if (a == b) return c;
    size_t same = 0, back = 0;
    while (same < std::min(typed.size(), c.size()) && typed[same] == c[same]) ++same;
    while (back < std::min(typed.size(), c.size()) - same && typed[typed.size() - 1 - back] == c[c.size() - 1 - back])
      ++back;
    if (c.size() > 2 && std::max(typed.size(), c.size()) - same - back <= 1) return c;
  }
  return {};
}

}  // namespace

void say(const std::string& words) {
  const std::string line = "hindcast: " + words + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int fail(const Error& error) {
  say(printable_lines(error.text()));
  return error.code == Errc::usage ? kMisused : kFailed;
}

void add_file(CLI::App& sub, Request& request) {
  sub.add_option("FILE", request.file, "bundle to read; with --server INCIDENT, INCIDENT/HOST or latest")
      ->required()
      ->type_name("");
}

namespace {

CLI::Option* server_option(CLI::App& sub, Request& request, const char* what) {
  sub.add_option("--token-file", request.token_file,
                 "file with the server's token, if it wants one; else the environment's HINDCAST_TOKEN")
      ->type_name("FILE");
  return sub.add_option("--server", request.server, what)->type_name("URL")->check([](const std::string& url) {
    return url.empty() ? std::string("--server needs the server's URL, as in http://127.0.0.1:7412") : std::string();
  });
}

}  // namespace

void add_server(CLI::App& sub, Request& request, const char* what) { server_option(sub, request, what); }

void add_needed_server(CLI::App& sub, Request& request) {
  server_option(sub, request, "the hindcast-server, as in http://127.0.0.1:7412")->required();
}

void add_answer_flags(CLI::App& sub, Request& request) {
  sub.add_option("-o,--output", request.output, "write the answer to this file instead of stdout")->type_name("FILE");
  sub.add_flag("--json", request.json, "answer in JSON, one object per line (server/README.md lists the fields)");
}

std::function<std::string(const std::string&)> at_least(int64_t least) {
  return [least](const std::string& text) {
    int64_t v = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (error == std::errc() && end == text.data() + text.size() && v >= least) return std::string();
    return "\"" + text + "\" is not a whole number of at least " + std::to_string(least);
  };
}

void add_limit(CLI::App& sub, Request& request, const char* of) {
  sub.add_option("--limit", request.limit, std::string("stop after N ") + of)->option_text("N")->check(at_least(1));
}

void add_time(CLI::App& sub, Request& request) {
  sub.add_option("--time", request.time,
                 "only what may have happened from A to B after the window's start: 1.5ms,2ms or 1.5..2ms; units ns, "
                 "us, ms, s, or "
                 "t for TSC values; an empty side is open, as in 3s,")
      ->type_name("A,B");
}

void add_snapshot(CLI::App& sub, Request& request) {
  sub.add_option("--snapshot", request.snapshot, "which snapshot of the bundle, from 0")->type_name("N");
}

void add_engine(CLI::App& sub, std::string& engine) {
  sub.add_option("--engine", engine, "which decoder: our own (default), or libipt's, the reference; both tell the same")
      ->check(CLI::IsMember({"fast", "libipt"}))
      ->option_text("fast|libipt");
}

Engine engine_of(const std::string& name) { return name == "libipt" ? Engine::libipt : Engine::fast; }

void add_thread_flags(CLI::App& sub, Request& request) {
  sub.add_option("-p,--pid", request.pid, "process; enough when it has one traced thread")
      ->option_text("PID")
      ->check(at_least(0));
  sub.add_option("-t,--tid", request.tid, "thread")->option_text("TID")->check(at_least(0));
  add_who_flags(sub, request);
  add_snapshot(sub, request);
  sub.add_flag("--full-names", request.full_names,
               "whole names and inline chains, however long; else what is long is cut down with \"…\"");
  sub.add_option("--debug-dir", request.debug_dirs,
                 "look here for separate debug files too (DIR/.build-id/xx/yyyy.debug)")
      ->type_name("DIR");
}

namespace {

/// Where what was found out about bundles is kept; empty: nowhere.
std::string cache_folder() {
  if (const char* set = std::getenv("HINDCAST_CACHE")) return set;
  // By the XDG base directory specification; a relative path counts as unset.
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache == '/')
    return std::string(cache) + "/hindcast";
  if (const char* home = std::getenv("HOME"); home && *home == '/') return std::string(home) + "/.cache/hindcast";
  return {};
}

}  // namespace

Result<std::unique_ptr<Query>> open(const Request& request) {
  QueryOptions options;
  options.scan_folder = cache_folder();
  options.debug_dirs.insert(options.debug_dirs.begin(), request.debug_dirs.begin(), request.debug_dirs.end());
  auto opened = open_query(request.file, options);
  if (!opened.ok()) {
    Error e = std::move(opened).error();
    namespace fs = std::filesystem;
    std::error_code ignored;
    if (e.fix.empty() && e.code == Errc::not_found) {
      const std::string near = bundles_beside(request.file);
      e.fix = near.empty() ? "make one:  hindcast record -o " + request.file + " -- CMD"
                           : "name one that is there:  " + near;
    } else if (e.fix.empty() && fs::is_directory(request.file, ignored)) {
      e.fix = "name a bundle; the folder of a trace that another tool made becomes one with  hindcast import " +
              request.file + " -o FILE";
    }
    return e;
  }
  auto query = std::move(opened).value();
  for (const DamageRow& d : query->store().damage) say("damaged: " + printable(d.what));
  return query;
}

Result<Output> open_output(const Request& request) {
  if (request.output.empty() || request.output == "-") return Output();
  std::error_code ignored;
  if (!request.file.empty() && std::filesystem::equivalent(request.output, request.file, ignored))
    return Error{Errc::usage, "-o " + request.output + " is the bundle itself",
                 "writing the answer there would destroy it", "name another file"};
  return Output::to_file(request.output);
}

void say_damage(const Query& query) {
  for (const DamageRow& d : query.damage_met()) say("damaged: " + printable(d.what));
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
  HC_TRY_VOID(somebody_is_meant(overview, request));
  const std::string who = who_text(request);
  if (request.tid) {
    const Tid tid(*request.tid);
    for (const ThreadRow& t : overview.threads) {
      if (t.tid != tid) continue;
      if (request.pid && t.pid != Pid(*request.pid))
        return Error{
            Errc::usage,
            "thread " + std::to_string(*request.tid) + " is not one of process " + std::to_string(*request.pid),
            "it belongs to process " + std::to_string(t.pid.value()), "leave -p away"};
      if (!is_meant(t, request))
        return Error{Errc::usage, "thread " + std::to_string(*request.tid) + " is not in " + who,
                     "it is in " + where_text(t), "leave one of the two away"};
      return std::optional<Tid>(tid);
    }
    return Error{Errc::not_found, "no thread " + std::to_string(*request.tid) + " in " + request.file,
                 "threads " + thread_list(all), "list them:  hindcast ls " + request.file};
  }
  const auto in_process = [&](const ThreadRow& t) { return !request.pid || t.pid == Pid(*request.pid); };
  const auto traced = [&](const ThreadRow& t) { return in_process(t) && is_meant(t, request) && t.traced(); };
  if (request.pid && std::none_of(overview.threads.begin(), overview.threads.end(), in_process)) {
    const bool thread = std::any_of(overview.threads.begin(), overview.threads.end(),
                                    [&](const ThreadRow& t) { return t.tid == Tid(*request.pid); });
    const std::string number = std::to_string(*request.pid);
    return Error{Errc::not_found, "no process " + number + " in " + request.file, "threads " + thread_list(all),
                 thread ? number + " is a thread: -t " + number : "list them:  hindcast ls " + request.file};
  }
  const auto n = std::count_if(overview.threads.begin(), overview.threads.end(), traced);
  if (n == 1) return std::optional<Tid>(std::find_if(overview.threads.begin(), overview.threads.end(), traced)->tid);
  std::string several = request.pid ? "process " + std::to_string(*request.pid) : "";
  if (!who.empty()) several += (several.empty() ? "" : " in ") + who;
  if (!several.empty() && n > 1)
    return Error{Errc::usage, several + " has several threads", "threads " + thread_list(traced),
                 "choose one with -t TID"};
  if (!who.empty())
    return Error{Errc::not_found, "no thread of " + several + " was traced",
                 "threads " + thread_list([&](const ThreadRow& t) { return in_process(t) && is_meant(t, request); }),
                 "list them:  hindcast ls -v " + request.file};
  return std::optional<Tid>();
}

int run(int argc, const char* const* argv) {
  CLI::App app(kAbout, "hindcast");
  app.footer(kExamples);
  app.set_version_flag("--version", "hindcast " HINDCAST_VERSION);
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpText>());
  app.get_formatter()->column_width(30);

  Request request;
  Command chosen;
  add_record(app, request, chosen);
  add_ls(app, request, chosen);
  add_show(app, request, chosen);
  add_calls(app, request, chosen);
  add_dump(app, request, chosen);
  add_waits(app, request, chosen);
  add_net(app, request, chosen);
  add_verify(app, request, chosen);
  add_bench(app, request, chosen);
  add_import(app, request, chosen);
  add_export(app, request, chosen);
  add_doctor(app, request, chosen);
  add_snapshot_command(app, request, chosen);
  add_status(app, request, chosen);
  add_fetch(app, request, chosen);
  add_upload(app, request, chosen);
  add_keygen(app, request, chosen);
  app.add_subcommand("version", "print the version")->callback([&] {
    chosen = [] {
      Output out;
      out.line("hindcast " HINDCAST_VERSION);
      const auto done = out.finish();
      return done.ok() ? kDone : fail(done.error());
    };
  });

  wrap_descriptions(app);

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
  if (args[0] == "help") {  // as git and others have it
    args.erase(args.begin());
    args.emplace_back("--help");
  }
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  const auto is_typed = [&](const CLI::App* sub) { return sub->get_name() == args[0]; };
  if (!args[0].starts_with('-') && std::none_of(commands.begin(), commands.end(), is_typed)) {
    std::string all;
    std::vector<std::string> names;
    for (const CLI::App* sub : commands) names.push_back(sub->get_name());
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    const std::string meant = nearest(args[0], names);
    return fail({Errc::usage, "no command \"" + printable(args[0]) + "\"", "commands: " + all,
                 meant.empty() ? "hindcast --help" : "did you mean  hindcast " + meant + " ?"});
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
    std::string what = printable(e.what());
    const std::string kConversion = "Could not convert: ", kExtra = "The following argument was not expected: ";
    if (what.starts_with(kConversion)) what = what.substr(kConversion.size()) + ": not a number, or out of range";
    if (what.starts_with(kExtra)) what = "not understood: " + what.substr(kExtra.size());
    return fail({Errc::usage, what, {}, "hindcast" + name + " --help"});
  }
  for (const CLI::App* sub : app.get_subcommands()) request.words = words_of(*sub);
  return chosen();
}

}  // namespace hindcast::server::cli
