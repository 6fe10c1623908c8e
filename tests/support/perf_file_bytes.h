// A perf.data file for tests, part by part, as `perf record` would write it; every length and offset can be made wrong.
#pragma once

#include <linux/perf_event.h>

#include <map>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/perf_file.h"
#include "hindcast/perf_record.h"

namespace hindcast::test {

class PerfFileBytes {
 public:
  static constexpr uint32_t kPmu = 9;
  static constexpr uint64_t kSampleType = 0x10086;  // TID, TIME, CPU, IDENTIFIER

  PerfFileBytes() {
    perf_event_attr pt{};
    pt.type = kPmu;
    pt.size = sizeof pt;
    pt.config = 1 | perf::kPtConfigTsc | 1u << 13 | perf::kPtConfigMtc | uint64_t{3} << 14;
    pt.sample_type = kSampleType | PERF_SAMPLE_IP;
    pt.sample_id_all = pt.exclude_kernel = 1;
    attr(pt, {100});
    perf_event_attr dummy{};
    dummy.type = PERF_TYPE_SOFTWARE;
    dummy.size = sizeof dummy;
    dummy.config = PERF_COUNT_SW_DUMMY;
    dummy.sample_type = kSampleType;
    dummy.sample_id_all = 1;
    attr(dummy, {200});
  }

  void attr(const perf_event_attr& a, std::vector<uint64_t> ids) { attrs_.push_back({a, std::move(ids)}); }
  perf_event_attr& attr(size_t i) { return attrs_[i].attr; }

  PerfFileBytes& event(uint32_t type, const std::vector<uint8_t>& body, uint16_t misc = 0) {
    ByteWriter w(data_);
    w.u32(type), w.u16(misc), w.u16(static_cast<uint16_t>(8 + body.size()));
    w.bytes(body);
    return *this;
  }
  PerfFileBytes& raw(const std::vector<uint8_t>& bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  /// A kernel's record: body, then the trailer of kSampleType.
  PerfFileBytes& record(uint32_t type, std::vector<uint8_t> body, uint32_t cpu, uint64_t time, uint64_t id = 200,
                        uint16_t misc = 0) {
    ByteWriter w(body);
    w.u32(7), w.u32(7), w.u64(time), w.u32(cpu), w.u32(0), w.u64(id);
    return event(type, body, misc);
  }
  PerfFileBytes& switch_in(uint32_t cpu, uint64_t time) { return record(perf::kSwitch, {}, cpu, time); }
  PerfFileBytes& mmap2(const std::string& path, uint32_t prot, const std::vector<uint8_t>& build_id = {}) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(7), w.u32(7), w.u64(0x400000), w.u64(0x1000), w.u64(0);
    if (build_id.empty()) {
      w.u32(0), w.u32(0), w.u64(0), w.u64(0);
    } else {
      w.u8(static_cast<uint8_t>(build_id.size())), w.u8(0), w.u16(0);
      w.bytes(build_id);
      for (size_t i = build_id.size(); i < 20; ++i) w.u8(0);
    }
    w.u32(prot), w.u32(2);
    w.text(path);
    do w.u8(0);
    while (body.size() % 8);
    return record(perf::kMmap2, body, 1, 5, 200, build_id.empty() ? 0 : perf::kMiscMmapBuildId);
  }
  PerfFileBytes& info(std::map<size_t, uint64_t> words = {}, size_t count = perf::kInfoWords,
                      uint32_t type = perf::kAuxtraceIntelPt) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(type), w.u32(0);
    words.emplace(perf::kInfoPmuType, kPmu);
    for (size_t i = 0; i < count; ++i) w.u64(words.contains(i) ? words[i] : 0);
    return event(perf::kAuxtraceInfo, body);
  }
  PerfFileBytes& trace(uint32_t cpu, uint64_t offset, const std::vector<uint8_t>& bytes, int32_t tid = -1) {
    return trace_of_size(cpu, offset, bytes, bytes.size(), tid);
  }
  PerfFileBytes& trace_of_size(uint32_t cpu, uint64_t offset, const std::vector<uint8_t>& bytes, uint64_t size,
                               int32_t tid = -1) {
    std::vector<uint8_t> body;
    ByteWriter(body).put(perf::AuxtraceBody{size, offset, 0, 0, tid, cpu, 0});
    return event(perf::kAuxtrace, body).raw(bytes);
  }
  PerfFileBytes& feature(uint32_t bit, std::vector<uint8_t> bytes) {
    features_[bit] = std::move(bytes);
    return *this;
  }
  PerfFileBytes& text(uint32_t bit, const std::string& text) {
    std::vector<uint8_t> bytes;
    ByteWriter w(bytes);
    w.u32(static_cast<uint32_t>(text.size() + 1));
    w.text(text), w.u8(0);
    return feature(bit, bytes);
  }

  /// Where things are in bytes(), to be made wrong.
  struct Layout {
    size_t attrs = 0, data = 0, table = 0;
  };
  Layout layout() const {
    Layout l;
    (void)build(l);
    return l;
  }
  std::vector<uint8_t> bytes() const {
    Layout l;
    return build(l);
  }

 private:
  struct Attr {
    perf_event_attr attr;
    std::vector<uint64_t> ids;
  };

  std::vector<uint8_t> build(Layout& l) const {
    perf::FileHeader h{};
    h.magic = perf::kFileMagic;
    h.size = sizeof h;
    h.attr_size = sizeof(perf_event_attr) + sizeof(perf::Section);
    std::vector<uint8_t> out(sizeof h);
    ByteWriter w(out);
    std::vector<perf::Section> ids;
    for (const Attr& a : attrs_) {
      ids.push_back({out.size(), a.ids.size() * 8});
      for (const uint64_t id : a.ids) w.u64(id);
    }
    l.attrs = out.size();
    h.attrs = {out.size(), attrs_.size() * h.attr_size};
    for (size_t i = 0; i < attrs_.size(); ++i) w.put(attrs_[i].attr), w.put(ids[i]);
    l.data = out.size();
    h.data = {out.size(), data_.size()};
    w.bytes(data_);
    l.table = out.size();
    uint64_t at = out.size() + features_.size() * sizeof(perf::Section);
    for (const auto& [bit, bytes] : features_) {
      h.features[bit / 64] |= uint64_t{1} << bit % 64;
      w.put(perf::Section{at, bytes.size()});
      at += bytes.size();
    }
    for (const auto& entry : features_) w.bytes(entry.second);
    std::memcpy(out.data(), &h, sizeof h);
    return out;
  }

  std::vector<Attr> attrs_;
  std::vector<uint8_t> data_;
  std::map<uint32_t, std::vector<uint8_t>> features_;
};

}  // namespace hindcast::test
