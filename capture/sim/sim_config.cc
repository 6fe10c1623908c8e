#include "capture/sim/sim_config.h"

#include <charconv>
#include <cmath>

namespace hindcast::sim {
namespace {

Error misuse(const std::string& what) {
  return Error{Errc::usage,
               "cannot understand the simulator's options: " + what,
               {},
               "names: seed=N, ovf=PER_KIB (0..100), tick=HZ (0..10000), mtc_drop=SHARE (0..0.5), drift=0|1, "
               "deferred_tips=0|1, long_tnt=0|1"};
}

}  // namespace

Result<SimConfig> parse_sim_config(std::string_view text) {
  SimConfig config;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const size_t equals = item.find('=');
    const std::string name(item.substr(0, equals));
    const std::string_view value = equals == std::string_view::npos ? "1" : item.substr(equals + 1);
    const char* const end = value.data() + value.size();
    if (name == "seed") {
      const auto r = std::from_chars(value.data(), end, config.seed);
      if (r.ec != std::errc{} || r.ptr != end) return misuse("\"" + std::string(item) + "\" has no number");
      continue;
    }
    double number = 0;
    const auto r = std::from_chars(value.data(), end, number);
    if (r.ec != std::errc{} || r.ptr != end || !std::isfinite(number))
      return misuse("\"" + std::string(item) + "\" has no number");
    const auto within = [&](double low, double high) { return number >= low && number <= high; };
    bool good = true;
    if (name == "ovf") {
      good = within(0, 100);
      config.ovf = number;
    } else if (name == "tick") {
      good = within(0, 10000);
      config.tick = number;
    } else if (name == "mtc_drop") {
      good = within(0, 0.5);
      config.mtc_drop = number;
    } else if (name == "drift" || name == "deferred_tips" || name == "long_tnt") {
      good = number == 0 || number == 1;
      (name == "drift" ? config.drift : name == "long_tnt" ? config.long_tnt : config.deferred_tips) = number == 1;
    } else {
      return misuse("there is no \"" + name + "\"");
    }
    if (!good) return misuse("\"" + std::string(item) + "\" is out of range");
  }
  return config;
}

}  // namespace hindcast::sim
