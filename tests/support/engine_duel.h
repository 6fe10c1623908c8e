// Both engines over one stream and its code, with nothing of a host around them: as cheap as that can be.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "decode/engine_compare.h"
#include "decode/fast/fast_engine.h"
#include "decode/libipt_engine.h"

namespace hindcast::test {

/// What decoders of the same code share.
struct DuelWorld {
  std::shared_ptr<decode::IptCode> code = std::make_shared<decode::IptCode>();
  decode::BlockGraphs graphs{0};  // runs are taken at once
  decode::EngineCounts counts;
};

struct Duel {
  std::vector<uint8_t> bytes;
  DecodeConfig config;
  std::vector<uint64_t> cuts, holes;
  /// Each stretch runs in one of them, by where it begins; nullptr: nobody knows its code.
  std::vector<std::shared_ptr<const CodeImage>> images;
};

struct DuelResult {
  decode::EngineComparison compared;
  /// What an event must not be: bounds of time that decrease, a block of nothing, a place outside of the stream. Empty when
  /// all are well.
  std::string malformed;

  bool bad() const { return compared.different != 0 || !malformed.empty(); }
};

/// All that one engine tells.
std::vector<decode::FlowEvent> events_of(const Duel& duel, Engine engine, DuelWorld& world);

/// told: called with each event of the fast engine; may be empty.
DuelResult fight(const Duel& duel, DuelWorld& world, const std::function<void(const Event&)>& told = {});

/// The difference, what each engine tells, the configuration and the bytes, as text.
std::string report(const Duel& duel, const DuelResult& result, DuelWorld& world);

/// A smaller stream that still makes them differ: packets are left out as long as they do.
Duel smallest(Duel duel);

}  // namespace hindcast::test
