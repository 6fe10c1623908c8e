#include "server/views/cli/words.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>

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
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double v = static_cast<double>(bytes);
  size_t unit = 0;
  while (v >= 999.5 && unit < 4) {
    v /= 1000;
    ++unit;
  }
  return unit == 0 ? print("%.0f B", v) : print("%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, kUnits[unit]);
}

std::string count_text(uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
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

Result<TimeRange> parse_time_range(const std::string& text) {
  const auto bad = [&](const std::string& why) {
    return Error{
        Errc::usage,
        "cannot read the time range \"" + text + "\": " + why,
        {},
        "write A,B as in 1.5ms,2ms; units ns (default), us, ms, s, or t for TSC ticks; leave a side empty for no "
        "limit"};
  };
  const size_t comma = text.find(',');
  if (comma == std::string::npos || text.find(',', comma + 1) != std::string::npos) return bad("not two times");
  const auto side = [&](const std::string& s, std::optional<TimeRange::Side>& out) -> bool {
    if (s.empty()) return true;
    char* end = nullptr;
    const double v = std::strtod(s.c_str(), &end);
    if (end == s.c_str() || !std::isfinite(v) || v < 0) return false;
    const std::string unit = end;
    if (unit == "t") {
      out = {v, true};
      return true;
    }
    const double scale = unit.empty() || unit == "ns"   ? 1
                         : unit == "us" || unit == "µs" ? 1e3
                         : unit == "ms"                 ? 1e6
                         : unit == "s"                  ? 1e9
                                                        : 0;
    if (scale == 0) return false;
    out = {v * scale, false};
    return true;
  };
  TimeRange range;
  if (!side(text.substr(0, comma), range.from)) return bad("\"" + text.substr(0, comma) + "\" is not a time");
  if (!side(text.substr(comma + 1), range.to)) return bad("\"" + text.substr(comma + 1) + "\" is not a time");
  if (range.from && range.to && range.from->ticks == range.to->ticks && range.from->value > range.to->value)
    return bad("it ends before it begins");
  return range;
}

Result<TscInterval> resolve(const TimeRange& range, const TimeScale& scale) {
  TscInterval out = TscInterval::unknown();
  const auto put = [&](const std::optional<TimeRange::Side>& side, Tsc& to) {
    if (!side) return true;
    if (side->ticks) {
      to = side->value >= 18446744073709549568.0 ? Tsc::max() : Tsc(static_cast<uint64_t>(side->value));
      return true;
    }
    if (!scale.known()) return false;
    to = scale.tsc(side->value);
    return true;
  };
  if (!put(range.from, out.earliest) || !put(range.to, out.latest))
    return Error{Errc::usage, "times of this recording cannot be given in nanoseconds",
                 "its snapshot says neither the TSC's rate nor the kernel's conversion",
                 "give TSC ticks: --time 1000t,2000t"};
  return out;
}

std::string base_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  // "//anon" and the like are not paths.
  return slash == std::string::npos || path.starts_with("//") ? path : path.substr(slash + 1);
}

std::string place_text(const Place& place) {
  if (!place.function.empty())
    return printable(place.function) + (place.function_offset ? "+" + hex_text(place.function_offset) : "");
  return printable(base_name(place.module)) + "+" + hex_text(place.module_offset);
}

std::string line_text(const SourceLocation& line) {
  return line.file.empty() ? "" : printable(base_name(line.file)) + ":" + std::to_string(line.line);
}

std::string lines_text(const Place& place) {
  std::string s;
  for (const SourceLocation& l : place.lines) {
    const std::string at = line_text(l);
    // The outermost function is the symbol itself, which stands in the column before.
    const std::string one = place.lines.size() == 1 || !l.inlined ? at : printable(l.function) + " " + at;
    if (one.empty()) continue;
    s += (s.empty() ? "" : " < ") + one;
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
