// The corpus of real PT traces with reference decodings: where it is, and its reference files parsed.
//
// Tests begin with HC_REQUIRE_CORPUS(); the folder comes from the environment variable HINDCAST_CORPUS.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace hindcast::test {

/// The corpus folder, without a trailing slash; nothing when HINDCAST_CORPUS is unset or empty. Set to a
/// folder without expected.tsv it is a mistake, not a wish to skip: the process ends with a message.
const std::optional<std::string>& corpus_folder();

inline constexpr const char* kCorpusSkipText =
    "HINDCAST_CORPUS is not set: the corpus of real PT traces is needed (a folder that holds expected.tsv)";

#define HC_REQUIRE_CORPUS() \
  if (!::hindcast::test::corpus_folder()) GTEST_SKIP() << ::hindcast::test::kCorpusSkipText

/// All reads below end the process with a message when a file is missing or not of its documented form: a
/// broken corpus must not look like a passing test.

/// One directory of the corpus. Numbers mean what the corpus README says; a missing key leaves the default.
struct CorpusTrace {
  std::string name;    // "kafl-mruby"
  std::string folder;  // absolute or relative as HINDCAST_CORPUS is
  std::string trace;   // path of the PT file
  uint64_t trace_bytes = 0;
  std::string trace_sha256;
  uint64_t first_psb_offset = 0;
  bool has_flow = false;  // false: packet layer only, no image
  uint64_t insns = 0;
  std::string insn_sha256;
  uint64_t first_ip = 0, last_ip = 0, distinct_ips = 0;
  std::map<std::string, uint64_t> packets;         // "psb", "tnt8", "tip", ...
  std::map<std::string, uint64_t> control_events;  // "enabled", "disabled", ...
  std::map<std::string, uint64_t> errors;          // by libipt's text
  uint64_t tnt_bits = 0;
  std::string tnt_sha256;
  uint64_t ip_packets_with_payload = 0;
  std::string ip_sha256;
  uint64_t mode_exec = 0, mode_tsx = 0;
  bool ret_compression = true;
  uint16_t family = 0;  // 0: the corpus does not know the CPU
  uint8_t model = 0, stepping = 0;
  nlohmann::json expected;  // the whole expected.json
};

/// Every trace of expected.tsv, in its order.
std::vector<std::string> corpus_names();
/// By name; the name must be in corpus_names().
CorpusTrace corpus_trace(const std::string& name);

struct ControlEventRow {
  uint64_t insn_index = 0;  // index of the next instruction
  std::string event;        // enabled, disabled, async_disabled, overflow, paging, ...
  std::string from, to;     // as in the file: hex without 0x, "-" for none, "cr3=..." for paging
  std::optional<uint64_t> tsc;
};
std::vector<ControlEventRow> control_event_rows(const CorpusTrace& t);

struct CheckpointRow {
  uint64_t first_index = 0, count = 0, first_ip = 0, last_ip = 0;
  std::string sha256_first16;
};
std::vector<CheckpointRow> checkpoint_rows(const CorpusTrace& t);

/// insns.txt: the whole sequence; nothing when the trace has none (long traces).
std::optional<std::vector<uint64_t>> insn_rows(const CorpusTrace& t);

/// Any tab-separated file of the folder, lines beginning with # left out; empty when there is no such file.
std::vector<std::vector<std::string>> tsv_rows(const CorpusTrace& t, const std::string& file);

/// A whole file's bytes.
std::vector<uint8_t> file_bytes(const std::string& path);

}  // namespace hindcast::test
