// perf.data to streams, clock, options and images.
#include "server/import/perf_data.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <optional>

#include <nlohmann/json.hpp>

#include "hindcast/bundle_format.h"
#include "server/import/elf_placement.h"
#include "server/import/perf_file.h"
#include "server/import/perf_packed.h"
#include "server/import/perf_sideband.h"
#include "server/import/perf_trace.h"
#include "transport/json_depth.h"

namespace hindcast::server {
namespace {

constexpr size_t kLeastInfoWords = perf::kInfoPerCpu + 1;
constexpr size_t kMaxOursBytes = size_t{2} << 20;

Result<TscConversion> conversion(uint64_t shift, uint64_t mult, uint64_t zero) {
  if (shift > bundle::kMaxTimeShift || mult == 0 || mult > UINT32_MAX)
    return bad_perf_file("its time conversion is impossible",
                         "shift " + std::to_string(shift) + ", mult " + std::to_string(mult));
  TscConversion c;
  c.known = true;
  c.shift = static_cast<uint16_t>(shift);
  c.mult = static_cast<uint32_t>(mult);
  c.zero = zero;
  return c;
}

/// What PerfReader keeps of AUXTRACE_INFO; words that an older perf did not write are 0.
using InfoWords = std::array<uint64_t, perf::kInfoWords>;

/// What packed records may unpack to: perf's shrink to a tenth, seldom to a twentieth.
constexpr uint64_t kLeastUnpacked = uint64_t{64} << 20, kMostGrowth = 64;

class PerfReader {
 public:
  PerfReader(PerfFile file, const InputFolder& build_ids, const InputFolder& root)
      : file_(std::move(file)), build_ids_(build_ids), root_(root) {}

  Result<Imported> read() {
    out_.info.source = "import:perf";
    HC_TRY(PerfSideband sideband, PerfSideband::make(file_.attrs));
    HC_TRY_VOID(walk(sideband));
    if (!info_)
      return Error{Errc::unsupported, "cannot import the perf.data file: it holds no Intel PT",
                   "no AUXTRACE_INFO record", "record it with  perf record -e intel_pt// ..."};
    if (trace_.empty()) note("the file holds no trace bytes: was the intel_pt event ever on?");
    HC_TRY_VOID(trace_.make_streams((*info_)[perf::kInfoSnapshotMode] != 0, out_));
    HC_TRY_VOID(sideband.make_streams(out_));
    HC_TRY_VOID(read_options());
    HC_TRY_VOID(read_clock());
    read_names();
    read_ours();
    HC_TRY_VOID(read_build_ids());
    HC_TRY_VOID(find_images(sideband));
    if (samples_) note(std::to_string(samples_) + " samples of other events are left out");
    return std::move(out_);
  }

 private:
  Result<void> walk(PerfSideband& sideband) {
    PackedRecords packed(kLeastUnpacked + kMostGrowth * file_.data.size());
    const PackedRecords::Each take_kernel_record = [&](const perf::Record& record) -> Result<void> {
      if (record.type != perf::kSample) return sideband.add(record);
      ++samples_;
      return {};
    };
    ByteReader r(file_.data);
    while (r.left() > 0) {
      perf::Record record;
      record.offset = r.offset();
      record.type = r.u32();
      record.misc = r.u16();
      const uint16_t size = r.u16();
      if (r.failed() || size < 8 || size - 8u > r.left())
        return bad_perf_file(
            "a record is cut or has an impossible size",
            "at byte " + std::to_string(record.offset) + " of " + std::to_string(file_.data.size()) + " of the events");
      record.body = r.take(size - 8u);
      switch (record.type) {
        case perf::kAuxtraceInfo:
          HC_TRY_VOID(read_info(record));
          break;
        case perf::kAuxtrace: {
          ByteReader body(record.body);
          const auto aux = body.read<perf::AuxtraceBody>();
          if (body.failed() || aux.size > r.left())
            return bad_perf_file("a piece of its trace is cut", std::to_string(aux.size) + " bytes at byte " +
                                                                    std::to_string(record.offset) + " of the events; " +
                                                                    std::to_string(r.left()) + " are left");
          trace_.add(aux, r.take(aux.size));
          break;
        }
        case perf::kTimeConv: {
          ByteReader body(record.body);
          const uint64_t shift = body.u64(), mult = body.u64(), zero = body.u64();
          if (body.failed()) return bad_perf_file("its TIME_CONV record is cut");
          HC_TRY(time_conv_, conversion(shift, mult, zero));
          break;
        }
        case perf::kCompressed:
          HC_TRY_VOID(packed.add(record.body, record.offset, take_kernel_record));
          break;
        case perf::kCompressed2: {
          ByteReader body(record.body);
          const uint64_t bytes = body.u64();
          if (body.failed() || bytes > body.left())
            return bad_perf_file("a compressed record is cut",
                                 "at byte " + std::to_string(record.offset) + " of the events");
          HC_TRY_VOID(packed.add(body.take(bytes), record.offset, take_kernel_record));
          break;
        }
        default:
          if (record.type < perf::kFirstToolRecord) HC_TRY_VOID(take_kernel_record(record));
      }
    }
    if (packed.in_record()) note("the last of the compressed records is cut");
    return {};
  }

