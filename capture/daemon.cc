#include "capture/daemon.h"

#include <atomic>
#include <thread>

#include "capture/freeze_queue.h"
#include "capture/signal_trap.h"
#include "capture/snapshot_output.h"
#include "capture/words.h"
#include "transport/service_notify.h"

namespace hindcast::capture {

namespace {

using Clock = Window::Clock;
using std::chrono::milliseconds;

constexpr std::chrono::seconds kPatience{5};  // with a command that was asked to end

class Daemon {
 public:
  Daemon(PtSource& source, PerfCalls& calls, const DaemonConfig& config, const Window::Say& say)
      : config_(config), say_(say), window_(source, calls, config.window, say) {}
  ~Daemon();

  Result<void> run();

 private:
  Result<void> start(SignalTrap& signals);
  bool asked_to_stop(SignalTrap& signals);
  void look_at_child();
  void advance_freeze();
  void begin_freeze(const transport::FreezeOrder& order);
  void end_freeze();
  void give_up(const std::string& incident, const Error& error);
  void write_loop();
  Result<uint64_t> write(Taken& taken);
  void stop(SignalTrap& signals);
  transport::HostStatus status() const;

  const DaemonConfig& config_;
  const Window::Say& say_;
  Window window_;
  std::unique_ptr<transport::Spool> spool_;
  FreezeQueue queue_;
  std::unique_ptr<transport::Sender> sender_;
  std::thread writer_;

  // the window's thread
  std::optional<transport::FreezeOrder> freezing_;
  Clock::time_point freeze_began_, cooldown_until_;
  bool was_writing_ = false;

