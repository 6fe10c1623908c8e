// hindcast record: run a program under capture. The capturing is hindcastd's; this finds it and a file name.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "hindcast/pt_config.h"
#include "server/views/cli/cli.h"
#include "server/views/cli/remote.h"

namespace hindcast::server::cli {
namespace {

struct RecordFlags {
  std::string source = "auto", pt, ring, ring_budget, scope, sideband_ring, sideband_window, waits, waits_ring,
              waits_window, sim, truth;
  std::string net;
  std::vector<std::string> net_interfaces;
  bool kernel = false;
};

/// "hindcast.hcb", or "hindcast.1.hcb" and so on when that exists: a recording never overwrites one that nobody named.
std::string free_name() {
  std::string name = "hindcast.hcb";
  for (int n = 1; std::filesystem::exists(std::filesystem::symlink_status(name)); ++n)
    name = "hindcast." + std::to_string(n) + ".hcb";
  return name;
}

bool same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

int record(const Request& request, const RecordFlags& flags) {
  if (request.rest.empty())
    return fail({Errc::usage, "no program to record", {}, "hindcast record [OPTIONS] -- CMD ARGS..."});
  if (!flags.pt.empty())
    if (const auto options = parse_pt_options(flags.pt); !options.ok()) return fail(options.error());
  if (request.remote()) {
    // Before the program runs: whoever names a server wants to know that it is not there.
    const auto remote = open_remote(request);
    if (!remote.ok()) return fail(remote.error());
    if (const auto status = remote->status(); !status.ok()) return fail(status.error());
  }
  const std::string daemon = find_program("hindcastd");
  if (daemon.empty())
    return fail({Errc::not_found, "cannot find hindcastd, which does the recording",
                 "looked beside this program and in PATH", "install hindcastd, or add its folder to PATH"});
  const std::string file = request.output.empty() ? free_name() : request.output;
  struct stat before {};
  const bool existed = ::stat(file.c_str(), &before) == 0;
  std::vector<std::string> args{"--record", file, "--source", flags.source};
  const auto pass = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    args.push_back(name);
    args.push_back(value);
  };
  pass("--pt", flags.pt);
  pass("--ring", flags.ring);
  pass("--ring-budget", flags.ring_budget);
  pass("--scope", flags.scope);
  if (flags.kernel) args.push_back("--kernel");
  pass("--sideband-ring", flags.sideband_ring);
  pass("--sideband-window", flags.sideband_window);
  pass("--waits", flags.waits);
  pass("--waits-ring", flags.waits_ring);
  pass("--waits-window", flags.waits_window);
  pass("--net", flags.net);
  for (const std::string& name : flags.net_interfaces) pass("--net-interface", name);
  pass("--sim", flags.sim);
  pass("--truth", flags.truth);
  args.push_back("--");
  args.insert(args.end(), request.rest.begin(), request.rest.end());
  const auto code = run_program(daemon, args);
  if (!code.ok()) return fail(code.error());
  // As a part of the summary that hindcastd prints. Whether it wrote: by the file's age, since the exit code is the program's.
  struct stat after {};
  if (::stat(file.c_str(), &after) == 0 && (!existed || !same_time(before.st_mtim, after.st_mtim))) {
    const std::string words = "  look      hindcast ls " + file + "\n";
    std::fwrite(words.data(), 1, words.size(), stderr);
    if (request.remote()) send_written(request, file, "record " + request.rest[0]);
  }
  return *code;
}

}  // namespace

