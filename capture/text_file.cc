// Small text files of /proc and /sys: bounded reads and number parsing. What they hold is not trusted.
#include "capture/text_file.h"

#include <cerrno>

#include <dirent.h>

#include "hindcast/fd.h"

namespace hindcast::capture {

Result<std::string> read_text_file(const std::string& path, size_t max) {
  HC_TRY(const Fd fd, open_read_only(path));
  return read_text(fd, path, max);
}

Result<std::string> read_text(const Fd& fd, const std::string& path, size_t max) {
  std::string out;
  char piece[4096];
  for (;;) {
    const ssize_t n = ::read(fd.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot read", path);
    if (n == 0) return out;
    if (out.size() + static_cast<size_t>(n) > max)
      return Error{Errc::too_large, "cannot read " + path + ": larger than " + std::to_string(max) + " bytes", {}, {}};
    out.append(piece, static_cast<size_t>(n));
  }
}

Result<std::vector<int32_t>> numeric_entries(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return errno_error("cannot read", path);
  std::vector<int32_t> out;
  while (const dirent* e = ::readdir(dir))
    if (const auto n = parse_number(e->d_name, 10); n && *n > 0 && *n <= INT32_MAX)
      out.push_back(static_cast<int32_t>(*n));
  ::closedir(dir);
  return out;
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kBlank(" \t\r\n\0", 5);
  const size_t from = text.find_first_not_of(kBlank);
  if (from == std::string_view::npos) return {};
  return std::string(text.substr(from, text.find_last_not_of(kBlank) - from + 1));
}

std::optional<uint64_t> take_number(std::string_view& text, int base) {
  uint64_t value = 0;
  size_t n = 0;
  for (; n < text.size(); n++) {
    const char c = text[n];
    unsigned digit = 99;
    if (c >= '0' && c <= '9')
      digit = static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<unsigned>(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<unsigned>(c - 'A') + 10;
    if (digit >= static_cast<unsigned>(base)) break;
    uint64_t scaled = 0;
    if (__builtin_mul_overflow(value, static_cast<uint64_t>(base), &scaled) ||
        __builtin_add_overflow(scaled, static_cast<uint64_t>(digit), &value))
      return std::nullopt;
  }
  if (n == 0) return std::nullopt;
  text.remove_prefix(n);
  return value;
}

std::optional<uint64_t> parse_number(std::string_view text, int base) {
  const auto v = take_number(text, base);
  if (!text.empty()) return std::nullopt;
  return v;
}

Result<std::vector<CpuId>> parse_cpu_list(std::string_view text) {
  constexpr size_t kMaxCpus = 65536;
  const std::string list = trimmed(text);
  const Error bad{Errc::bad_input, "not a list of CPUs: \"" + list.substr(0, 100) + "\"", {}, {}};
  std::vector<CpuId> cpus;
  std::string_view rest = list;
  while (!rest.empty()) {
    const auto first = take_number(rest, 10);
    if (!first) return bad;
    auto last = first;
    if (!rest.empty() && rest.front() == '-') {
      rest.remove_prefix(1);
      last = take_number(rest, 10);
    }
    if (!last || *last < *first || *last >= kMaxCpus || cpus.size() + (*last - *first) >= kMaxCpus) return bad;
    for (uint64_t c = *first; c <= *last; c++) cpus.push_back(CpuId(static_cast<uint32_t>(c)));
    if (rest.empty()) break;
    if (rest.front() != ',') return bad;
    rest.remove_prefix(1);
    if (rest.empty()) return bad;
  }
  if (cpus.empty()) return bad;
  return cpus;
}

Result<std::vector<CpuId>> online_cpus(const std::string& sys) {
  HC_TRY(const std::string text, read_text_file(sys + "/devices/system/cpu/online"));
  return parse_cpu_list(text);
}

}  // namespace hindcast::capture
