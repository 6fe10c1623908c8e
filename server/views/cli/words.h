// Values in words: times with their uncertainty, sizes, counts, addresses, places and gaps.
#pragma once

#include <optional>
#include <string>

#include "hindcast/event.h"
#include "server/query.h"

namespace hindcast::server::cli {

/// "1.20 MiB": binary units, as rings are sized in.
std::string size_text(uint64_t bytes);
/// "1 gap", "3 gaps".
std::string count_text(uint64_t n, const std::string& noun);
/// "0.40 µs", "12.3 ms": three digits, for widths and durations.
std::string span_text(double ns);
std::string hex_text(uint64_t v);
/// "2026-11-26 10:45:01 UTC"; "unknown" for 0.
std::string utc_text(uint64_t unix_ns);

/// Time since the window's start and its uncertainty: {"12.345678", "±0.40 µs"} in milliseconds, {"12345", "±6"} in ticks
/// when the scale is unknown. One-sided: {"> 12.345678", ""}. Unknown: {"?", ""}.
struct TimeText {
  std::string at, width;
};
TimeText time_text(const TimeScale& scale, const TscInterval& t);
/// The unit of TimeText::at: "ms" or "ticks".
std::string time_unit(const TimeScale& scale);
/// Both in one, with the unit: "12.345678 ms ±0.40 µs".
std::string time_phrase(const TimeScale& scale, const TscInterval& t);
/// "1.00..1.25 ms" from the first possible to the last possible moment.
std::string range_phrase(const TimeScale& scale, const TscInterval& t);
/// The time between two intervals as an interval: "0.9..1.3 µs"; "?" when a side is unknown.
std::string duration_text(const TimeScale& scale, const TscInterval& from, const TscInterval& to);

/// Parses "A,B" or "A..B", as our own answers print ranges: each side a number, possibly negative, with ns, us, ms, s,
/// "ticks" (since the window's start) or "t" (a TSC value); a side without a unit takes the other's, and 0 needs none. An
/// empty side is open. Errors: usage.
struct TimeRange {
  enum class Unit : uint8_t { ns, ticks, tsc };
  struct Side {
    Unit unit = Unit::ns;
    double value = 0;  // since the window's start
    Tsc tsc{0};        // unit tsc
  };
  std::optional<Side> from, to;
};
Result<TimeRange> parse_time_range(const std::string& text);
/// Errors: usage when nanoseconds were given and the snapshot cannot relate them to ticks.
Result<TscInterval> resolve(const TimeRange& range, const TimeScale& scale);

/// Whether names are cut down to what a line can hold. Grep finds what is kept; JSON always has the whole.
enum class Names : uint8_t { folded, whole };

/// A demangled name; folded: in one of more than 60 columns template arguments and parameters become "<…>" and "(…)".
std::string function_text(const std::string& function, Names names = Names::folded);
/// " [nf_tables]" behind the name of a kernel module's function; else empty.
std::string module_suffix(const Place& place);
/// "main+0x16", "nft_do_chain+0x40 [nf_tables]", "libc.so.6+0x2a1b0", "?+0x7f..": never empty.
std::string place_text(const Place& place, Names names = Names::folded);
/// "main.c:12" of the innermost line, its folder left out; "" without.
std::string line_text(const SourceLocation& line);
/// "fast a.h:3 < main.c:12" for code inlined into main.c's function; "main.c:12" else; "" without lines. Folded: of more
/// than three, the innermost, the outermost and those that no system header holds; "…" stands for the others.
std::string lines_text(const Place& place, Names names = Names::folded);
std::string base_name(const std::string& path);

/// "gap pt_overflow: the CPU dropped packets; 128 bytes, 1.00..1.25 ms".
std::string gap_text(const TimeScale& scale, const Event& gap);
/// What the cause means, in a few words.
std::string cause_words(GapCause cause);
/// "2 gaps (pt_overflow 1, desync 1)".
std::string gaps_phrase(const FlowCounts& counts);

}  // namespace hindcast::server::cli