  Result<void> read_info(const perf::Record& record) {
    ByteReader r(record.body);
    const uint32_t type = r.u32();
    r.skip(4);
    if (r.failed()) return bad_perf_file("its AUXTRACE_INFO record is cut");
    if (type != perf::kAuxtraceIntelPt)
      return Error{Errc::unsupported,
                   "cannot import the perf.data file: its trace is not Intel PT",
                   "AUXTRACE type " + std::to_string(type),
                   {}};
    if (info_) return bad_perf_file("it has two AUXTRACE_INFO records");
    if (r.left() < kLeastInfoWords * 8)
      return bad_perf_file("its AUXTRACE_INFO record is too short", std::to_string(record.body.size()) + " bytes");
    info_.emplace();
    for (uint64_t& word : *info_) word = r.left() >= 8 ? r.u64() : 0;
    return {};
  }

  Result<void> read_options() {
    const auto is_pt = [this](const PerfAttr& a) { return a.attr.type == (*info_)[perf::kInfoPmuType]; };
    const auto pt = std::find_if(file_.attrs.begin(), file_.attrs.end(), is_pt);
    if (pt == file_.attrs.end())
      return bad_perf_file("no attr is of the intel_pt event",
                           "AUXTRACE_INFO names PMU type " + std::to_string((*info_)[perf::kInfoPmuType]));
    out_.info.pt = perf::pt_options(pt->attr.config);
    if (!out_.info.pt.mtc) out_.info.pt.mtc_period = 0;
    out_.options_known = true;
    out_.info.user_only = pt->attr.exclude_kernel;
    if (pt->attr.use_clockid) {
      const int id = pt->attr.clockid;
      out_.info.record_clock = id == CLOCK_MONOTONIC       ? "monotonic"
                               : id == CLOCK_MONOTONIC_RAW ? "monotonic_raw"
                               : id == CLOCK_REALTIME      ? "realtime"
                               : id == CLOCK_BOOTTIME      ? "boottime"
                               : id == CLOCK_TAI           ? "tai"
                                                           : "clock " + std::to_string(id);
    }
    PtCpu& cpu = out_.info.cpu;
    const InfoWords& w = *info_;
    if (w[perf::kInfoTscCtcNum] > UINT32_MAX || w[perf::kInfoTscCtcDen] > UINT32_MAX ||
        w[perf::kInfoNominalRatio] > UINT8_MAX)
      return bad_perf_file("its CPU constants are impossible",
                           std::to_string(w[perf::kInfoTscCtcNum]) + "/" + std::to_string(w[perf::kInfoTscCtcDen]) +
                               ", ratio " + std::to_string(w[perf::kInfoNominalRatio]));
    if (w[perf::kInfoTscCtcNum] && w[perf::kInfoTscCtcDen]) {
      cpu.tsc_ctc_num = static_cast<uint32_t>(w[perf::kInfoTscCtcNum]);
      cpu.tsc_ctc_den = static_cast<uint32_t>(w[perf::kInfoTscCtcDen]);
    }
    cpu.nominal_ratio = static_cast<uint8_t>(w[perf::kInfoNominalRatio]);
    return {};
  }

