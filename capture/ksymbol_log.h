// What KSYMBOL records tell of code that the kernel makes at run time: what stood where, from when to when.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "hindcast/perf_record.h"

namespace hindcast::capture {

struct Ksymbol {
  uint64_t address = 0;
  uint32_t length = 0;
  std::string name;
  RecordTime from{0};  // its registration; 0: before the first record
  RecordTime to = RecordTime::max();
};

/// Grows with the symbols that are there, and by the newest kMostGone of those that were.
class KsymbolLog {
 public:
  static constexpr size_t kMostThere = 65536, kMostGone = 8192;

  /// A record of kOurSampleType; others than KSYMBOL, and malformed ones, change nothing. In order of time.
  void add(const perf::Record& record, RecordTime time);

  /// The first symbol at this address whose name begins so, and which was there at some time of [begin, end]; null: no record
  /// tells of one. Valid until the next add().
  const Ksymbol* find(uint64_t address, std::string_view name, RecordTime begin, RecordTime end) const;
  /// A record since then says that something came to [address, address + length), or went.
  bool changed_since(RecordTime begin, uint64_t address, uint64_t length) const;
  /// Every symbol whose code is there, by address.
  const std::map<uint64_t, Ksymbol>& there() const { return there_; }
  /// Those that went, oldest first.
  const std::deque<Ksymbol>& gone() const { return gone_; }
  /// How many symbols were forgotten or not remembered.
  uint64_t dropped() const { return dropped_; }

 private:
  void add_gone(Ksymbol symbol);

  std::map<uint64_t, Ksymbol> there_;
  std::deque<Ksymbol> gone_;
  uint64_t dropped_ = 0;
};

/// Of a BPF_EVENT record.
struct BpfEvent {
  uint32_t id = 0;
  bool loaded = false, unloaded = false;
};
std::optional<BpfEvent> read_bpf_event(const perf::Record& record);

}  // namespace hindcast::capture
