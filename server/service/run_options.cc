#include "server/service/run_options.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "transport/one_line.h"

namespace hindcast::server {
namespace {

constexpr size_t kMaxOptions = 32, kMaxOptionBytes = 256;

struct Option {
  std::string_view name;
  bool has_value;
};

struct Command {
  std::string_view name;
  std::vector<Option> options;
};

const std::vector<Command>& commands() {
  static const std::vector<Command> all{
      {"ls",
       {{"json", false}, {"verbose", false}, {"snapshot", true}, {"cgroup", true}, {"container", true}, {"pod", true}}},
      {"show", {{"json", false},  {"full-names", false}, {"blocks", false},  {"insns", false},   {"lines", false},
                {"stat", false},  {"intel", false},      {"snapshot", true}, {"pid", true},      {"tid", true},
                {"cgroup", true}, {"container", true},   {"pod", true},      {"cpu", true},      {"time", true},
                {"limit", true},  {"tail", true},        {"at", true},       {"numbers", false}, {"resync", true},
                {"engine", true}}},
      {"calls",
       {{"json", false},
        {"full-names", false},
        {"snapshot", true},
        {"pid", true},
        {"tid", true},
        {"cgroup", true},
        {"container", true},
        {"pod", true},
        {"time", true},
        {"limit", true},
        {"depth", true},
        {"engine", true}}},
      {"dump",
       {{"json", false},
        {"sideband", false},
        {"snapshot", true},
        {"cpu", true},
        {"stream", true},
        {"offset", true},
        {"limit", true}}},
      {"waits",
       {{"json", false},
        {"snapshot", true},
        {"tid", true},
        {"cgroup", true},
        {"container", true},
        {"pod", true},
        {"cpu", true},
        {"time", true},
        {"limit", true}}},
      {"net", {{"json", false}, {"snapshot", true}, {"cpu", true}, {"time", true}, {"limit", true}}},
      {"verify", {{"json", false}, {"resync", true}}},
  };
  return all;
}

std::string spelled(const Option& o) { return "--" + std::string(o.name) + (o.has_value ? "=..." : ""); }

}  // namespace

Result<void> check_run(const std::string& command, const std::vector<std::string>& options) {
  std::string names;
  const Command* found = nullptr;
  for (const Command& c : commands()) {
    names += (names.empty() ? "" : ", ") + std::string(c.name);
    if (c.name == command) found = &c;
  }
  if (!found)
    return Error{Errc::usage, "the server does not run the command '" + transport::one_line(command, 100) + "'",
                 "it runs " + names, "download the bundle, and run the command on it"};
  if (options.size() > kMaxOptions)
    return Error{Errc::usage,
                 "too many options",
                 std::to_string(options.size()) + "; at most " + std::to_string(kMaxOptions),
                 {}};
  for (const std::string& option : options) {
    const size_t sign = option.find('=');
    const std::string name = option.substr(0, sign);
    const bool has_value = sign != option.npos;
    const bool known = option.size() <= kMaxOptionBytes &&
                       std::any_of(found->options.begin(), found->options.end(), [&](const Option& o) {
                         return name == "--" + std::string(o.name) && has_value == o.has_value;
                       });
    const bool printable = std::all_of(option.begin(), option.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
    if (known && printable) continue;
    std::string here;
    for (const Option& o : found->options) here += (here.empty() ? "" : ", ") + spelled(o);
    return Error{Errc::usage,
                 "the server does not take the option '" + transport::one_line(option, 100) + "' for " + command,
                 "it takes " + here, "download the bundle for what the server does not do"};
  }
  return {};
}

}  // namespace hindcast::server
