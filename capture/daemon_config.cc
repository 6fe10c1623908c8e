#include "capture/daemon_config.h"

#include <unistd.h>

#include <filesystem>

#include "capture/sim/sim_config.h"
#include "transport/durable_file.h"
#include "transport/names.h"
#include "transport/settings.h"

namespace hindcast::capture {
namespace {

/// The machine's name as far as it can be one of ours.
std::string own_name() {
  char text[256] = {};
  if (::gethostname(text, sizeof text - 1) != 0) return {};
  std::string name(text);
  return transport::is_name(name) ? name : std::string();
}

bool is_ring_size(uint64_t bytes) { return bytes >= 4096 && bytes <= uint64_t{1} << 40 && (bytes & (bytes - 1)) == 0; }

}  // namespace

Result<DaemonConfig> parse_daemon_config(const std::string& text, const std::string& origin,
                                         const std::string& folder) {
  HC_TRY(transport::Settings s, transport::Settings::parse(text, origin));
  DaemonConfig c;
  const auto path = [&folder](const std::string& p) {
    return p.empty() ? p : (std::filesystem::path(folder) / p).lexically_normal().string();
  };
  const auto ring = [&s](const char* name, uint64_t otherwise) {
    const uint64_t bytes = s.bytes(name, otherwise);
    if (!is_ring_size(bytes)) s.wrong(name, "not a power of two from 4 KiB on");
    return bytes;
  };
  c.sender.host = s.text("host", own_name());
  if (!transport::is_name(c.sender.host))
    s.wrong("host", std::string("not a name, and this machine's is none either: ") + transport::kNameRule);
  c.sender.endpoint = s.needed_text("server.endpoint");
  if (!c.sender.endpoint.empty() && !c.sender.endpoint.starts_with("tcp://"))
    s.wrong("server.endpoint", "not tcp://ADDRESS:PORT");
  c.server_key_file = path(s.needed_text("server.public_key_file"));
  c.key_file = path(s.needed_text("server.key_file"));
  c.sender.bytes_per_second = s.bytes("server.bytes_per_second", 0);
  c.spool.folder = path(s.needed_text("spool.folder"));
  c.spool.limit_bytes = s.bytes("spool.limit", c.spool.limit_bytes);

  c.source.source = s.text("trace.source", c.source.source);
  if (c.source.source != "auto" && c.source.source != "perf" && c.source.source != "simulated")
    s.wrong("trace.source", "not auto, perf or simulated");
  c.source.sim = s.text("trace.sim", "");
  if (const auto sim = sim::parse_sim_config(c.source.sim); !sim) s.wrong("trace.sim", sim.error().text());
  c.source.truth = path(s.text("trace.truth", ""));
  if (const auto pt = parse_pt_options(s.text("trace.pt", "tsc")))
    c.window.pt = *pt;
  else
    s.wrong("trace.pt", pt.error().text());
  if (s.is_text("trace.ring", "auto"))
    c.window.ring_bytes = 0;
  else
    c.window.ring_bytes = ring("trace.ring", c.window.ring_bytes);
  c.window.ring_budget = s.bytes("trace.ring_budget", 0);
  const std::string scope = s.text("trace.scope", "all");
  c.window.command_only = scope == "command";
  if (scope != "all" && scope != "command") s.wrong("trace.scope", "not all or command");
  const std::string code = s.text("trace.code", "user");
  c.window.kernel = code == "user+kernel";
  if (code != "user" && code != "user+kernel") s.wrong("trace.code", "not user or user+kernel");
  if (c.window.kernel && c.source.source == "simulated")
    s.wrong("trace.code", "the simulated source traces user code only");
  c.window.sideband_ring_bytes = ring("trace.sideband_ring", c.window.sideband_ring_bytes);
  c.window.sideband.switch_bytes_per_cpu = c.window.sideband.process_bytes =
      s.bytes("trace.sideband_window", c.window.sideband.process_bytes);
  const auto want = [&s](const char* name, const char* otherwise) {
    const auto v = parse_want(s.text(name, otherwise));
    if (!v) s.wrong(name, "not auto, on or off");
    return v.value_or(Want::no);
  };
  c.window.waits = want("trace.waits", "auto");
  c.window.waits_ring_bytes = ring("trace.waits_ring", c.window.waits_ring_bytes);
  c.window.waits_bytes = s.bytes("trace.waits_window", c.window.waits_bytes);
  c.window.net = want("trace.net", "off");
  c.window.packets.interfaces = s.texts("trace.net_interfaces");
  c.window.packets.tap.ring_bytes = ring("trace.net_ring", c.window.packets.tap.ring_bytes);
  c.window.packets.tap.most_packets_per_second =
      static_cast<uint32_t>(s.number("trace.net_rate", c.window.packets.tap.most_packets_per_second, 0, 1000000000));
  c.window.packets.bytes = s.bytes("trace.net_window", c.window.packets.bytes);
  c.window.command = s.texts("window.command");
  c.window.cgroup = path(s.text("window.cgroup", ""));
  if (!c.window.cgroup.empty() && !c.window.command.empty())
    s.wrong("window.cgroup", "a window is over a command or over a cgroup, not both");
  if (!c.window.cgroup.empty() && c.window.command_only)
    s.wrong("trace.scope", "only a command can be traced alone; a cgroup is as it is");
  if (!c.window.cgroup.empty() && c.source.source == "simulated")
    s.wrong("window.cgroup", "the simulated source traces only what it starts itself");
  c.cooldown = std::chrono::seconds(s.seconds("freeze.cooldown", 1));
  c.late = std::chrono::seconds(s.seconds("freeze.late", 60));
  HC_TRY_VOID(s.finish());
  return c;
}

Result<DaemonConfig> read_daemon_config(const std::string& path) {
  HC_TRY(const auto bytes, transport::read_small(path, uint64_t{64} << 10));
  HC_TRY(DaemonConfig c, parse_daemon_config(std::string(bytes.begin(), bytes.end()), path,
                                             std::filesystem::path(path).parent_path().string()));
  HC_TRY(c.sender.keys, transport::read_secret_key_file(c.key_file));
  HC_TRY(c.sender.server_key, transport::read_public_key_file(c.server_key_file));
  return c;
}

}  // namespace hindcast::capture
