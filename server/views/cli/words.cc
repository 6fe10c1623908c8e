#include "server/views/cli/words.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <string_view>
#include <tuple>

#include "server/views/cli/output.h"

namespace hindcast::server::cli {
namespace {

template <class... Args>
std::string print(const char* format, Args... args) {
  char buffer[160];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

bool open_below(const TscInterval& t) { return t.earliest == Tsc::min(); }
bool open_above(const TscInterval& t) { return t.latest == Tsc::max(); }

std::string moment(const TimeScale& scale, double ns) {
  return scale.known() ? print("%.6f", ns / 1e6) : print("%.0f", ns);
}

struct Unit {
  double ns;
  const char* name;
};

Unit unit_for(double ns) {
  const double a = std::fabs(ns);
  if (a < 1e3) return {1, "ns"};
  if (a < 1e6) return {1e3, "µs"};
  if (a < 1e9) return {1e6, "ms"};
  return {1e9, "s"};
}

/// Three digits that count, never more precise than a nanosecond.
std::string digits(double v, const Unit& u) {
  const double a = std::fabs(v);
  int decimals = a < 10 ? 2 : a < 100 ? 1 : 0;
  if (u.ns <= 1) decimals = 0;
  return print("%.*f", decimals, v);
}

}  // namespace

std::string size_text(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = static_cast<double>(bytes);
  size_t unit = 0;
  while (v >= 1023.5 && unit < 4) {
    v /= 1024;
    ++unit;
  }
  return unit == 0 ? print("%.0f B", v) : print("%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, kUnits[unit]);
}

std::string count_text(uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

std::string utc_text(uint64_t unix_ns) {
  if (unix_ns == 0) return "unknown";
  const std::time_t t = static_cast<std::time_t>(unix_ns / 1'000'000'000);
  std::tm tm{};
  char buffer[64];
  if (!gmtime_r(&t, &tm) || !std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S UTC", &tm)) return "unknown";
  return buffer;
}

std::string span_text(double ns) {
  const Unit u = unit_for(ns);
  return digits(ns / u.ns, u) + " " + u.name;
}

std::string hex_text(uint64_t v) { return print("0x%" PRIx64, v); }

TimeText time_text(const TimeScale& scale, const TscInterval& t) {
  if (open_below(t) && open_above(t)) return {"?", ""};
  if (open_below(t)) return {"< " + moment(scale, scale.ns(t.latest)), ""};
  if (open_above(t)) return {"> " + moment(scale, scale.ns(t.earliest)), ""};
  const double a = scale.ns(t.earliest), b = scale.ns(t.latest), half = (b - a) / 2;
  return {moment(scale, a + half), scale.known() ? "±" + span_text(half) : print("±%.0f", half)};
}

std::string time_unit(const TimeScale& scale) { return scale.known() ? "ms" : "ticks"; }

std::string time_phrase(const TimeScale& scale, const TscInterval& t) {
  const TimeText text = time_text(scale, t);
  if (text.at == "?") return "time unknown";
  return text.at + " " + time_unit(scale) + (text.width.empty() ? "" : " " + text.width);
}

std::string range_phrase(const TimeScale& scale, const TscInterval& t) {
  if (open_below(t) && open_above(t)) return "time unknown";
  const std::string unit = " " + time_unit(scale);
  if (open_below(t)) return "before " + moment(scale, scale.ns(t.latest)) + unit;
  if (open_above(t)) return "after " + moment(scale, scale.ns(t.earliest)) + unit;
  return moment(scale, scale.ns(t.earliest)) + ".." + moment(scale, scale.ns(t.latest)) + unit;
}

std::string duration_text(const TimeScale& scale, const TscInterval& from, const TscInterval& to) {
  if (open_below(from) || open_above(from) || open_below(to) || open_above(to)) return "?";
  const double least = std::max(0.0, scale.ns(to.earliest) - scale.ns(from.latest));
  const double most = std::max(least, scale.ns(to.latest) - scale.ns(from.earliest));
  if (!scale.known()) return print("%.0f..%.0f ticks", least, most);
  const Unit u = unit_for(most);
  const std::string a = digits(least / u.ns, u), b = digits(most / u.ns, u);
  return (a == b ? a : a + ".." + b) + " " + u.name;
}

namespace {

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

/// The number at the front of s, which it is taken from. Decimal only.
template <class T>
std::optional<T> take_number(std::string_view& s) {
  T v{};
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc()) return std::nullopt;
  s.remove_prefix(static_cast<size_t>(end - s.data()));
  return v;
}

/// One side of a range. Nothing: it is no time.
std::optional<TimeRange::Side> parse_side(std::string_view text, std::string_view unit_of_other) {
  std::string_view rest = text;
  const auto number = take_number<double>(rest);
  if (!number || !std::isfinite(*number)) return std::nullopt;
  std::string_view unit = trimmed(rest);
  if (unit.empty()) unit = *number == 0 && unit_of_other != "t" ? "ns" : unit_of_other;
  TimeRange::Side side;
  if (unit == "t") {
    std::string_view whole = text;  // a double does not hold every tick
    const auto tsc = take_number<uint64_t>(whole);
    if (!tsc || !(trimmed(whole).empty() || trimmed(whole) == "t")) return std::nullopt;
    side.unit = TimeRange::Unit::tsc;
    side.tsc = Tsc(*tsc);
    return side;
  }
  if (unit == "ticks") {
    side.unit = TimeRange::Unit::ticks;
    side.value = *number;
    return side;
  }
  const double scale = unit == "ns"                   ? 1
                       : unit == "us" || unit == "µs" ? 1e3
                       : unit == "ms"                 ? 1e6
                       : unit == "s"                  ? 1e9
                                                      : 0;
  if (scale == 0) return std::nullopt;
  side.value = *number * scale;
  return side;
}

/// What stands behind the number, for the other side to take.
std::string_view unit_of(std::string_view text) {
  const size_t at = text.find_last_of("0123456789.");
  return at == std::string_view::npos ? std::string_view() : trimmed(text.substr(at + 1));
}

}  // namespace

Result<TimeRange> parse_time_range(const std::string& text) {
  const auto bad = [&](const std::string& why) {
    return Error{
        Errc::usage,
        "cannot read the time range \"" + text + "\": " + why,
        {},
        "write A,B as in 1.5ms,2ms; units ns, us, ms, s, or t for TSC values; leave a side empty for no limit"};
  };
  const std::string separator = text.find(',') != std::string::npos ? "," : "..";
  const size_t at = text.find(separator);
  if (at == std::string::npos || text.find(separator, at + separator.size()) != std::string::npos)
    return bad("not two times");
  const std::string_view a = trimmed(std::string_view(text).substr(0, at));
  const std::string_view b = trimmed(std::string_view(text).substr(at + separator.size()));
  TimeRange range;
  for (const auto& [side, other, out] : {std::tuple{a, b, &range.from}, {b, a, &range.to}}) {
    if (side.empty()) continue;
    *out = parse_side(side, unit_of(other));
    if (*out) continue;
    std::string_view rest = side;
    const bool number = take_number<double>(rest).has_value() && trimmed(rest).empty();
    return bad("\"" + std::string(side) +
               (number ? "\" lacks a unit (answers print times in ms)" : "\" is not a time"));
  }
  if (range.from && range.to && range.from->unit == range.to->unit &&
      (range.from->value > range.to->value || range.from->tsc > range.to->tsc))
    return bad("it ends before it begins");
  return range;
}

Result<TscInterval> resolve(const TimeRange& range, const TimeScale& scale) {
  TscInterval out = TscInterval::unknown();
  for (const auto& [side, to] : {std::pair{&range.from, &out.earliest}, {&range.to, &out.latest}}) {
    if (!*side) continue;
    const TimeRange::Side& s = **side;
    if (s.unit == TimeRange::Unit::ns && !scale.known())
      return Error{Errc::usage, "times of this recording cannot be given in nanoseconds",
                   "its snapshot says neither the TSC's rate nor the kernel's conversion",
                   "give ticks since the window's start, or TSC values: --time 1000ticks,2000ticks"};
    *to = s.unit == TimeRange::Unit::tsc     ? s.tsc
          : s.unit == TimeRange::Unit::ticks ? TimeScale{scale.origin, 0}.tsc(s.value)
                                             : scale.tsc(s.value);
  }
  return out;
}

std::string base_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  // "//anon" and the like are not paths.
  return slash == std::string::npos || path.starts_with("//") ? path : path.substr(slash + 1);
}

namespace {

constexpr size_t kLongName = 60;

/// Where the bracket at s[open] closes; npos when it does not.
size_t closing(const std::string& s, size_t open) {
  int depth = 0;
  for (size_t i = open; i < s.size(); ++i) {
    if (s[i] == '<' || s[i] == '(') ++depth;
    if ((s[i] == '>' && s[i - 1] != '-') || s[i] == ')') --depth;
    if (depth == 0) return i;
  }
  return std::string::npos;
}

/// Every outermost pair of such brackets gets "…" inside.
std::string without_inside(const std::string& s, char open) {
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    const bool word_begins = i == 0 || !(std::isalnum(static_cast<unsigned char>(s[i - 1])) || s[i - 1] == '_');
    if (word_begins && s.compare(i, 8, "operator") == 0) {  // its own brackets are its name
      size_t end = s.find_first_not_of("<>=-!+*/%^&|~,[]", i + 8);
      if (s.compare(i, 10, "operator()") == 0) end = i + 10;
      end = std::min(end, s.size());
      out += s.substr(i, end - i);
      i = end - 1;
      continue;
    }
    const size_t close = s[i] == open && s.compare(i, 21, "(anonymous namespace)") != 0 ? closing(s, i) : i;
    if (close == std::string::npos) return s;  // not a name that we understand
    if (close <= i + 1) {
      out += s[i];
      continue;
    }
    out += open + std::string("…") + s[close];
    i = close;
  }
  return out;
}

/// Of the compiler's or the C++ library's headers, whose functions are inlined everywhere.
bool system_header(const std::string& file) {
  return file.starts_with("/usr/include/") || file.starts_with("/usr/lib/");
}

}  // namespace

std::string function_text(const std::string& function, Names names) {
  std::string s = function;
  if (names == Names::folded && width_of(s) > kLongName) s = without_inside(s, '<');
  if (names == Names::folded && width_of(s) > kLongName) s = without_inside(s, '(');
  return printable(s);
}

std::string module_suffix(const Place& place) {
  const bool kernel = place.ip >> 63 != 0 && place.module.starts_with('[') && place.module != "[kernel.kallsyms]";
  return kernel && !place.function.empty() ? " " + printable(place.module) : "";
}

std::string place_text(const Place& place, Names names) {
  if (!place.function.empty())
    return function_text(place.function, names) + (place.function_offset ? "+" + hex_text(place.function_offset) : "") +
           module_suffix(place);
  return printable(base_name(place.module)) + "+" + hex_text(place.module_offset);
}

std::string line_text(const SourceLocation& line) {
  return line.file.empty() ? "" : printable(base_name(line.file)) + ":" + std::to_string(line.line);
}

std::string lines_text(const Place& place, Names names) {
  const auto& lines = place.lines;
  constexpr size_t kFew = 3, kMost = 6;
  const bool all = names == Names::whole || lines.size() <= kFew;
  std::string s;
  bool left_out = false;
  size_t shown = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const SourceLocation& l = lines[i];
    const bool end = i == 0 || i + 1 == lines.size();
    if (!all && !end && (system_header(l.file) || shown + 1 >= kMost)) {
      left_out = true;
      continue;
    }
    const std::string at = line_text(l);
    // The outermost function is the symbol itself, which stands in the column before.
    const std::string one = lines.size() == 1 || !l.inlined ? at : function_text(l.function, names) + " " + at;
    if (one.empty()) continue;
    s += (s.empty() ? "" : " < ") + std::string(left_out ? "… < " : "") + one;
    left_out = false;
    ++shown;
  }
  return s;
}

std::string cause_words(GapCause cause) {
  switch (cause) {
    case GapCause::none:
      return "unknown cause";
    case GapCause::pt_overflow:
      return "the CPU dropped packets";
    case GapCause::aux_truncated:
      return "the kernel ran out of ring space";
    case GapCause::sideband_lost:
      return "the kernel dropped sideband records";
    case GapCause::image_missing:
      return "code that ran is not in the bundle";
    case GapCause::desync:
      return "packets and code disagree";
    case GapCause::filtered:
      return "left out on purpose";
    case GapCause::not_captured:
      return "outside what the ring held";
    case GapCause::unsupported:
      return "uses a feature that cannot be followed";
    case GapCause::unattributed:
      return "which thread ran is not known";
    case GapCause::code_version_unknown:
      return "the code may have changed since it ran";
    case GapCause::cut:
      return "the stream ends early";
  }
  return "unknown cause";
}

std::string gap_text(const TimeScale& scale, const Event& gap) {
  std::string s = "gap " + std::string(to_string(gap.cause)) + ": " + cause_words(gap.cause);
  if (gap.ip) s += " (" + hex_text(gap.ip) + ")";
  s += "; " + count_text(gap.count, "byte") + " of trace";
  const std::string range = range_phrase(scale, gap.time);
  return s + (range == "time unknown" ? "" : ", " + range);
}

std::string gaps_phrase(const FlowCounts& counts) {
  uint64_t n = 0;
  std::string causes;
  for (const auto& c : counts.gaps) {
    n += c.gaps;
    causes += (causes.empty() ? "" : ", ") + std::string(to_string(c.cause)) + " " + std::to_string(c.gaps);
  }
  return count_text(n, "gap") + (causes.empty() ? "" : " (" + causes + ")");
}

}  // namespace hindcast::server::cli
