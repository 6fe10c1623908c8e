// The command line `hindcast`: one function per command, each a reader of query.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/query.h"
#include "server/views/cli/output.h"

namespace CLI {
class App;
}

namespace hindcast::server::cli {

enum ExitCode : int { kDone = 0, kFailed = 1, kMisused = 2 };

/// argv as main() gets it. Data goes to stdout, words to stderr. Returns an ExitCode, or for `record` the exit code of what
/// was recorded.
int run(int argc, const char* const* argv);

/// What a command was asked to do, filled by the parser before the command runs.
struct Request {
  std::string file;  // with a server: INCIDENT, INCIDENT/HOST, or "latest" for INCIDENT
  std::string server, token_file;
  std::vector<std::string> words;  // the options that were typed, as "--name=value"; for a server
  std::string output;
  bool json = false;
  bool verbose = false;
  bool full_names = false;
  size_t snapshot = 0;
  std::optional<int32_t> pid, tid;
  std::optional<uint32_t> cpu, stream;
  std::string cgroup, container, pod;  // whose threads; empty: everybody's
  std::string time;                    // "A,B"
  uint64_t limit = 0;                  // 0: none
  std::vector<std::string> debug_dirs;
  std::vector<std::string> rest;  // record: the program and its arguments

  bool remote() const { return !server.empty(); }
};

using Command = std::function<int()>;

/// Each adds its subcommand; when it is the one typed, `chosen` is set to what runs it. request outlives both.
void add_record(CLI::App& app, Request& request, Command& chosen);
void add_ls(CLI::App& app, Request& request, Command& chosen);
void add_show(CLI::App& app, Request& request, Command& chosen);
void add_calls(CLI::App& app, Request& request, Command& chosen);
void add_dump(CLI::App& app, Request& request, Command& chosen);
void add_waits(CLI::App& app, Request& request, Command& chosen);
void add_net(CLI::App& app, Request& request, Command& chosen);
void add_verify(CLI::App& app, Request& request, Command& chosen);
void add_bench(CLI::App& app, Request& request, Command& chosen);
void add_import(CLI::App& app, Request& request, Command& chosen);
void add_export(CLI::App& app, Request& request, Command& chosen);
void add_doctor(CLI::App& app, Request& request, Command& chosen);
void add_snapshot_command(CLI::App& app, Request& request, Command& chosen);
void add_status(CLI::App& app, Request& request, Command& chosen);
void add_fetch(CLI::App& app, Request& request, Command& chosen);
void add_upload(CLI::App& app, Request& request, Command& chosen);
void add_keygen(CLI::App& app, Request& request, Command& chosen);

/// Flags that several commands share, with the same words everywhere.
void add_file(CLI::App& sub, Request& request);
/// --server and --token-file. what: what the server is for.
void add_server(CLI::App& sub, Request& request,
                const char* what = "ask this hindcast-server, as in http://127.0.0.1:7412");
/// The same where there is no answer without a server.
void add_needed_server(CLI::App& sub, Request& request);
/// --json, and -o for the answer.
void add_answer_flags(CLI::App& sub, Request& request);
/// A check of an option's value, with words that a person understands.
std::function<std::string(const std::string&)> at_least(int64_t least);
void add_limit(CLI::App& sub, Request& request, const char* of);
void add_time(CLI::App& sub, Request& request);
void add_thread_flags(CLI::App& sub, Request& request);
void add_engine(CLI::App& sub, std::string& engine);
Engine engine_of(const std::string& name);
void add_snapshot(CLI::App& sub, Request& request);

/// Says an Error on stderr; kMisused for Errc::usage, else kFailed.
int fail(const Error& error);
/// A line of words on stderr.
void say(const std::string& words);

/// Opens request.file.
Result<std::unique_ptr<Query>> open(const Request& request);

/// Where the answer goes: stdout, or the file that -o names. Ask for it when nothing but writing can fail any more, so that a
/// question that has no answer replaces no file. Errors: io; usage when it is the bundle itself.
Result<Output> open_output(const Request& request);
/// What was found damaged while answering: on stderr, once more at the end, where it is seen.
void say_damage(const Query& query);

/// The overview of the snapshot that was asked for, with a bar while it is read.
Result<const Overview*> read_overview(Query& query, const Request& request);

/// The thread that -p, -t, --cgroup, --container and --pod mean together. With none: the only thread that has trace, or nothing
/// when there are several. Errors: not_found with what there is; usage when several threads are meant.
Result<std::optional<Tid>> chosen_thread(const Overview& overview, const Request& request);

/// The executable `name` next to our own, else by PATH; empty when neither has it.
std::string find_program(const std::string& name);
/// Runs it, passing signals on to it; its exit code, or 128 + N when signal N ended it. output: a file for its stdout; empty:
/// ours.
Result<int> run_program(const std::string& path, const std::vector<std::string>& args, const std::string& output = {});

}  // namespace hindcast::server::cli