  Result<void> read_clock() {
    const InfoWords& w = *info_;
    if (w[perf::kInfoTimeKnown]) {
      HC_TRY(out_.info.clock, conversion(w[perf::kInfoTimeShift], w[perf::kInfoTimeMult], w[perf::kInfoTimeZero]));
    } else if (time_conv_) {
      out_.info.clock = *time_conv_;
    }
    return {};
  }

  void read_names() {
    const auto short_text = [this](uint32_t feature, size_t limit) { return file_.text(feature).substr(0, limit); };
    out_.info.host = short_text(perf::kFeatureHostname, 256);
    // "GenuineIntel,6,85,4" or "GenuineIntel-6-55-4" with hexadecimal model and stepping
    const std::string cpu_id = short_text(perf::kFeatureCpuId, 64);
    const bool hexadecimal = cpu_id.find('-') != cpu_id.npos;
    uint32_t numbers[3] = {};
    size_t at = cpu_id.find_first_of(",-");
    for (int i = 0; i < 3 && at != cpu_id.npos; ++i) {
      std::from_chars(cpu_id.data() + at + 1, cpu_id.data() + cpu_id.size(), numbers[i],
                      hexadecimal && i > 0 ? 16 : 10);
      at = cpu_id.find_first_of(",-", at + 1);
    }
    if (numbers[0] > 0 && numbers[0] < 4096 && numbers[1] < 256 && numbers[2] < 256) {
      out_.info.cpu.intel = cpu_id.starts_with("GenuineIntel");
      out_.info.cpu.family = static_cast<uint16_t>(numbers[0]);
      out_.info.cpu.model = static_cast<uint8_t>(numbers[1]);
      out_.info.cpu.stepping = static_cast<uint8_t>(numbers[2]);
    }
    const auto words = file_.features.find(perf::kFeatureCommandLine);
    if (words == file_.features.end()) return;
    ByteReader r(words->second);
    std::string& command = out_.info.command;
    for (uint32_t left = r.u32(); left > 0 && !r.failed(); --left) {
      const size_t bytes = r.u32();
      const ByteSpan text = r.take(bytes);
      const auto end = std::find(text.begin(), text.end(), uint8_t{0});
      if (!command.empty()) command += ' ';
      command.append(text.begin(), end);
      if (command.size() > bundle::kMaxCommandBytes) break;
    }
    if (command.size() > bundle::kMaxCommandBytes) command.resize(bundle::kMaxCommandBytes);
  }

  /// What our own export adds for us; anything strange in it is ignored.
  void read_ours() {
    const std::string text = file_.text(perf::kFeatureHindcast);
    if (text.empty() || text.size() > kMaxOursBytes || transport::nested_deeper_than(text, 4)) return;
    const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return;
    const auto number = [&json](const char* key, uint64_t limit) -> uint64_t {
      const auto it = json.find(key);
      return it != json.end() && it->is_number_unsigned() ? std::min(it->get<uint64_t>(), limit) : 0;
    };
    out_.info.clock.error_ticks = number("clock_error_ticks", uint64_t{1} << 40);
    out_.info.cpu.ctc_hz = static_cast<uint32_t>(number("ctc_hz", UINT32_MAX));
    if (const auto it = json.find("source"); it != json.end() && *it == "simulated") out_.info.source = "simulated";
    if (const auto pids = json.find("root_pids"); pids != json.end() && pids->is_array())
      for (const auto& pid : *pids)
        if (pid.is_number_integer() && out_.info.root_pids.size() < bundle::kMaxRootPids)
          out_.info.root_pids.push_back(Pid(static_cast<int32_t>(pid.get<int64_t>())));
  }

  /// The table that perf writes at the end, for mappings whose records have no build-id.
  Result<void> read_build_ids() {
    const auto feature = file_.features.find(perf::kFeatureBuildId);
    if (feature == file_.features.end()) return {};
    ByteReader r(feature->second);
    while (r.left() > 0) {
      const size_t at = r.offset();
      r.skip(4);
      const uint16_t misc = r.u16(), size = r.u16();
      if (r.failed() || size < 8 || size - 8u > r.left())
        return bad_perf_file("its table of build-ids is cut",
                             "at byte " + std::to_string(at) + " of " + std::to_string(feature->second.size()));
      ByteReader entry(r.take(size - 8u));
      const auto body = entry.read<perf::BuildIdBody>();
      const std::string_view path = entry.c_string(bundle::kMaxTextBytes);
      if (entry.failed())
        return bad_perf_file("an entry of its table of build-ids is cut", "at byte " + std::to_string(at));
      const size_t bytes = misc & perf::kMiscBuildIdSize ? body.size : sizeof body.build_id;
      if (bytes > sizeof body.build_id)
        return bad_perf_file("a build-id is too long", std::to_string(bytes) + " bytes at byte " + std::to_string(at));
      if (ids_.size() < bundle::kMaxImages) ids_.emplace(path, digits({body.build_id, bytes}));
    }
    return {};
  }

