#include "transport/settings.h"

#include <toml++/toml.h>
#include <charconv>
#include <optional>
#include <set>
#include <sstream>

#include "transport/one_line.h"

namespace hindcast::transport {
namespace {

constexpr size_t kMaxText = 4096;
constexpr size_t kMaxTexts = 1000;

struct Unit {
  const char* name;
  uint64_t factor;
};

constexpr Unit kBytes[] = {
    {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}, {"TiB", uint64_t{1} << 40}};
constexpr Unit kSeconds[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};

/// "64 GiB"; nothing when it is no number with one of the units, or does not fit.
template <size_t N>
std::optional<uint64_t> quantity(std::string_view text, const Unit (&units)[N]) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  for (const Unit& unit : units)
    if (text == unit.name && value <= INT64_MAX / unit.factor) return value * unit.factor;
  return std::nullopt;
}

template <size_t N>
std::string names(const Unit (&units)[N]) {
  std::string s;
  for (const Unit& unit : units) s += (s.empty() ? "" : ", ") + std::string(unit.name);
  return s;
}

}  // namespace

struct Settings::Impl {
  std::string origin;
  toml::table table;
  std::set<std::string> asked;
  std::vector<std::string> complaints;

  const toml::node* find(const char* name) {
    asked.insert(name);
    return table.at_path(name).node();
  }
  void wrong(const std::string& name, const std::string& why, const toml::node* node) {
    const std::string line = node ? " (line " + std::to_string(node->source().begin.line) + ")" : "";
    complaints.push_back(name + line + ": " + why);
  }
  void look_for_strangers(const toml::table& in, const std::string& prefix) {
    for (const auto& [key, value] : in) {
      const std::string name = prefix + std::string(key.str());
      if (const toml::table* inner = value.as_table())
        look_for_strangers(*inner, name + ".");
      else if (!asked.contains(name))
        wrong(one_line(name, 100), "there is no such setting", &value);
    }
  }
  template <size_t N>
  uint64_t quantity_of(const char* name, uint64_t otherwise, const Unit (&units)[N]) {
    const toml::node* node = find(name);
    if (!node) return otherwise;
    const auto text = node->value_exact<std::string>();
    const auto value = text ? quantity(*text, units) : std::nullopt;
    if (!value) wrong(name, "not a number with a unit in quotes, of " + names(units), node);
    return value.value_or(otherwise);
  }
};

Settings::Settings(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Settings::Settings(Settings&&) noexcept = default;
Settings::~Settings() = default;

Result<Settings> Settings::parse(const std::string& text, const std::string& origin) {
  auto impl = std::make_unique<Impl>();
  impl->origin = origin;
  try {
    impl->table = toml::parse(text);
  } catch (const toml::parse_error& e) {
    return Error{Errc::bad_input,
                 "cannot read " + origin + ": it is no TOML",
                 "line " + std::to_string(e.source().begin.line) + ": " + one_line(e.description(), 300),
                 {}};
  }
  return Settings(std::move(impl));
}

std::string Settings::text(const char* name, const std::string& otherwise) {
  const toml::node* node = impl_->find(name);
  if (!node) return otherwise;
  const auto value = node->value_exact<std::string>();
  if (value && !value->empty() && value->size() <= kMaxText && value->find('\0') == value->npos) return *value;
  impl_->wrong(name, "not a text in quotes, of 1 to " + std::to_string(kMaxText) + " bytes", node);
  return otherwise;
}

bool Settings::is_text(const char* name, const char* text) {
  const toml::node* node = impl_->find(name);
  return node && node->value_exact<std::string>() == text;
}

std::string Settings::needed_text(const char* name) {
  if (!impl_->find(name)) impl_->wrong(name, "missing", nullptr);
  return text(name, "");
}

uint64_t Settings::number(const char* name, uint64_t otherwise, uint64_t least, uint64_t most) {
  const toml::node* node = impl_->find(name);
  if (!node) return otherwise;
  const auto value = node->value_exact<int64_t>();
  if (value && *value >= 0 && static_cast<uint64_t>(*value) >= least && static_cast<uint64_t>(*value) <= most)
    return static_cast<uint64_t>(*value);
  impl_->wrong(name, "not a whole number from " + std::to_string(least) + " to " + std::to_string(most), node);
  return otherwise;
}

uint64_t Settings::bytes(const char* name, uint64_t otherwise) { return impl_->quantity_of(name, otherwise, kBytes); }

uint64_t Settings::seconds(const char* name, uint64_t otherwise) {
  return impl_->quantity_of(name, otherwise, kSeconds);
}

std::vector<std::string> Settings::texts(const char* name) {
  const toml::node* node = impl_->find(name);
  if (!node) return {};
  std::vector<std::string> all;
  if (const toml::array* list = node->as_array(); list && list->size() <= kMaxTexts)
    for (const toml::node& item : *list)
      if (const auto value = item.value_exact<std::string>();
          value && value->size() <= kMaxText && value->find('\0') == value->npos)
        all.push_back(*value);
  if (node->is_array() && all.size() == node->as_array()->size()) return all;
  impl_->wrong(name, "not a list of at most " + std::to_string(kMaxTexts) + " texts in quotes", node);
  return {};
}

void Settings::wrong(const char* name, const std::string& why) { impl_->wrong(name, why, impl_->find(name)); }

Result<void> Settings::finish() {
  impl_->look_for_strangers(impl_->table, "");
  if (impl_->complaints.empty()) return {};
  constexpr size_t kMost = 20;
  std::string all;
  for (size_t i = 0; i < impl_->complaints.size() && i < kMost; ++i)
    all += (all.empty() ? "" : "; ") + impl_->complaints[i];
  if (impl_->complaints.size() > kMost) all += "; and more";
  return Error{Errc::bad_input, "cannot use the settings in " + impl_->origin, all, {}};
}

}  // namespace hindcast::transport
