// Finds the corpus and parses its reference files; a broken corpus ends the process.
#include "tests/support/corpus.h"

#include <unistd.h>
#include <zlib.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "hindcast/fd.h"

namespace hindcast::test {
namespace {

[[noreturn]] void broken(const std::string& what) {
  std::fprintf(stderr, "corpus: %s\n", what.c_str());
  std::exit(2);
}

bool exists(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

uint64_t number(std::string_view text, int base, const std::string& where) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  uint64_t v = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v, base);
  if (ec != std::errc{} || end != text.data() + text.size() || text.empty())
    broken(where + ": not a number: " + std::string(text));
  return v;
}

std::vector<std::string> split(const std::string& line, char separator) {
  std::vector<std::string> out(1);
  for (char c : line)
    if (c == separator)
      out.emplace_back();
    else
      out.back() += c;
  return out;
}

std::string gunzipped(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) broken("cannot open " + path);
  std::string out;
  char part[65536];
  int n = 0;
  while ((n = gzread(file, part, sizeof part)) > 0) out.append(part, static_cast<size_t>(n));
  gzclose(file);
  if (n < 0) broken("cannot decompress " + path);
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out = split(text, '\n');
  if (!out.empty() && out.back().empty()) out.pop_back();
  return out;
}

std::string text_of(const std::string& path) {
  const auto b = file_bytes(path);
  return {b.begin(), b.end()};
}

std::map<std::string, uint64_t> counts(const nlohmann::json& j, const char* key) {
  return j.contains(key) ? j.at(key).get<std::map<std::string, uint64_t>>() : std::map<std::string, uint64_t>{};
}

uint64_t hex_or_zero(const nlohmann::json& j, const char* key, const std::string& where) {
  return j.contains(key) ? number(j.at(key).get<std::string>(), 16, where) : 0;
}

}  // namespace

const std::optional<std::string>& corpus_folder() {
  static const std::optional<std::string> folder = []() -> std::optional<std::string> {
    const char* env = std::getenv("HINDCAST_CORPUS");
    if (!env || !*env) return std::nullopt;
    std::string path = env;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    if (!exists(path + "/expected.tsv")) broken("HINDCAST_CORPUS=" + path + " holds no expected.tsv");
    return path;
  }();
  return folder;
}

std::vector<uint8_t> file_bytes(const std::string& path) {
  auto mapping = map_file(path);
  if (!mapping) broken(mapping.error().text());
  const ByteSpan b = mapping->bytes();
  return {b.begin(), b.end()};
}

std::vector<std::string> corpus_names() {
  std::vector<std::string> names;
  if (!corpus_folder()) return names;
  for (const std::string& line : lines_of(text_of(*corpus_folder() + "/expected.tsv")))
    if (!line.empty() && line[0] != '#') names.push_back(split(line, '\t')[0]);
  return names;
}

CorpusTrace corpus_trace(const std::string& name) {
  if (!corpus_folder()) broken(kCorpusSkipText);
  CorpusTrace t;
  t.name = name;
  t.folder = *corpus_folder() + "/" + name;
  const std::string where = t.folder + "/expected.json";
  try {
    t.expected = nlohmann::json::parse(text_of(where));
    const auto& j = t.expected;
    t.trace = t.folder + "/" + j.at("trace").get<std::string>();
    t.trace_bytes = j.at("trace_bytes").get<uint64_t>();
    t.trace_sha256 = j.at("trace_sha256").get<std::string>();
    t.first_psb_offset = j.value("first_psb_offset", uint64_t{0});
    t.has_flow = j.contains("insn_sha256");
    t.insns = j.value("insns", uint64_t{0});
    t.insn_sha256 = j.value("insn_sha256", "");
    t.first_ip = hex_or_zero(j, "first_ip", where);
    t.last_ip = hex_or_zero(j, "last_ip", where);
    t.distinct_ips = j.value("distinct_ips", uint64_t{0});
    t.packets = counts(j, "packets");
    t.control_events = counts(j, "control_events");
    t.errors = counts(j, "errors");
    t.tnt_bits = j.value("tnt_bits", uint64_t{0});
    t.tnt_sha256 = j.value("tnt_sha256", "");
    t.ip_packets_with_payload = j.value("ip_packets_with_payload", uint64_t{0});
    t.ip_sha256 = j.value("ip_sha256", "");
    t.mode_exec = j.value("mode_exec", uint64_t{0});
    t.mode_tsx = j.value("mode_tsx", uint64_t{0});
    t.ret_compression = j.value("ret_compression", true);
    if (j.contains("cpu")) {
      const auto parts = split(j.at("cpu").get<std::string>(), '/');
      if (parts.size() != 3) broken(where + ": cpu is not family/model/stepping");
      t.family = static_cast<uint16_t>(number(parts[0], 10, where));
      t.model = static_cast<uint8_t>(number(parts[1], 10, where));
      t.stepping = static_cast<uint8_t>(number(parts[2], 10, where));
    }
  } catch (const nlohmann::json::exception& e) {
    broken(where + ": " + e.what());
  }
  return t;
}

std::vector<std::vector<std::string>> tsv_rows(const CorpusTrace& t, const std::string& file) {
  const std::string path = t.folder + "/" + file;
  std::string text;
  if (exists(path))
    text = text_of(path);
  else if (exists(path + ".gz"))
    text = gunzipped(path + ".gz");
  std::vector<std::vector<std::string>> rows;
  for (const std::string& line : lines_of(text))
    if (!line.empty() && line[0] != '#') rows.push_back(split(line, '\t'));
  return rows;
}

std::vector<ControlEventRow> control_event_rows(const CorpusTrace& t) {
  std::vector<ControlEventRow> out;
  const std::string where = t.folder + "/control_events.tsv";
  for (const auto& row : tsv_rows(t, "control_events.tsv")) {
    if (row.size() != 5) broken(where + ": a row without 5 columns");
    ControlEventRow e{number(row[0], 10, where), row[1], row[2], row[3], std::nullopt};
    if (row[4] != "-") e.tsc = number(row[4], 10, where);
    out.push_back(std::move(e));
  }
  return out;
}

std::vector<CheckpointRow> checkpoint_rows(const CorpusTrace& t) {
  std::vector<CheckpointRow> out;
  const std::string where = t.folder + "/checkpoints.tsv";
  for (const auto& row : tsv_rows(t, "checkpoints.tsv")) {
    if (row.size() != 5) broken(where + ": a row without 5 columns");
    out.push_back({number(row[0], 10, where), number(row[1], 10, where), number(row[2], 16, where),
                   number(row[3], 16, where), row[4]});
  }
  return out;
}

std::optional<std::vector<uint64_t>> insn_rows(const CorpusTrace& t) {
  const std::string path = t.folder + "/insns.txt";
  if (!exists(path)) return std::nullopt;
  std::vector<uint64_t> out;
  for (const std::string& line : lines_of(text_of(path))) out.push_back(number(line, 16, path));
  return out;
}

}  // namespace hindcast::test