void add_record(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<RecordFlags>();
  CLI::App* sub = app.add_subcommand("record", "run a program under capture and write a bundle");
  sub->prefix_command();
  sub->add_option("-o,--output", request.output,
                  "bundle to write; default hindcast.hcb, or hindcast.N.hcb when that exists")
      ->type_name("FILE");
  sub->add_option("--source", flags->source,
                  "where PT comes from: perf (hardware), simulated (QEMU), or auto (default: perf if this machine can, "
                  "else simulated)")
      ->check(CLI::IsMember({"auto", "perf", "simulated"}))
      ->option_text("auto|perf|simulated");
  sub->add_option("--pt", flags->pt, "PT options by their kernel names, as in tsc,mtc,cyc,noretcomp,psb_period=3")
      ->type_name("LIST");
  sub->add_option("--ring", flags->ring,
                  "PT ring per CPU, as in 64M (default), or auto, the largest that fits; the newest bytes are kept")
      ->type_name("SIZE|auto");
  sub->add_option("--ring-budget", flags->ring_budget, "what the PT rings of all CPUs may take together")
      ->type_name("SIZE");
  sub->add_option("--scope", flags->scope,
                  "whose PT, with hardware: all (default), or command, which is CMD and its children alone")
      ->check(CLI::IsMember({"all", "command"}))
      ->option_text("all|command");
  sub->add_flag(
      "--kernel", flags->kernel,
      "trace kernel code, too; hardware only, and perf_event_paranoid must be 1 or less, or CAP_PERFMON held");
  sub->add_option("--sideband-ring", flags->sideband_ring,
                  "kernel ring for switches and mappings, per CPU; small ones lose records")
      ->type_name("SIZE");
  sub->add_option("--sideband-window", flags->sideband_window,
                  "switches kept per CPU, and mappings of all, as in 64M (default); the newest are kept")
      ->type_name("SIZE");
  sub->add_option(
         "--waits", flags->waits,
         "who waited for what, who woke whom, messages, signals and exits, through BPF: auto (default: where this "
         "machine can), on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->option_text("auto|on|off");
  sub->add_option("--waits-ring", flags->waits_ring,
                  "kernel ring for them, as in 8M (default); small ones lose records")
      ->type_name("SIZE");
  sub->add_option("--waits-window", flags->waits_window, "how much of them is kept, as in 64M (default)")
      ->type_name("SIZE");
  sub->add_option(
         "--net", flags->net,
         "TCP and UDP packets on network interfaces, headers only: off (default), auto (where possible), or on")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->option_text("auto|on|off");
  sub->add_option("--net-interface", flags->net_interfaces, "on this one only (default: all that are up, but loopback)")
      ->type_name("NAME");
  sub->add_option("--sim", flags->sim, "knobs of the simulator, as in seed=1,ovf=1000")->type_name("LIST");
  sub->add_option("--truth", flags->truth, "simulated only: also write what really ran into this folder, for verify")
      ->type_name("DIR");
  add_server(*sub, request, "give the bundle to this hindcast-server, too, as in http://127.0.0.1:7412");
  sub->footer(
      "Examples:\n"
      "  hindcast record -- ./server --port 80\n"
      "  hindcast record --source simulated --pt tsc,mtc,cyc -o run.hcb -- gzip -k big.txt\n"
      "\n"
      "The exit code is that of the program, or 1 when recording failed.");
  sub->callback([&request, &chosen, sub, flags] {
    const auto more = sub->remaining();
    request.rest.insert(request.rest.begin(), more.begin(), more.end());
    chosen = [&request, flags] { return record(request, *flags); };
  });
}

void add_doctor(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("doctor", "say what this machine can capture, and what to change");
  add_answer_flags(*sub, request);
  add_server(*sub, request, "what this hindcast-server can do instead, as in http://127.0.0.1:7412");
  sub->footer(
      "Examples:\n  hindcast doctor\n  hindcast doctor --json\n  hindcast doctor --server http://127.0.0.1:7412");
  sub->callback([&request, &chosen] {
    chosen = [&request] {
      if (request.remote()) return server_doctor(request);
      const std::string daemon = find_program("hindcastd");
      if (daemon.empty())
        return fail({Errc::not_found, "cannot find hindcastd, which knows what this machine can do",
                     "looked beside this program and in PATH", "install hindcastd, or add its folder to PATH"});
      std::vector<std::string> args{"--doctor"};
      if (request.json) args.push_back("--json");
      const auto code = run_program(daemon, args, request.output == "-" ? "" : request.output);
      return code.ok() ? *code : fail(code.error());
    };
  });
}

}  // namespace hindcast::server::cli