  std::atomic<const char*> state_{"starting"};
  std::atomic<bool> child_gone_{false};
};

Daemon::~Daemon() {
  queue_.close();
  if (writer_.joinable()) writer_.join();
}

Result<void> Daemon::start(SignalTrap& signals) {
  HC_TRY(spool_, transport::Spool::open(config_.spool));
  for (const auto& entry : spool_->damaged())
    say_("the spool holds a snapshot that cannot be shipped, " + entry.incident + ": " + entry.damage);
  HC_TRY_VOID(window_.open(signals.before()));
  transport::SenderEvents events;
  events.freeze = [this](const transport::FreezeOrder& order) { queue_.order(order); };
  events.status = [this] { return status(); };
  events.committed = [this](const std::string& incident) { say_("incident " + incident + " committed by the server"); };
  events.say = say_;
  HC_TRY(sender_, transport::Sender::start(config_.sender, *spool_, std::move(events)));
  // The command runs from here on: nothing that can fail comes behind.
  HC_TRY_VOID(window_.start());
  state_ = "armed";
  writer_ = std::thread([this] { write_loop(); });
  const std::string over = window_.has_child() ? shell_quoted(config_.window.command).substr(0, 200) + " as process " +
                                                     std::to_string(window_.child().pid().value())
                                               : "cgroup " + config_.window.cgroup;
  say_("armed: " + over + ", " +
       (config_.window.ring_bytes ? human_bytes(config_.window.ring_bytes) : std::string("as much as may be")) +
       " of PT per CPU, for " + config_.sender.endpoint + " as " + config_.sender.host);
  transport::notify_service("READY=1");
  return {};
}

transport::HostStatus Daemon::status() const {
  transport::HostStatus s;
  s.state = queue_.writing() ? "frozen" : state_.load();
  if (s.state == "armed" && !spool_->waiting().empty()) s.state = "shipping";
  if (child_gone_) s.notes.push_back("the command has ended: the window holds its end");
  return s;
}

bool Daemon::asked_to_stop(SignalTrap& signals) {
  const auto s = signals.take();
  if (s) say_("asked to stop by signal " + std::to_string(s->ssi_signo));
  return s.has_value();
}

void Daemon::look_at_child() {
  if (child_gone_ || !window_.has_child()) return;
  const auto end = window_.child().poll_end();
  if (!end) return;
  child_gone_ = true;
  window_.note("the command " + end->text());
  say_("the window stays as it is, and will be frozen when the server asks");
}

void Daemon::give_up(const std::string& incident, const Error& error) {
  say_("incident " + incident + ": " + error.text());
  sender_->freeze_failed(incident, error);
}

void Daemon::begin_freeze(const transport::FreezeOrder& order) {
  freeze_began_ = Clock::now();
  say_("incident " + order.incident + " ordered: " + order.reason.substr(0, 200));
  if (const auto r = window_.start_snapshot(); !r) return give_up(order.incident, r.error());
  freezing_ = order;
  state_ = "freezing";
}

void Daemon::end_freeze() {
  auto frozen = window_.take_snapshot();
  if (frozen && !*frozen) return;
  const transport::FreezeOrder order = *std::exchange(freezing_, std::nullopt);
  state_ = "armed";
  if (!frozen) return give_up(order.incident, frozen.error());
  Taken taken{order.incident, std::move(**frozen)};
  SnapshotInfo& info = taken.frozen.info;
  info.host = config_.sender.host;
  info.incident = order.incident;
  info.notes.push_back("frozen because: " + order.reason.substr(0, 500));
  if (order.age > config_.late)
    info.notes.push_back("this freeze came " +
                         std::to_string(std::chrono::duration_cast<std::chrono::seconds>(order.age).count()) +
                         " s after it was ordered: this host was away, or its daemon was started again");
  std::vector<transport::CpuCover> covers;
  for (const Cut& c : taken.frozen.cuts)
    if (c.info.kind == StreamKind::pt)
      covers.push_back({c.info.cpu, c.info.wrapped ? Tsc::min() : info.traced.earliest, info.traced.latest});
  sender_->frozen(order.incident, std::move(covers));
  const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - freeze_began_);
  say_("incident " + order.incident + " frozen in " + std::to_string(took.count()) + " ms");
  queue_.write(std::move(taken));
}

void Daemon::advance_freeze() {
  if (freezing_) return end_freeze();
  const bool writing = queue_.writing();
  if (was_writing_ && !writing) cooldown_until_ = Clock::now() + config_.cooldown;
  was_writing_ = writing;
  const bool cooling = Clock::now() < cooldown_until_;
  state_ = cooling ? "cooldown" : "armed";
  if (cooling) return;
  if (const auto order = queue_.next_order()) begin_freeze(*order);
}

Result<uint64_t> Daemon::write(Taken& taken) {
  HC_TRY(transport::SpoolWriter writer, spool_->begin(taken.incident, config_.sender.host, 0));
  SpoolOutput output(writer);
  HC_TRY_VOID(write_snapshot(output, taken.frozen, [](const std::string&) {}));
  return output.bytes();
}

void Daemon::write_loop() {
  while (auto taken = queue_.next_taken()) {
    const auto bytes = write(*taken);
    if (!bytes) {
      give_up(taken->incident, bytes.error());
      continue;
    }
    sender_->durable(taken->incident);
    say_("incident " + taken->incident + " durable, " + human_bytes(*bytes));
  }
}

/// Ends the command, and finishes what is frozen. What is in a cgroup runs on.
void Daemon::stop(SignalTrap& signals) {
  transport::notify_service("STOPPING=1");
  const auto begin = Clock::now();
  bool killed = false;
  const auto has_ended = [this] { return !window_.has_child() || window_.child().poll_end().has_value(); };
  if (!has_ended()) window_.child().send(SIGTERM);
  for (;;) {
    const auto wall = Clock::now();
    const int also[] = {signals.fd()};
    if (!window_.step(also)) break;
    signals.take();  // it is stopping already
    if (freezing_) end_freeze();
    const bool ended = has_ended();
    if (!ended && !killed && wall > begin + kPatience) {
      say_("the command does not end: killing it");
      window_.child().send(SIGKILL);
      killed = true;
    }
    if (ended && !freezing_) break;
  }
  queue_.close();
  writer_.join();
  say_("stopped; " + std::to_string(spool_->waiting().size()) + " snapshots wait in the spool");
}

Result<void> Daemon::run() {
  HC_TRY(SignalTrap signals, SignalTrap::set({SIGINT, SIGTERM}));
  HC_TRY_VOID(start(signals));
  const int also[] = {signals.fd()};
  for (;;) {
    if (auto r = window_.step(also); !r) {
      stop(signals);
      return r;
    }
    if (asked_to_stop(signals)) break;
    look_at_child();
    advance_freeze();
  }
  stop(signals);
  return {};
}

}  // namespace

Result<void> run_daemon(PtSource& source, PerfCalls& calls, const DaemonConfig& config, const Window::Say& say) {
  Daemon daemon(source, calls, config, say);
  return daemon.run();
}

}  // namespace hindcast::capture
