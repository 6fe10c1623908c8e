#include "capture/privilege.h"

#include <linux/capability.h>

#include <algorithm>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

/// The word behind `label` in a file.
std::string first_word(const std::string& path, std::string_view label) {
  const auto text = read_text_file(path, 65536);
  const size_t at = text ? text->find(label) : std::string::npos;
  const size_t from = at == std::string::npos ? at : text->find_first_not_of(" \n", at + label.size());
  return from == std::string::npos ? "unreadable" : text->substr(from, text->find_first_of(" \n", from) - from);
}

}  // namespace

bool has_capability(const std::string& proc, int number) {
  const auto status = read_text_file(proc + "/self/status", 65536);
  if (!status) return false;
  const size_t at = status->find("\nCapEff:");
  if (at == std::string::npos) return false;
  const size_t end = status->find('\n', at + 1);
  const std::string value = trimmed(std::string_view(*status).substr(at + 8, end - at - 8));
  return parse_number(value, 16).value_or(0) >> number & 1;
}

std::optional<int> perf_paranoid(const std::string& proc) {
  const auto text = read_text_file(proc + "/sys/kernel/perf_event_paranoid", 64);
  if (!text) return std::nullopt;
  const std::string value = trimmed(*text);
  const bool negative = value.starts_with('-');
  const auto number = parse_number(std::string_view(value).substr(negative), 10);
  if (!number || *number > 1000) return std::nullopt;
  return negative ? -static_cast<int>(*number) : static_cast<int>(*number);
}

RingMemory ring_memory(const std::string& proc, size_t online_cpus) {
  RingMemory m;
  const std::string per_cpu = first_word(proc + "/sys/kernel/perf_event_mlock_kb", "");
  const std::string lock = first_word(proc + "/self/limits", "Max locked memory");
  const bool ipc_lock = has_capability(proc, CAP_IPC_LOCK);
  m.text = "perf_event_mlock_kb " + per_cpu + " for each of " + std::to_string(online_cpus) + " CPUs, RLIMIT_MEMLOCK " +
           lock + (ipc_lock ? ", CAP_IPC_LOCK overrides both" : ", no CAP_IPC_LOCK");
  if (ipc_lock || perf_paranoid(proc).value_or(0) < 0) return m;
  const uint64_t unreadable = UINT64_MAX;
  const uint64_t kb = parse_number(per_cpu, 10).value_or(unreadable);
  const uint64_t bytes = parse_number(lock, 10).value_or(unreadable);
  if (kb == unreadable || bytes == unreadable) return m;
  constexpr uint64_t kMost = uint64_t{1} << 50;
  m.limited = true;
  m.bytes = std::min(kMost >> 10, kb) * 1024 * std::min<uint64_t>(online_cpus, 4096) + std::min(kMost, bytes);
  return m;
}

}  // namespace hindcast::capture
