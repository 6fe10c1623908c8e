// What ran before the recording began, read from /proc: names of all threads and, when asked, executable
// mappings.
#include "capture/proc_synth.h"

#include <sys/mman.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMaxMapsFile = size_t{64} << 20;
constexpr size_t kMaxPath = 4096;

/// The kernel writes newline (and only it) in a path as \012.
std::string without_escapes(std::string_view path) {
  std::string out;
  for (size_t i = 0; i < path.size(); i++) {
    if (path.substr(i, 4) == "\\012") {
      out += '\n';
      i += 3;
    } else {
      out += path[i];
    }
  }
  return out;
}

}  // namespace

std::optional<MapRecord> parse_maps_line(std::string_view line, Pid pid) {
  const auto skip = [&line](char c) {
    if (line.empty() || line.front() != c) return false;
    line.remove_prefix(1);
    return true;
  };
  MapRecord m;
  m.pid = pid;
  m.tid = Tid(pid.value());
  const auto start = take_number(line, 16);
  if (!start || !skip('-')) return std::nullopt;
  const auto end = take_number(line, 16);
  if (!end || *end <= *start || !skip(' ') || line.size() < 5) return std::nullopt;
  m.start = *start;
  m.length = *end - *start;
  constexpr std::string_view kLetters = "rwx";
  constexpr uint32_t kProt[] = {PROT_READ, PROT_WRITE, PROT_EXEC};
  for (size_t i = 0; i < 3; i++) {
    if (line[i] == kLetters[i])
      m.prot |= kProt[i];
    else if (line[i] != '-')
      return std::nullopt;
  }
  if (line[3] != 'p' && line[3] != 's') return std::nullopt;
  m.flags = line[3] == 's' ? MAP_SHARED : MAP_PRIVATE;
  line.remove_prefix(4);
  if (!skip(' ')) return std::nullopt;
  const auto offset = take_number(line, 16);
  if (!offset || !skip(' ')) return std::nullopt;
  const auto major = take_number(line, 16);
  if (!major || *major > UINT32_MAX || !skip(':')) return std::nullopt;
  const auto minor = take_number(line, 16);
  if (!minor || *minor > UINT32_MAX || !skip(' ')) return std::nullopt;
  const auto inode = take_number(line, 10);
  if (!inode) return std::nullopt;
  m.file_offset = *offset;
  m.device_major = static_cast<uint32_t>(*major);
  m.device_minor = static_cast<uint32_t>(*minor);
  m.inode = *inode;
  const size_t name = line.find_first_not_of(' ');
  if (name == std::string_view::npos) {
    m.path = "//anon";
  } else {
    if (line.size() - name > kMaxPath * 4) return std::nullopt;
    m.path = without_escapes(line.substr(name)).substr(0, kMaxPath - 1);
  }
  return m;
}

Result<std::vector<MapRecord>> read_maps(const std::string& proc, Pid pid) {
  const std::string path = proc + "/" + std::to_string(pid.value()) + "/maps";
  HC_TRY(const std::string text, read_text_file(path, kMaxMapsFile));
  std::vector<MapRecord> maps;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    if (auto m = parse_maps_line(std::string_view(text).substr(at, end - at), pid)) maps.push_back(std::move(*m));
    at = end + 1;
  }
  return maps;
}

Result<void> synthesise_processes(const ProcSynthOptions& options, SidebandState& state,
                                  std::vector<std::string>& notes) {
  HC_TRY(const std::vector<int32_t> pids, numeric_entries(options.proc));
  size_t refused = 0;
  for (const int32_t pid_number : pids) {
    const Pid pid(pid_number);
    const std::string dir = options.proc + "/" + std::to_string(pid_number);
    const auto tids = numeric_entries(dir + "/task");
    if (!tids) continue;  // ended meanwhile
    for (const int32_t tid : *tids)
      if (const auto comm = read_text_file(dir + "/task/" + std::to_string(tid) + "/comm", 256))
        state.set_comm(pid, Tid(tid), trimmed(*comm));
    if (!options.with_maps) continue;
    const auto maps = read_maps(options.proc, pid);
    if (!maps) {
      if (maps.error().code == Errc::permission) refused++;
      continue;
    }
    for (const MapRecord& m : *maps)
      if (m.prot & PROT_EXEC) state.add_map(m);
  }
  if (refused)
    notes.push_back("mappings of " + std::to_string(refused) +
                    " running processes may not be read (CAP_SYS_PTRACE): code that they ran shows as image_missing");
  return {};
}

}  // namespace hindcast::capture
