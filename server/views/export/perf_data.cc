#include "server/views/export/perf_data.h"

#include <linux/perf_event.h>

#include <algorithm>
#include <ctime>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "hindcast/perf_file.h"
#include "hindcast/perf_record.h"
#include "server/views/export/code_files.h"
#include "server/views/export/output_file.h"
#include "server/views/export/perf_records.h"

namespace hindcast::server::views {
namespace {

constexpr uint32_t kPmuType = 8;  // any number beyond the kernel's fixed ones; attr and AUXTRACE_INFO must agree
constexpr uint64_t kSampleType = perf::kOurSampleType | PERF_SAMPLE_IP;
constexpr size_t kIdsPerIndex = 2000;  // an ID_INDEX record holds 32 bytes for each

using Bytes = std::vector<uint8_t>;

struct Attr {
  perf_event_attr attr;
  std::string name;
  std::vector<uint64_t> ids;
  std::vector<StreamInfo> streams;  // one per id, for PT
};

int clock_id(const std::string& name) {
  return name == "monotonic"       ? CLOCK_MONOTONIC
         : name == "monotonic_raw" ? CLOCK_MONOTONIC_RAW
         : name == "realtime"      ? CLOCK_REALTIME
         : name == "boottime"      ? CLOCK_BOOTTIME
         : name == "tai"           ? CLOCK_TAI
                                   : -1;
}

perf_event_attr common_attr(const SnapshotInfo& info) {
  perf_event_attr a{};
  a.size = sizeof a;
  a.sample_type = kSampleType;
  a.read_format = PERF_FORMAT_ID;
  a.disabled = a.inherit = a.sample_id_all = a.exclude_guest = 1;
  a.exclude_kernel = a.exclude_hv = info.user_only;
  if (const int id = clock_id(info.record_clock); id >= 0) {
    a.use_clockid = 1;
    a.clockid = id;
  }
  return a;
}

Attr pt_attr(const SnapshotInfo& info, const std::vector<StreamInfo>& streams, uint64_t first_id) {
  Attr pt{common_attr(info), info.user_only ? "intel_pt//u" : "intel_pt//", {}, streams};
  pt.attr.type = kPmuType;
  pt.attr.config = perf::pt_config(info.pt);
  pt.attr.sample_period = 1;
  for (size_t i = 0; i < streams.size(); ++i) pt.ids.push_back(first_id + i);
  return pt;
}

Attr sideband_attr(const SnapshotInfo& info, std::vector<uint64_t> ids) {
  Attr s{common_attr(info), info.user_only ? "dummy:u" : "dummy", std::move(ids), {}};
  s.attr.type = PERF_TYPE_SOFTWARE;
  s.attr.config = PERF_COUNT_SW_DUMMY;
  s.attr.sample_period = 1;
  s.attr.mmap = s.attr.mmap2 = s.attr.mmap_data = s.attr.comm = s.attr.comm_exec = s.attr.task = 1;
  s.attr.context_switch = s.attr.build_id = 1;
  return s;
}

void put_record(Bytes& out, uint32_t type, ByteSpan body) {
  ByteWriter w(out);
  w.u32(type);
  w.u16(0);
  w.u16(static_cast<uint16_t>(8 + body.size()));
  w.bytes(body);
}

Bytes auxtrace_info(const SnapshotInfo& info, const PerfRecords& records, bool per_cpu, bool snapshot_mode) {
  uint64_t words[perf::kInfoWords] = {};
  words[perf::kInfoPmuType] = kPmuType;
  words[perf::kInfoTimeShift] = info.clock.shift;
  words[perf::kInfoTimeMult] = info.clock.mult;
  words[perf::kInfoTimeZero] = info.clock.zero;
  words[perf::kInfoTimeKnown] = info.clock.known;
  words[perf::kInfoTscBit] = perf::kPtConfigTsc;
  words[perf::kInfoNoRetCompBit] = perf::kPtConfigNoRetComp;
  // Without the kernel's code perf can only go by who was switched in, which both kinds of record tell.
  words[perf::kInfoSchedSwitch] = !records.any_switch ? 0 : info.user_only || !records.only_cpu_wide ? 2 : 3;
  words[perf::kInfoSnapshotMode] = snapshot_mode;
  words[perf::kInfoPerCpu] = per_cpu;
  words[perf::kInfoMtcBit] = perf::kPtConfigMtc;
  words[perf::kInfoMtcFrequencyBits] = perf::kPtConfigMtcPeriod;
  words[perf::kInfoTscCtcNum] = info.cpu.tsc_ctc_num;
  words[perf::kInfoTscCtcDen] = info.cpu.tsc_ctc_den;
  words[perf::kInfoCycBit] = perf::kPtConfigCyc;
  words[perf::kInfoNominalRatio] = info.cpu.nominal_ratio;
  Bytes body;
  ByteWriter w(body);
  w.u32(perf::kAuxtraceIntelPt);
  w.u32(0);
  for (const uint64_t word : words) w.u64(word);
  w.u64(info.pt.event);  // cap_event_trace
  Bytes out;
  put_record(out, perf::kAuxtraceInfo, body);
  return out;
}

Bytes id_index(const std::vector<Attr>& attrs) {
  Bytes entries;
  ByteWriter w(entries);
  for (const Attr& a : attrs)
    for (size_t i = 0; i < a.ids.size(); ++i) {
      const StreamInfo s = i < a.streams.size() ? a.streams[i] : StreamInfo{};
      w.u64(a.ids[i]);
      w.u64(i);
      w.put(int64_t{static_cast<int32_t>(s.cpu.value())});  // -1: any
      w.put(int64_t{s.tid.value()});
    }
  Bytes out;
  for (size_t at = 0; at < entries.size();) {
    const size_t n = std::min(entries.size() - at, kIdsPerIndex * 32);
    Bytes body;
    ByteWriter(body).u64(n / 32);
    ByteWriter(body).bytes(ByteSpan(entries).subspan(at, n));
    put_record(out, perf::kIdIndex, body);
    at += n;
  }
  return out;
}

Bytes time_conv(const TscConversion& c) {
  Bytes body, out;
  ByteWriter w(body);
  w.u64(c.shift);
  w.u64(c.mult);
  w.u64(c.zero);
  w.u64(0);             // time_cycles
  w.u64(~uint64_t{0});  // time_mask
  w.u64(1);             // cap_user_time_zero; no cap_user_time_short
  put_record(out, perf::kTimeConv, body);
  return out;
}

/// A counted text as features hold it: padded with NULs to 64.
void put_text(Bytes& out, const std::string& text) {
  const size_t padded = (text.size() + 64) / 64 * 64;
  ByteWriter w(out);
  w.u32(static_cast<uint32_t>(padded));
  w.text(text);
  out.resize(out.size() + padded - text.size());
}

Bytes text_feature(const std::string& text) {
  Bytes out;
  put_text(out, text);
  return out;
}

/// As perf prints it; CPUs of other makers carry no errata that anybody here knows of.
std::string cpu_id(const PtCpu& cpu) {
  return std::string(cpu.intel ? "GenuineIntel" : "unknown") + "," + std::to_string(cpu.family) + "," +
         std::to_string(cpu.model) + "," + std::to_string(cpu.stepping);
}

/// What perf has no place for and a re-import needs.
std::string ours(const SnapshotInfo& info) {
  nlohmann::json root_pids = nlohmann::json::array();
  for (const Pid pid : info.root_pids) root_pids.push_back(pid.value());
  const nlohmann::json all = {{"source", info.source},
                              {"clock_error_ticks", info.clock.error_ticks},
                              {"ctc_hz", info.cpu.ctc_hz},
                              {"root_pids", root_pids}};
  return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Bytes event_desc(const std::vector<Attr>& attrs) {
  Bytes out;
  ByteWriter w(out);
  w.u32(static_cast<uint32_t>(attrs.size()));
  w.u32(sizeof(perf_event_attr));
  for (const Attr& a : attrs) {
    w.put(a.attr);
    w.u32(static_cast<uint32_t>(a.ids.size()));
    put_text(out, a.name);
    for (const uint64_t id : a.ids) w.u64(id);
  }
  return out;
}

Bytes build_ids(const CodeFiles& code) {
  Bytes out;
  for (const auto& entry : code.used()) {
    const CodeFiles::Used& used = entry.second;
    std::string path = CodeFiles::path_of(*used.image);
    path.resize((path.size() + 8) / 8 * 8);
    perf::BuildIdBody body{};
    body.pid = -1;
    std::copy(used.build_id.begin(), used.build_id.end(), body.build_id);
    body.size = static_cast<uint8_t>(used.build_id.size());
    ByteWriter w(out);
    w.u32(perf::kBuildId);
    w.u16(perf::kMiscBuildIdSize | PERF_RECORD_MISC_USER);
    w.u16(static_cast<uint16_t>(8 + sizeof body + path.size()));
    w.put(body);
    w.text(path);
  }
  return out;
}

class Exporter {
 public:
  Exporter(Query& query, const Overview& overview)
      : query_(query), overview_(overview), info_(overview.info), code_(query, overview.snapshot, overview.info) {}

  Result<PerfDataExport> run(const std::string& folder) {
    HC_TRY_VOID(choose_streams());
    HC_TRY(const PerfRecords records, perf_records(query_, overview_, code_));
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) return Error{Errc::io, "cannot make the folder " + folder + ": " + failed.message(), {}, {}};
    result_.file = folder + "/perf.data";
    result_.code_folder = folder + "/buildid";
    HC_TRY_VOID(code_.write(result_.code_folder));
    HC_TRY_VOID(write_file(records));
    result_.code_files = code_.used().size();
    add_notes(records);
    return std::move(result_);
  }

 private:
  Result<void> choose_streams() {
    bool any_thread = false, any_cpu = false;
    for (const StreamInfo& s : info_.streams) {
      if (s.kind != StreamKind::pt) continue;
      any_thread |= s.tid != kNoTid;
      any_cpu |= s.tid == kNoTid && s.cpu != kNoCpu;
      if (s.tid == kNoTid && s.cpu == kNoCpu) return nobody("stream " + std::to_string(s.id) + " has neither");
      pt_.push_back(s);
    }
    if (pt_.empty()) return nobody("there is no PT stream at all");
    if (any_thread && any_cpu) return nobody("some streams are of a CPU, some of a thread");
    per_cpu_ = any_cpu;
    snapshot_mode_ =
        std::any_of(pt_.begin(), pt_.end(), [](const StreamInfo& s) { return s.wrapped || !s.cuts.empty(); });
    return {};
  }
  static Error nobody(const std::string& found) {
    return Error{Errc::unsupported,
                 "cannot export to perf.data: perf knows PT of CPUs or of threads, one kind in a file", found,
                 "hindcast show and hindcast dump read this bundle"};
  }

  Result<void> write_file(const PerfRecords& records) {
    const uint64_t first_id = records.ids.empty() ? 2 : *records.ids.rbegin() + 1;
    std::vector<uint64_t> sideband_ids(records.ids.begin(), records.ids.end());
    if (sideband_ids.empty()) sideband_ids.push_back(1);
    std::vector<Attr> attrs{pt_attr(info_, pt_, first_id), sideband_attr(info_, std::move(sideband_ids))};

    HC_TRY(OutputFile out, OutputFile::create(result_.file));
    perf::FileHeader header{};
    header.magic = perf::kFileMagic;
    header.size = sizeof header;
    header.attr_size = sizeof(perf_event_attr) + sizeof(perf::Section);
    Bytes head;
    ByteWriter w(head);
    w.put(header);
    std::vector<perf::Section> id_sections;
    for (const Attr& a : attrs) {
      id_sections.push_back({head.size(), a.ids.size() * sizeof(uint64_t)});
      for (const uint64_t id : a.ids) w.u64(id);
    }
    header.attrs = {head.size(), attrs.size() * header.attr_size};
    for (size_t i = 0; i < attrs.size(); ++i) {
      w.put(attrs[i].attr);
      w.put(id_sections[i]);
    }
    HC_TRY_VOID(out.write(head));

    header.data.offset = out.offset();
    HC_TRY_VOID(out.write(auxtrace_info(info_, records, per_cpu_, snapshot_mode_)));
    HC_TRY_VOID(out.write(id_index(attrs)));
    if (info_.clock.known) HC_TRY_VOID(out.write(time_conv(info_.clock)));
    HC_TRY_VOID(write_records(out, records));
    for (size_t i = 0; i < pt_.size(); ++i) HC_TRY_VOID(write_trace(out, static_cast<uint32_t>(i)));
    header.data.size = out.offset() - header.data.offset;

    HC_TRY_VOID(write_features(out, header, records, attrs));
    Bytes again;
    ByteWriter(again).put(header);
    HC_TRY_VOID(out.write_at(again, 0));
    return out.close();
  }

  Result<void> write_records(OutputFile& out, const PerfRecords& records) {
    // perf sorts what lies between two of these, so that it need not hold all of a long recording.
    Bytes round;
    put_record(round, perf::kFinishedRound, {});
    uint64_t at = 0;
    std::vector<uint64_t> ends = records.round_at;
    ends.push_back(records.bytes.size());
    for (const uint64_t end : ends) {
      HC_TRY_VOID(out.write(ByteSpan(records.bytes).subspan(at, end - at)));
      HC_TRY_VOID(out.write(round));
      at = end;
    }
    result_.records = records.bytes.size();
    return {};
  }

  Result<void> write_trace(OutputFile& out, uint32_t index) {
    const StreamInfo& s = pt_[index];
    HC_TRY(const SharedBytes trace, query_.stream_bytes(overview_.snapshot, s.id));
    // The ring's count of bytes: what a wrapped ring lost came before ours.
    const uint64_t before = s.wrapped ? std::max<uint64_t>({s.lost_bytes, s.ring_bytes, 1}) : 0;
    std::vector<uint64_t> ends = s.cuts;
    ends.push_back(trace.bytes.size());
    std::sort(ends.begin(), ends.end());
    uint64_t at = 0;
    for (uint64_t end : ends) {
      end = std::min<uint64_t>(end, trace.bytes.size());
      if (end <= at) continue;
      perf::AuxtraceBody body{};
      body.size = end - at;
      body.offset = before + at;
      body.reference = reference_of(s.id);
      body.index = index;
      body.tid = s.tid.value();
      body.cpu = per_cpu_ ? s.cpu.value() : kNoCpu.value();
      Bytes record, bytes;
      ByteWriter(bytes).put(body);
      put_record(record, perf::kAuxtrace, bytes);
      trace_at_.push_back(out.offset());
      HC_TRY_VOID(out.write(record));
      HC_TRY_VOID(out.write(trace.bytes.subspan(at, end - at)));
      at = end;
    }
    result_.trace_bytes += trace.bytes.size();
    return {};
  }

  /// A TSC value near those of the stream: TSC packets hold 56 bits, and perf takes no time from the first before it has
  /// one with all 64.
  uint64_t reference_of(uint32_t stream) const {
    for (const StreamRow& row : overview_.streams)
      if (row.info.id == stream && row.time.latest != Tsc::max()) return row.time.latest.value();
    return overview_.window.latest == Tsc::max() ? 0 : overview_.window.latest.value();
  }

  Result<void> write_features(OutputFile& out, perf::FileHeader& header, const PerfRecords& records,
                              const std::vector<Attr>& attrs) {
    uint32_t cpus = 1;
    for (const StreamInfo& s : info_.streams)
      if (s.cpu != kNoCpu) cpus = std::max(cpus, s.cpu.value() + 1);
    std::map<uint32_t, Bytes> features;  // in order of their bits
    if (!code_.used().empty()) features[perf::kFeatureBuildId] = build_ids(code_);
    features[perf::kFeatureHostname] = text_feature(info_.host);
    features[perf::kFeatureVersion] = text_feature("hindcast export");
    features[perf::kFeatureArch] = text_feature("x86_64");
    ByteWriter(features[perf::kFeatureNrCpus]).u32(cpus);
    ByteWriter(features[perf::kFeatureNrCpus]).u32(cpus);
    features[perf::kFeatureCpuDesc] = text_feature(cpu_id(info_.cpu));
    features[perf::kFeatureCpuId] = text_feature(cpu_id(info_.cpu));
    ByteWriter(features[perf::kFeatureCommandLine]).u32(1);
    put_text(features[perf::kFeatureCommandLine], info_.command);
    features[perf::kFeatureEventDesc] = event_desc(attrs);
    ByteWriter(features[perf::kFeaturePmuMappings]).u32(1);
    ByteWriter(features[perf::kFeaturePmuMappings]).u32(kPmuType);
    put_text(features[perf::kFeaturePmuMappings], "intel_pt");
    Bytes& index = features[perf::kFeatureAuxtrace];
    ByteWriter(index).u64(trace_at_.size());
    for (const uint64_t at : trace_at_) {
      ByteWriter(index).u64(at);
      ByteWriter(index).u64(8 + sizeof(perf::AuxtraceBody));
    }
    ByteWriter(features[perf::kFeatureSampleTime]).u64(std::min(records.first, records.last).value());
    ByteWriter(features[perf::kFeatureSampleTime]).u64(records.last.value());

    features[perf::kFeatureHindcast] = text_feature(ours(info_));

    Bytes table;
    uint64_t at = out.offset() + features.size() * sizeof(perf::Section);
    for (const auto& [bit, bytes] : features) {
      header.features[bit / 64] |= uint64_t{1} << bit % 64;
      ByteWriter(table).put(perf::Section{at, bytes.size()});
      at += bytes.size();
    }
    HC_TRY_VOID(out.write(table));
    for (const auto& feature : features) HC_TRY_VOID(out.write(feature.second));
    return {};
  }

  void add_notes(const PerfRecords& records) {
    const auto note = [this](std::string text) { result_.notes.push_back(std::move(text)); };
    if (records.left_out) note(std::to_string(records.left_out) + " records are left out: perf does not know them");
    if (!info_.clock.known)
      note("the trace's clock is not related to that of the records: perf cannot tell threads apart");
    if (info_.cpu.tsc_ctc_num == 0 && info_.pt.mtc)
      note("CPUID 15H of the traced CPU is not known: MTC packets give perf no time");
    if (info_.clock.error_ticks)
      note("perf takes the clock for exact; ours is within " + std::to_string(info_.clock.error_ticks) + " TSC ticks");
    for (const DamageRow& d : query_.store().damage) note("damaged: " + d.what);
  }

  Query& query_;
  const Overview& overview_;
  const SnapshotInfo& info_;
  CodeFiles code_;
  std::vector<StreamInfo> pt_;
  bool per_cpu_ = false, snapshot_mode_ = false;
  std::vector<uint64_t> trace_at_;
  PerfDataExport result_;
};

}  // namespace

Result<PerfDataExport> export_perf_data(Query& query, size_t snapshot, const std::string& folder) {
  HC_TRY(const Overview* overview, query.overview(snapshot));
  return Exporter(query, *overview).run(folder);
}

}  // namespace hindcast::server::views
