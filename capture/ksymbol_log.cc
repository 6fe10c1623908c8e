#include "capture/ksymbol_log.h"

#include <algorithm>

#include "hindcast/kallsyms.h"

namespace hindcast::capture {

namespace {

constexpr uint16_t kUnregister = 1;                       // PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER
constexpr uint16_t kProgramLoad = 1, kProgramUnload = 2;  // PERF_BPF_EVENT_PROG_*

ByteSpan without_trailer(const perf::Record& record) {
  const size_t n = perf::sample_id_bytes(perf::kOurSampleType);
  return record.body.size() < n ? ByteSpan{} : record.body.first(record.body.size() - n);
}

}  // namespace

void KsymbolLog::add_gone(Ksymbol symbol) {
  gone_.push_back(std::move(symbol));
  if (gone_.size() <= kMostGone) return;
  gone_.pop_front();
  ++dropped_;
}

void KsymbolLog::add(const perf::Record& record, RecordTime time) {
  if (record.type != perf::kKsymbol) return;
  ByteReader r(without_trailer(record));  // u64 addr; u32 len; u16 ksym_type; u16 flags; char name[]
  Ksymbol s;
  s.address = r.u64();
  s.length = r.u32();
  r.skip(2);
  const uint16_t flags = r.u16();
  s.name = r.c_string(kMaxKernelName);
  if (r.failed() || s.length == 0 || s.address + s.length < s.address) return;
  const auto known = there_.find(s.address);
  if (known != there_.end()) {  // it goes; or that it went was lost, and another one comes
    Ksymbol old = std::move(known->second);
    there_.erase(known);
    if (old.name == s.name) s.from = old.from;
    old.to = time;
    if (!(flags & kUnregister) || old.name != s.name) add_gone(std::move(old));
  }
  if (flags & kUnregister) {
    s.to = time;
    return add_gone(std::move(s));
  }
  s.from = time;
  if (there_.size() < kMostThere)
    there_.emplace(s.address, std::move(s));
  else
    ++dropped_;
}

const Ksymbol* KsymbolLog::find(uint64_t address, std::string_view name, RecordTime begin, RecordTime end) const {
  const auto fits = [&](const Ksymbol& s) {
    return s.address == address && s.from <= end && begin <= s.to && s.name.starts_with(name);
  };
  const auto went = std::find_if(gone_.begin(), gone_.end(), fits);
  if (went != gone_.end()) return &*went;
  const auto it = there_.find(address);
  return it != there_.end() && fits(it->second) ? &it->second : nullptr;
}

bool KsymbolLog::changed_since(RecordTime begin, uint64_t address, uint64_t length) const {
  const auto meets = [&](const Ksymbol& s) { return s.address < address + length && address < s.address + s.length; };
  for (const Ksymbol& s : gone_)
    if (meets(s) && s.to >= begin) return true;
  // none of them is longer than 4 GiB
  const uint64_t reach = address > UINT32_MAX ? address - UINT32_MAX : 0;
  for (auto it = there_.lower_bound(reach); it != there_.end() && it->first < address + length; ++it)
    if (meets(it->second) && it->second.from >= begin) return true;
  return false;
}

std::optional<BpfEvent> read_bpf_event(const perf::Record& record) {
  if (record.type != perf::kBpfEvent) return std::nullopt;
  ByteReader r(without_trailer(record));  // u16 type; u16 flags; u32 id; u8 tag[8]
  const uint16_t type = r.u16();
  r.skip(2);
  BpfEvent e;
  e.id = r.u32();
  e.loaded = type == kProgramLoad;
  e.unloaded = type == kProgramUnload;
  if (r.failed()) return std::nullopt;
  return e;
}

}  // namespace hindcast::capture
