// PtOptions from and to text, by the names of the kernel's intel_pt format/ files.
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "hindcast/pt_config.h"

namespace hindcast {
namespace {

// The one list of names. A flag holds 0 or 1, a code 0 to 15.
struct Option {
  std::string_view name;
  bool PtOptions::*flag;
  uint8_t PtOptions::*code;

  uint8_t get(const PtOptions& o) const { return flag ? static_cast<uint8_t>(o.*flag) : o.*code; }
  void set(PtOptions& o, uint8_t v) const {
    if (flag)
      o.*flag = v != 0;
    else
      o.*code = v;
  }
  unsigned max() const { return flag ? 1 : 15; }
};

constexpr std::array kOptions{
    Option{"pt", &PtOptions::pt, nullptr},
    Option{"branch", &PtOptions::branch, nullptr},
    Option{"tsc", &PtOptions::tsc, nullptr},
    Option{"mtc", &PtOptions::mtc, nullptr},
    Option{"mtc_period", nullptr, &PtOptions::mtc_period},
    Option{"cyc", &PtOptions::cyc, nullptr},
    Option{"cyc_thresh", nullptr, &PtOptions::cyc_thresh},
    Option{"psb_period", nullptr, &PtOptions::psb_period},
    Option{"noretcomp", &PtOptions::noretcomp, nullptr},
    Option{"ptw", &PtOptions::ptw, nullptr},
    Option{"fup_on_ptw", &PtOptions::fup_on_ptw, nullptr},
    Option{"pwr_evt", &PtOptions::pwr_evt, nullptr},
    Option{"event", &PtOptions::event, nullptr},
    Option{"notnt", &PtOptions::notnt, nullptr},
};

// An option that is non-zero only together with another one.
struct Need {
  std::string_view option, needs;
};
constexpr std::array kNeeds{
    Need{"branch", "pt"},
    Need{"mtc_period", "mtc"},
    Need{"cyc_thresh", "cyc"},
    Need{"fup_on_ptw", "ptw"},
};

constexpr size_t index_of(std::string_view name) {
  for (size_t i = 0; i < kOptions.size(); ++i)
    if (kOptions[i].name == name) return i;
  return kOptions.size();
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

std::optional<uint64_t> number(std::string_view s) {
  int base = 10;
  if (s.starts_with("0x")) {
    base = 16;
    s.remove_prefix(2);
  }
  uint64_t v = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v, base);
  if (ec != std::errc{} || end != s.data() + s.size()) return std::nullopt;
  return v;
}

std::string quoted(std::string_view s) {
  constexpr size_t kLongest = 40;
  std::string out = "'";
  for (char c : s.substr(0, kLongest)) out += c >= 0x20 && c < 0x7f ? c : '?';
  return out + (s.size() > kLongest ? "...'" : "'");
}

std::string all_names() {
  std::string s = "the options are";
  for (const Option& o : kOptions) s += (&o == kOptions.data() ? " " : ", ") + std::string(o.name);
  return s + "; a name alone means 1, like tsc,mtc,mtc_period=3,cyc,noretcomp";
}

}  // namespace

Result<PtOptions> parse_pt_options(std::string_view text) {
  PtOptions options;
  std::array<std::optional<uint8_t>, kOptions.size()> given;
  std::vector<std::string> errors;

  for (std::string_view rest = trimmed(text); !rest.empty();) {
    const size_t comma = rest.find(',');
    const std::string_view item = trimmed(rest.substr(0, comma));
    rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
    if (comma != rest.npos && rest.empty()) errors.push_back("nothing after the last comma");
    if (item.empty()) {
      errors.push_back("an empty item between commas");
      continue;
    }
    const size_t equals = item.find('=');
    const std::string_view name = trimmed(item.substr(0, equals));
    const size_t i = index_of(name);
    if (i == kOptions.size()) {
      errors.push_back("unknown option " + quoted(name));
      continue;
    }
    uint64_t value = 1;
    if (equals != item.npos) {
      const std::string_view digits = trimmed(item.substr(equals + 1));
      const auto parsed = number(digits);
      if (!parsed || *parsed > kOptions[i].max()) {
        errors.push_back(std::string(name) + "=" + quoted(digits) + ": must be 0 to " +
                         std::to_string(kOptions[i].max()));
        continue;
      }
      value = *parsed;
    }
    const auto v = static_cast<uint8_t>(value);
    if (given[i] && *given[i] != v) {
      errors.push_back(std::string(name) + ": given as " + std::to_string(*given[i]) + " and as " + std::to_string(v));
      continue;
    }
    given[i] = v;
    kOptions[i].set(options, v);
  }

  for (const Need& need : kNeeds) {
    const Option& option = kOptions[index_of(need.option)];
    const Option& needed = kOptions[index_of(need.needs)];
    if (needed.get(options)) continue;
    // A code's default does not count as asked for; a flag that is on does, default or not.
    const bool asked = option.flag ? option.get(options) != 0 : given[index_of(need.option)].has_value();
    if (asked) errors.push_back(std::string(need.option) + " needs " + std::string(need.needs) + ", which is off");
  }

  if (errors.empty()) return options;
  std::string found;
  for (const std::string& e : errors) found += (found.empty() ? "" : "; ") + e;
  return Error{Errc::usage, "cannot use the PT options " + quoted(text), found, all_names()};
}

std::string to_text(const PtOptions& options) {
  const PtOptions defaults;
  std::string s;
  for (const Option& option : kOptions) {
    const uint8_t v = option.get(options);
    if (v == 0 && option.get(defaults) == 0) continue;
    bool pointless = false;  // a code whose flag is off cannot be parsed back
    for (const Need& need : kNeeds)
      if (need.option == option.name && option.code && !kOptions[index_of(need.needs)].get(options)) pointless = true;
    if (pointless) continue;
    if (!s.empty()) s += ',';
    s += option.name;
    if (option.code || v != 1) s += '=' + std::to_string(v);
  }
  return s;
}

}  // namespace hindcast
