// Small text files of /proc and /sys: bounded reads and number parsing. What they hold is not trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/result.h"
#include "hindcast/units.h"

namespace hindcast::capture {

/// The whole file, up to max bytes; Errc::too_large beyond. Works for /proc files, whose size reads as 0.
Result<std::string> read_text_file(const std::string& path, size_t max = size_t{1} << 20);

/// The same of an open file, from where it stands; path: for words.
Result<std::string> read_text(const Fd& file, const std::string& path, size_t max);

/// The names in a directory that are numbers above 0, as the kernel lists them: processes, threads. Errors: it is not there.
Result<std::vector<int32_t>> numeric_entries(const std::string& path);

/// Without white space and NULs at both ends.
std::string trimmed(std::string_view text);

/// Consumes digits of the base (10 or 16, no prefix) from the front of text. None when there is no digit or
/// the value needs more than 64 bits; text is then unchanged.
std::optional<uint64_t> take_number(std::string_view& text, int base);

/// The whole text as one number; none when anything else is in it.
std::optional<uint64_t> parse_number(std::string_view text, int base);

/// "0-3,8,10-11" as the kernel writes CPU lists. Errors: bad_input. At most 65536 entries.
Result<std::vector<CpuId>> parse_cpu_list(std::string_view text);

/// Every online CPU.
Result<std::vector<CpuId>> online_cpus(const std::string& sys = "/sys");

}  // namespace hindcast::capture
