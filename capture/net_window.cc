#include "capture/net_window.h"

#include <algorithm>

#include "capture/words.h"

namespace hindcast::capture {

namespace {

constexpr std::chrono::seconds kLook{1};

bool wants(const NetWindowConfig& config, const std::string& name) {
  return config.interfaces.empty() ||
         std::find(config.interfaces.begin(), config.interfaces.end(), name) != config.interfaces.end();
}

}  // namespace

NetWindow::NetWindow(const NetWindowConfig& config, Say say)
    : config_(config),
      say_(std::move(say)),
      store_(StreamKind::net, config.bytes),
      next_look_(std::chrono::steady_clock::now() + kLook) {}

Result<NetWindow> NetWindow::open(const NetWindowConfig& config, Say say) {
  NetWindow out(config, std::move(say));
  HC_TRY(const auto all, network_interfaces());
  std::string names;
  for (const NetInterface& i : all) names += (names.empty() ? "" : ", ") + i.name;
  for (const std::string& name : config.interfaces)
    if (std::none_of(all.begin(), all.end(), [&](const NetInterface& i) { return i.name == name; }))
      return Error{Errc::not_found, "cannot record packets: no interface \"" + name + "\" is up",
                   "up are: " + (names.empty() ? "none but loopback" : names), "name one of these, or none for all"};
  if (all.empty())
    return Error{Errc::unavailable, "cannot record packets: no network interface is up but loopback",
                 "packets between processes of this host show in waits", "ip link set NAME up"};
  Result<void> first;
  for (const NetInterface& i : all) {
    if (!wants(config, i.name)) continue;
    if (auto r = out.add(i); !r && first) first = std::move(r);
  }
  if (out.taps_.empty()) return first.error();
  return out;
}

Result<void> NetWindow::add(const NetInterface& interface) {
  if (taps_.size() >= kMostTaps) {
    refused_.insert(interface.index);
    say_("packets on " + interface.name + " are not recorded: " + std::to_string(kMostTaps) + " interfaces are tapped");
    return {};
  }
  auto tap = NetTap::open(interface, config_.tap);
  if (!tap) {
    refused_.insert(interface.index);
    say_("packets on " + interface.name + " are not recorded: " + in_one_line(tap.error(), "them"));
    return tap.error();
  }
  for (const std::string& note : tap->notes()) say_(note);
  DropWatch drops(tap->dropped());
  taps_.push_back({std::move(*tap), std::move(drops)});
  return {};
}

void NetWindow::drain(Tap& tap) {
  tap.tap.drain([this](ByteSpan record) { store_.add(record); });
  tap.drops.look(tap.tap.dropped(), [this](const wait::Lost& lost) {
    lost_ += lost.count;
    store_.add({reinterpret_cast<const uint8_t*>(&lost), sizeof lost});
  });
}

void NetWindow::poll() {
  for (Tap& tap : taps_) drain(tap);
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return;
  next_look_ = now + kLook;
  look_around();
}

void NetWindow::look_around() {
  const auto all = network_interfaces();
  if (!all) return;  // next time
  const auto is_there = [&](uint32_t index) {
    return std::any_of(all->begin(), all->end(), [&](const NetInterface& i) { return i.index == index; });
  };
  std::erase_if(taps_, [&](const Tap& t) { return !is_there(t.tap.interface().index); });
  std::erase_if(refused_, [&](uint32_t index) { return !is_there(index); });
  for (const NetInterface& i : *all) {
    const bool tapped =
        std::any_of(taps_.begin(), taps_.end(), [&](const Tap& t) { return t.tap.interface().index == i.index; });
    if (tapped || refused_.contains(i.index) || !wants(config_, i.name)) continue;
    if (add(i) && !refused_.contains(i.index)) say_("packets on " + i.name + " are recorded from now on");
  }
}

void NetWindow::finish() {
  for (Tap& tap : taps_) drain(tap);
  taps_.clear();
}

uint64_t NetWindow::oldest() const {
  const uint64_t oldest = store_.oldest();
  return oldest != 0 ? oldest : monotonic_ns();
}

}  // namespace hindcast::capture