  Result<void> find_images(const PerfSideband& sideband) {
    std::map<std::string, bool> done;  // build-ids, and paths without one
    for (const auto& [file, executable] : sideband.files()) {
      const std::string& path = file.first;
      std::string id = file.second;
      if (const auto it = ids_.find(path); id.empty() && it != ids_.end()) id = it->second;
      // Code may run from what was mapped without the right to (QEMU does); but only with a build-id is it worth a look.
      if (!executable && id.empty()) continue;
      if (!done.emplace(id.empty() ? path : without_padding(id), true).second) continue;
      if (out_.info.images.size() == bundle::kMaxImages) {
        note("more files are mapped than a bundle can hold");
        break;
      }
      HC_TRY_VOID(find_image(path, id, executable));
    }
    return {};
  }

  Result<void> find_image(const std::string& path, const std::string& id, bool executable) {
    std::string why = "it is not among the files given";
    if (id.size() > 2) {
      for (const char* last : {"/elf", ""}) {  // older perfs had no folder there
        auto bytes = build_ids_.read(".build-id/" + id.substr(0, 2) + "/" + id.substr(2) + last, kMaxElfBytes);
        if (bytes.ok() && take_image(path, id, std::move(bytes).value(), why)) return {};
        if (!bytes.ok() && bytes.error().code == Errc::too_large) return std::move(bytes).error();
      }
    }
    if (path[0] == '/' && !path.starts_with("//")) {
      auto bytes = root_.read(path.substr(1), kMaxElfBytes);
      if (bytes.ok() && take_image(path, id, std::move(bytes).value(), why)) return {};
      if (!bytes.ok() && bytes.error().code == Errc::too_large) return std::move(bytes).error();
    } else {
      why = "it is not a file";
    }
    if (executable) note("no code for " + shown(path) + (id.empty() ? "" : ", build-id " + id) + ": " + why);
    return {};
  }

  bool take_image(const std::string& path, const std::string& id, std::vector<uint8_t> bytes, std::string& why) {
    const auto layout = read_elf_layout(bytes);
    if (!layout.ok()) {
      why = layout.error().what;
      return false;
    }
    const std::string& own = layout->build_id;
    if (!own.empty() && !id.empty() && without_padding(own) != without_padding(id)) {
      why = "the file found has build-id " + own;
      return false;
    }
    out_.add_image(ImageKind::elf, path, own.empty() ? id : own, std::move(bytes));
    return true;
  }

  static std::string digits(ByteSpan bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string s;
    for (const uint8_t b : bytes) {
      s += kDigits[b >> 4];
      s += kDigits[b & 15];
    }
    return s;
  }
  static std::string without_padding(std::string id) {
    while (id.ends_with("00")) id.resize(id.size() - 2);
    return id;
  }
  void note(std::string text) {
    if (out_.info.notes.size() < bundle::kMaxNotes) out_.info.notes.push_back(std::move(text));
  }

  const PerfFile file_;
  const InputFolder& build_ids_;
  const InputFolder& root_;
  Imported out_;
  PerfTrace trace_;
  std::optional<InfoWords> info_;
  std::optional<TscConversion> time_conv_;
  std::map<std::string, std::string> ids_;  // path to build-id
  uint64_t samples_ = 0;
};

}  // namespace

bool is_perf_data(ByteSpan file) {
  ByteReader r(file);
  const uint64_t magic = r.u64();
  return magic == perf::kFileMagic || magic == perf::kSwappedMagic || magic == perf::kOldFileMagic;
}

Result<Imported> read_perf_data(ByteSpan file, const InputFolder& build_ids, const InputFolder& root) {
  HC_TRY(PerfFile parts, read_perf_file(file));
  return PerfReader(std::move(parts), build_ids, root).read();
}

}  // namespace hindcast::server
