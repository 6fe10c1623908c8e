// Records one command into a bundle: `hindcastd --record FILE -- CMD`.
#include "capture/recorder.h"

#include <sys/stat.h>

#include "capture/signal_trap.h"
#include "capture/snapshot_output.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

using Clock = Window::Clock;

class Recording {
 public:
  Recording(PtSource& source, PerfCalls& calls, const RecordConfig& config, const Window::Say& say)
      : config_(config), say_(say), window_(source, calls, config.window, say) {}

  Result<RecordSummary> run();

 private:
  void loop(SignalTrap& signals);
  bool should_stop(SignalTrap& signals);

  const RecordConfig& config_;
  const Window::Say& say_;
  Window window_;
  std::optional<Clock::time_point> ended_at_, lingering_until_;
  int stop_signals_ = 0;
};

bool Recording::should_stop(SignalTrap& signals) {
  while (const auto s = signals.take()) {
    const int number = static_cast<int>(s->ssi_signo);
    if (number != SIGUSR1 && number != SIGUSR2 && ++stop_signals_ > 1) {
      window_.note("stopped by a second signal before the command had ended");
      return true;
    }
    // the terminal signals its whole foreground group, the command included
    if (s->ssi_code != SI_KERNEL) window_.child().send(number);
  }
  if (!window_.child().poll_end()) return false;
  const auto wall = Clock::now();
  if (!ended_at_) ended_at_ = wall;
  if (window_.complete_since() < *ended_at_) return false;  // it may have forked in records that are not read yet
  const std::vector<Pid> alive = window_.alive();
  if (alive.empty()) return true;
  if (!lingering_until_) lingering_until_ = wall + config_.linger;
  if (wall < *lingering_until_) return false;
  std::string pids;
  for (size_t i = 0; i < alive.size() && i < 8; i++) pids += " " + std::to_string(alive[i].value());
  window_.note("the command ended, but " + std::to_string(alive.size()) + " of its processes still run (" +
               (pids.empty() ? pids : pids.substr(1)) + (alive.size() > 8 ? " ..." : "") +
               "); the recording ends here (see --linger)");
  return true;
}

void Recording::loop(SignalTrap& signals) {
  const int also[] = {signals.fd()};
  for (;;) {
    if (const auto r = window_.step(also); !r) {
      window_.note("the recording ends early: " + r.error().text());
      return;
    }
    if (should_stop(signals)) return;
  }
}

Result<RecordSummary> Recording::run() {
  HC_TRY(transport::BundleWriter writer, transport::BundleWriter::create(config_.output));
  HC_TRY(SignalTrap signals, SignalTrap::set({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}));
  HC_TRY_VOID(window_.open(signals.before()));
  HC_TRY_VOID(window_.start());
  loop(signals);
  HC_TRY(Frozen frozen, window_.finish());

  RecordSummary summary;
  const auto end = window_.child().poll_end();
  summary.command_ended = end.has_value();
  if (end) summary.command = *end;
  frozen.info.notes.push_back(end ? "the command " + end->text() : "the command had not ended when the recording did");
  for (const std::string& warning : frozen.warnings) say_(warning);
  BundleOutput output(writer);
  HC_TRY_VOID(write_snapshot(output, frozen, say_));
  HC_TRY_VOID(writer.finish());

  summary.streams = frozen.info.streams;
  summary.images = frozen.info.images.size();
  for (const ImageInfo& i : frozen.info.images) summary.image_bytes += i.bytes;
  summary.lost_records = window_.lost_records();
  summary.lost_waits = window_.lost_waits();
  summary.notes = frozen.info.notes;
  struct stat st {};
  if (::stat(config_.output.c_str(), &st) == 0) summary.file_bytes = static_cast<uint64_t>(st.st_size);
  return summary;
}

}  // namespace

Result<RecordSummary> record_command(PtSource& source, PerfCalls& calls, const RecordConfig& config,
                                     const std::function<void(const std::string&)>& say) {
  Recording recording(source, calls, config, say);
  return recording.run();
}

std::string RecordSummary::text(const RecordConfig& config, const std::string& source) const {
  std::string out = "recorded " + shell_quoted(config.window.command).substr(0, 200) + " with " + source + " PT; it " +
                    (command_ended ? command.text() : std::string("still runs"));
  uint64_t pt = 0, sideband = 0, waits = 0, net = 0, lost_pt = 0;
  size_t cpus = 0;
  std::string window;
  for (const StreamInfo& s : streams) {
    if (s.kind == StreamKind::sideband) sideband += s.bytes;
    if (s.kind == StreamKind::waits) waits += s.bytes;
    if (s.kind == StreamKind::net) net += s.bytes;
    if (s.kind != StreamKind::pt) continue;
    pt += s.bytes;
    lost_pt += s.lost_bytes;
    cpus++;
    window += "\n            CPU " + std::to_string(s.cpu.value()) + "  " + human_bytes(s.bytes) +
              (s.wrapped ? ": the newest part, older bytes were overwritten (--ring)" : ": everything since the start");
  }
  out += "\n  trace     " + human_bytes(pt) + " on " + std::to_string(cpus) + " CPUs" + window;
  if (lost_pt) out += "\n            " + human_bytes(lost_pt) + " known to be lost";
  out += "\n  sideband  " + human_bytes(sideband) + ", " + std::to_string(lost_records) + " records lost";
  out += "\n  waits     " + (lost_waits ? human_bytes(waits) + ", " + std::to_string(*lost_waits) + " records lost"
                                        : std::string("not recorded"));
  if (net) out += "\n  packets   " + human_bytes(net);
  out += "\n  code      " + std::to_string(images) + " images, " + human_bytes(image_bytes);
  out += "\n  file      " + config.output + ", " + human_bytes(file_bytes);
  return out;
}

}  // namespace hindcast::capture
