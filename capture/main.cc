// hindcastd: the privileged side. Keeps a window and freezes it when the server says so, records a command into a bundle, or
// says what this machine can record.
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include <CLI/CLI.hpp>

#include "capture/choose_source.h"
#include "capture/daemon.h"
#include "capture/doctor.h"
#include "capture/perf_event.h"
#include "capture/recorder.h"

namespace {

using namespace hindcast;
using namespace hindcast::capture;

constexpr int kDone = 0, kFailed = 1, kMisused = 2;

void say(const std::string& text) { std::fprintf(stderr, "hindcastd: %s\n", text.c_str()); }

int fail(const Error& error) {
  say(error.text());
  return error.code == Errc::usage ? kMisused : kFailed;
}

/// "64M", "4096K", "1G", "65536".
std::optional<uint64_t> parse_size(const std::string& text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at == text.data()) return std::nullopt;
  const std::string unit(at, end);
  unsigned shift = 0;
  if (unit == "K" || unit == "k" || unit == "KiB")
    shift = 10;
  else if (unit == "M" || unit == "m" || unit == "MiB")
    shift = 20;
  else if (unit == "G" || unit == "g" || unit == "GiB")
    shift = 30;
  else if (!unit.empty())
    return std::nullopt;
  if (value > (UINT64_MAX >> shift)) return std::nullopt;
  return value << shift;
}

struct Options {
  std::string output;
  std::string config;
  std::string pt;
  std::string ring = "64M";
  std::string ring_budget;
  std::string scope = "all";
  bool kernel = false;
  std::string sideband_ring = "4M";
  std::string sideband_window = "64M";
  std::string waits = "auto";
  std::string waits_ring = "8M";
  std::string waits_window = "64M";
  std::string net = "off";
  std::vector<std::string> net_interfaces;
  SourceChoice source;
  double linger = 1.0;
  bool doctor = false;
  bool json = false;
  std::vector<std::string> command;
};

int run_doctor(const Options& o) {
  const Diagnosis diagnosis = diagnose(this_machine());
  std::fputs((o.json ? to_json(diagnosis) : to_text(diagnosis)).c_str(), stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    say(std::string("cannot write the answer: ") + std::strerror(errno));
    return kFailed;
  }
  return diagnosis.can_record() ? kDone : kFailed;
}

int run_record(const Options& o) {
  RecordConfig config;
  config.output = o.output;
  WindowConfig& window = config.window;
  window.command = o.command;
  const auto size = [](const std::string& text, const char* option, uint64_t& out, bool power_of_two) {
    const auto v = parse_size(text);
    if (!v || *v < 4096 || *v > (uint64_t{1} << 40) || (power_of_two && (*v & (*v - 1)))) {
      say(std::string(option) + ": \"" + text + "\" is no size; use a number with K, M or G, at least 4K" +
          (power_of_two ? ", a power of two" : ""));
      return false;
    }
    out = *v;
    return true;
  };
  uint64_t sideband_ring = 0, sideband_window = 0, waits_ring = 0, waits_window = 0;
  window.ring_bytes = 0;
  bool good = o.ring == "auto" || size(o.ring, "--ring", window.ring_bytes, true);
  good = (o.ring_budget.empty() || size(o.ring_budget, "--ring-budget", window.ring_budget, false)) && good;
  good = size(o.sideband_ring, "--sideband-ring", sideband_ring, true) && good;
  good = size(o.sideband_window, "--sideband-window", sideband_window, false) && good;
  good = size(o.waits_ring, "--waits-ring", waits_ring, true) && good;
  good = size(o.waits_window, "--waits-window", waits_window, false) && good;
  const auto pt = parse_pt_options(o.pt);
  if (!pt) say(pt.error().text());
  if (!good || !pt) return kMisused;
  window.pt = *pt;
  window.command_only = o.scope == "command";
  window.kernel = o.kernel;
  window.sideband_ring_bytes = sideband_ring;
  window.sideband.switch_bytes_per_cpu = window.sideband.process_bytes = sideband_window;
  window.waits = *parse_want(o.waits);  // the command line knows no other words
  window.waits_ring_bytes = waits_ring;
  window.waits_bytes = waits_window;
  window.net = *parse_want(o.net);
  window.packets.interfaces = o.net_interfaces;
  config.linger = std::chrono::milliseconds(static_cast<int64_t>(o.linger * 1000));

  auto source = choose_source(o.source, say);
  if (!source) return fail(source.error());
  const auto summary = record_command(**source, kernel_perf_calls(), config, say);
  if (!summary) return fail(summary.error());
  say(summary->text(config, (*source)->name()));
  return summary->command_ended ? summary->command.shell_status() : kDone;
}

