// trace.json to streams, images and placements; the text is treated as hostile.
#include "server/import/lldb_bundle.h"

#include <charconv>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>

#include "hindcast/bundle_format.h"
#include "hindcast/perf_record.h"
#include "server/import/elf_placement.h"
#include "transport/json_depth.h"

namespace hindcast::server {
namespace {

using Tree = nlohmann::json;

constexpr uint32_t kMaxDepth = 32;
constexpr size_t kMaxElements = 65536;  // of any array
// The kernel's text starts here unless its base was moved; LLDB's default too.
constexpr uint64_t kKernelBase = 0xffffffff81000000u;

/// Thrown inside this file, caught in read_lldb_bundle.
struct Bad : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Failed {
  Error error;
};

template <class T>
T value_or_throw(Result<T> r) {
  if (!r.ok()) throw Failed{std::move(r).error()};
  return std::move(r).value();
}

uint64_t number_of(const Tree& j, const std::string& key) {
  if (j.is_number_unsigned()) return j.get<uint64_t>();
  if (j.is_string()) {
    const auto& text = j.get_ref<const std::string&>();
    const bool hex = text.starts_with("0x") || text.starts_with("0X");
    const char* begin = text.data() + (hex ? 2 : 0);
    const char* end = text.data() + text.size();
    uint64_t v = 0;
    const auto [stop, ec] = std::from_chars(begin, end, v, hex ? 16 : 10);
    if (ec == std::errc{} && stop == end) return v;
  }
  throw Bad("\"" + key + "\" is not a number");
}

template <class T>
T small_number_of(const Tree& j, const std::string& key) {
  const uint64_t v = number_of(j, key);
  if (v > static_cast<uint64_t>(std::numeric_limits<T>::max())) throw Bad("\"" + key + "\" is too large");
  return static_cast<T>(v);
}

/// The value under the first of the names that is there and not null.
const Tree* find(const Tree& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto it = object.find(name);
    if (it != object.end() && !it->is_null()) return &*it;
  }
  return nullptr;
}

const Tree& need(const Tree& object, std::initializer_list<const char*> names, const char* where) {
  if (const Tree* v = find(object, names)) return *v;
  throw Bad(std::string(where) + " has no \"" + *names.begin() + "\"");
}

std::string text_of(const Tree& j, const char* key) {
  if (!j.is_string()) throw Bad("\"" + std::string(key) + "\" is not a text");
  return j.get<std::string>();
}

/// The objects of an array; none when the key is missing.
std::vector<const Tree*> objects(const Tree& parent, std::initializer_list<const char*> names) {
  std::vector<const Tree*> out;
  const Tree* array = find(parent, names);
  if (!array) return out;
  if (!array->is_array() || array->size() > kMaxElements)
    throw Bad("\"" + std::string(*names.begin()) + "\" is not an array of at most " + std::to_string(kMaxElements));
  for (const Tree& e : *array) {
    if (!e.is_object()) throw Bad("\"" + std::string(*names.begin()) + "\" holds something that is not an object");
    out.push_back(&e);
  }
  return out;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// The hex digits of a uuid as LLDB writes it, lower case.
std::string uuid_digits(const std::string& uuid) {
  std::string out;
  for (const char c : uuid)
    if (c != '-') out += c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

class LldbReader {
 public:
  LldbReader(const Tree& json, const InputFolder& folder) : json_(json), folder_(folder) {}

  Imported read() {
    out_.info.source = "import:lldb";
    if (const Tree* type = find(json_, {"type"}); type && text_of(*type, "type") != "intel-pt")
      throw Bad("the trace is of type \"" + shown(text_of(*type, "type")) + "\", not \"intel-pt\"");
    read_cpu();
    read_clock();
    for (const Tree* cpu : objects(json_, {"cpus", "cores"})) read_traced_cpu(*cpu);
    for (const Tree* process : objects(json_, {"processes"})) read_process(*process);
    if (const Tree* kernel = find(json_, {"kernel"})) read_kernel(*kernel);
    if (!any_pt_) throw Bad("it names no PT trace, neither per CPU nor per thread");
    if (!comms_.empty()) {
      StreamInfo s;
      s.kind = StreamKind::sideband;
      s.sample_type = perf::kOurSampleType;
      out_.add_stream(s, std::move(comms_));
    }
    return std::move(out_);
  }

 private:
  void read_cpu() {
    const Tree& cpu = need(json_, {"cpuInfo"}, "trace.json");
    if (!cpu.is_object()) throw Bad("\"cpuInfo\" is not an object");
    PtCpu& to = out_.info.cpu;
    to.intel = text_of(need(cpu, {"vendor"}, "cpuInfo"), "vendor") == "GenuineIntel";
    if (!to.intel) return;  // other vendors have no PT; LLDB says "unknown" there
    to.family = small_number_of<uint16_t>(need(cpu, {"family"}, "cpuInfo"), "family");
    to.model = small_number_of<uint8_t>(need(cpu, {"model"}, "cpuInfo"), "model");
    to.stepping = small_number_of<uint8_t>(need(cpu, {"stepping"}, "cpuInfo"), "stepping");
  }

  void read_clock() {
    const Tree* clock = find(json_, {"tscPerfZeroConversion"});
    if (!clock) return;
    if (!clock->is_object()) throw Bad("\"tscPerfZeroConversion\" is not an object");
    TscConversion& to = out_.info.clock;
    to.mult = small_number_of<uint32_t>(need(*clock, {"timeMult"}, "tscPerfZeroConversion"), "timeMult");
    to.shift = small_number_of<uint16_t>(need(*clock, {"timeShift"}, "tscPerfZeroConversion"), "timeShift");
    to.zero = number_of(need(*clock, {"timeZero"}, "tscPerfZeroConversion"), "timeZero");
    if (to.mult == 0 || to.shift > bundle::kMaxTimeShift) throw Bad("\"tscPerfZeroConversion\" is impossible");
    to.known = true;
  }

  void read_traced_cpu(const Tree& cpu) {
    const CpuId id(small_number_of<uint32_t>(need(cpu, {"id", "coreId"}, "a CPU"), "id"));
    if (id == kNoCpu || !cpus_.insert(id).second) throw Bad("a CPU is there twice or has an impossible id");
    StreamInfo pt;
    pt.kind = StreamKind::pt;
    pt.cpu = id;
    add_file(pt, text_of(need(cpu, {"iptTrace", "traceBuffer"}, "a CPU"), "iptTrace"));
    any_pt_ = true;
    if (const Tree* switches = find(cpu, {"contextSwitchTrace"})) {
      StreamInfo s;
      s.kind = StreamKind::sideband;
      s.cpu = id;
      s.sample_type = perf::kSampleTid | perf::kSampleTime;
      add_file(s, text_of(*switches, "contextSwitchTrace"));
    }
  }

  void read_process(const Tree& process) {
    const Pid pid(small_number_of<int32_t>(need(process, {"pid"}, "a process"), "pid"));
    out_.info.root_pids.push_back(pid);
    std::string comm;
    for (const Tree* module : objects(process, {"modules"})) {
      const std::string name = read_module(*module, pid);
      if (comm.empty()) comm = base_name(name);
    }
    for (const Tree* thread : objects(process, {"threads"})) {
      const Tid tid(small_number_of<int32_t>(need(*thread, {"tid"}, "a thread"), "tid"));
      add_comm(pid, tid, comm);
      const Tree* trace = find(*thread, {"iptTrace", "traceBuffer"});
      if (!trace) continue;
      StreamInfo pt;
      pt.kind = StreamKind::pt;
      pt.tid = tid;
      add_file(pt, text_of(*trace, "iptTrace"));
      any_pt_ = true;
    }
  }

  /// Returns the module's name in the process.
  std::string read_module(const Tree& module, Pid pid) {
    const Tree* system_path = find(module, {"systemPath"});
    const Tree* file = find(module, {"file"});
    const std::string file_name = file ? text_of(*file, "file") : "";
    const std::string name = system_path ? text_of(*system_path, "systemPath") : file_name;
    const uint64_t address = number_of(need(module, {"loadAddress"}, "a module"), "loadAddress");
    const Tree* uuid = find(module, {"uuid"});
    if (!file) {
      note("the bundle has no file for the module " + shown(name));
    } else {
      place(file_name, name, uuid ? text_of(*uuid, "uuid") : "", pid, address);
    }
    return name;
  }

  void read_kernel(const Tree& kernel) {
    if (!kernel.is_object()) throw Bad("\"kernel\" is not an object");
    out_.info.user_only = false;
    const std::string file = text_of(need(kernel, {"file"}, "kernel"), "file");
    const Tree* address = find(kernel, {"loadAddress"});
    place(file, file, "", kNoPid, address ? number_of(*address, "loadAddress") : kKernelBase);
  }

  void place(const std::string& file, const std::string& name, const std::string& uuid, Pid pid, uint64_t address) {
    auto known = modules_.find(file);
    if (known == modules_.end()) {
      auto bytes = value_or_throw(folder_.read(file, kMaxElfBytes));
      auto layout = read_elf_layout(bytes);
      if (!layout.ok()) throw Failed{about(file, std::move(layout).error())};
      const uint32_t image = out_.add_image(ImageKind::elf, name, layout->build_id, std::move(bytes));
      known = modules_.emplace(file, Module{image, std::move(layout).value()}).first;
    }
    const Module& module = known->second;
    const std::string& build_id = module.layout.build_id;
    const std::string digits = uuid_digits(uuid);
    if (!build_id.empty() && digits.size() == build_id.size() && digits != build_id) {
      note("the file of the module " + shown(name) + " has another build-id than its uuid says; it was left out");
      return;
    }
    auto placed = place_elf(module.layout, address);
    if (!placed.ok()) throw Failed{about(file, std::move(placed).error())};
    if (out_.info.placements.size() + placed->size() > bundle::kMaxPlacements)
      throw Bad("it places more than " + std::to_string(bundle::kMaxPlacements) + " segments");
    for (PlacementInfo& p : *placed) {
      p.image = module.image;
      p.pid = pid;
      out_.info.placements.push_back(p);
    }
  }

  void add_file(const StreamInfo& stream, const std::string& file) {
    out_.add_stream(stream, value_or_throw(folder_.read(file, kMaxInputFileBytes)));
  }

  /// PERF_RECORD_COMM: u32 pid, tid; char comm[], NUL-terminated and padded to 8; then the sample_id of kOurSampleType.
  void add_comm(Pid pid, Tid tid, const std::string& comm) {
    const std::string text = comm.substr(0, 15);  // TASK_COMM_LEN - 1
    const size_t padded = (text.size() + 8) / 8 * 8;
    ByteWriter w(comms_);
    w.u32(perf::kComm);
    w.u16(0);
    w.u16(static_cast<uint16_t>(8 + 8 + padded + perf::sample_id_bytes(perf::kOurSampleType)));
    w.put(pid.value());
    w.put(tid.value());
    w.text(text);
    for (size_t i = text.size(); i < padded; ++i) w.u8(0);
    w.put(pid.value());
    w.put(tid.value());
    w.u64(0);  // time: before everything
    w.u32(kNoCpu.value());
    w.u32(0);
    w.u64(0);  // identifier
  }

  static Error about(const std::string& file, Error e) {
    e.what = "cannot use the module " + shown(file) + ": " + e.what;
    return e;
  }
  void note(std::string text) {
    if (out_.info.notes.size() < bundle::kMaxNotes) out_.info.notes.push_back(std::move(text));
  }

  const Tree& json_;
  const InputFolder& folder_;
  Imported out_;
  std::set<CpuId> cpus_;
  struct Module {
    uint32_t image;
    ElfLayout layout;
  };
  std::map<std::string, Module> modules_;  // by file name in the folder
  std::vector<uint8_t> comms_;
  bool any_pt_ = false;
};

Error bad_json(const std::string& why) {
  return Error{Errc::bad_input,
               "cannot import the LLDB trace bundle: " + why,
               {},
               "trace.json must be as LLDB's \"trace save\" writes it"};
}

}  // namespace

Result<Imported> read_lldb_bundle(std::string_view trace_json, const InputFolder& folder) {
  if (trace_json.size() > kMaxJsonBytes) return bad_json("trace.json is too long");
  if (transport::nested_deeper_than(trace_json, kMaxDepth)) return bad_json("trace.json is nested too deep");
  const Tree json = Tree::parse(trace_json, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return bad_json("trace.json is not a JSON object");
  try {
    return LldbReader(json, folder).read();
  } catch (const Bad& e) {
    return bad_json(e.what());
  } catch (Failed& e) {
    return std::move(e.error);
  }
}

}  // namespace hindcast::server