int run_as_daemon(const Options& o) {
  auto config = read_daemon_config(o.config);
  if (!config) return fail(config.error());
  if (!o.command.empty() && !config->window.cgroup.empty())
    return fail({Errc::usage, "a command was given, but " + o.config + " names a cgroup", config->window.cgroup,
                 "leave one of them away"});
  if (!o.command.empty()) config->window.command = o.command;
  if (config->window.command.empty() && config->window.cgroup.empty())
    return fail({Errc::usage, "there is nothing to keep a window over",
                 "neither window.command nor window.cgroup in " + o.config,
                 "hindcastd --config " + o.config + " -- CMD ARGS..."});
  auto source = choose_source(config->source, say);
  if (!source) return fail(source.error());
  const auto ended = run_daemon(**source, kernel_perf_calls(), *config, say);
  return ended ? kDone : fail(ended.error());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{
      "Records what programs execute: with --config as a service of this host; otherwise usually started by\n"
      "`hindcast record` and `hindcast doctor`.",
      "hindcastd"};
  app.footer(
      "Examples:\n"
      "  hindcastd --record ls.hcb -- ls -l\n"
      "  hindcastd --record out.hcb --source simulated --pt tsc,mtc,cyc,noretcomp -- ./server --port 8080\n"
      "  hindcastd --config /etc/hindcast/hindcastd.toml -- ./server --port 8080\n"
      "  hindcastd --doctor\n\n"
      "Exit status: that of the command (128 + N when signal N killed it; 0 when it still runs), 1 when the recording\n"
      "failed: then no file is made and the reason is printed, 2 when misused. How the command ended is in the "
      "bundle.\n"
      "Signals are passed on to the command; a second INT, TERM, HUP or QUIT ends the recording and leaves it "
      "running.");
  auto* record = app.add_option("--record", o.output, "record CMD into this bundle file")->type_name("FILE");
  auto* daemon =
      app.add_option("--config", o.config, "keep a window as this file says, and freeze it when the server asks")
          ->type_name("FILE")
          ->excludes(record);
  auto* doctor =
      app.add_flag("--doctor", o.doctor, "say what this machine can record")->excludes(record)->excludes(daemon);
  app.add_flag("--json", o.json, "with --doctor: for programs")->needs(doctor);
  app.add_option("--source", o.source.source, "where PT comes from: real if the CPU has it, else simulated")
      ->check(CLI::IsMember({"auto", "perf", "simulated"}))
      ->capture_default_str();
  app.add_option("--pt", o.pt, "PT options by the kernel's names: tsc,mtc,mtc_period=3,cyc,noretcomp,psb_period=3,...");
  app.add_option("--ring", o.ring, "PT kept per CPU, a power of two; auto: the largest that the kernel grants")
      ->type_name("SIZE|auto")
      ->capture_default_str();
  app.add_option("--ring-budget", o.ring_budget, "PT kept of all CPUs together")->type_name("SIZE");
  app.add_option("--scope", o.scope, "whose PT, with hardware: everybody's, or that of the command and its children")
      ->check(CLI::IsMember({"all", "command"}))
      ->capture_default_str();
  app.add_flag("--kernel", o.kernel,
               "kernel code, too; needs hardware, and perf_event_paranoid 1 or less or CAP_PERFMON");
  app.add_option("--sideband-ring", o.sideband_ring, "kernel ring for switches and mappings, per CPU")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--sideband-window", o.sideband_window, "switches kept per CPU, and mappings of all")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--waits", o.waits,
                 "waits, wakes, messages, signals and exits through BPF: where possible, or on, or off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_option("--waits-ring", o.waits_ring, "kernel ring for them")->type_name("SIZE")->capture_default_str();
  app.add_option("--waits-window", o.waits_window, "how much of them is kept")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--net", o.net, "packets on network interfaces: off, or where possible, or on")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_option("--net-interface", o.net_interfaces, "on this one only; may be given more than once")
      ->type_name("NAME");
  app.add_option("--linger", o.linger, "how long to wait for processes that outlive the command")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app.add_option("--sim", o.source.sim, "knobs of the simulator")->type_name("KNOBS");
  app.add_option("--truth", o.source.truth, "where the simulator writes what was really executed")->type_name("DIR");
  app.add_option("command", o.command, "the command to record, after --")->type_name("CMD ARGS...");
  app.positionals_at_end();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const bool help = e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
    app.exit(e);
    return help ? kDone : kMisused;
  }
  if (o.doctor) return run_doctor(o);
  if (!o.config.empty()) return run_as_daemon(o);
  if (o.output.empty() || o.command.empty()) {
    say("nothing to do: give --config FILE, --record FILE -- CMD, or --doctor (--help explains)");
    return kMisused;
  }
  return run_record(o);
}
