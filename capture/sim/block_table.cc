#include "capture/sim/block_table.h"

#include <sys/stat.h>

#include "capture/sim/channel.h"

namespace hindcast::sim {
namespace {

Error bad(const std::string& what) {
  return Error{Errc::bad_input, "cannot read the simulator's block definitions: " + what, {}, {}};
}

}  // namespace

Result<BlockTable> BlockTable::open(const Fd& defs, const BlockTable* parent) {
  struct stat st {};
  if (::fstat(defs.get(), &st) != 0) return errno_error("cannot stat", "the simulator's block definitions");
  if (st.st_size < kPageBytes || static_cast<uint64_t>(st.st_size) > kDefsBytes + kPageBytes)
    return bad("their memory is " + std::to_string(st.st_size) + " bytes");
  HC_TRY(Mapping map, Mapping::map(defs, static_cast<size_t>(st.st_size), PROT_READ, MAP_SHARED));
  const auto* header = reinterpret_cast<const DefsHeader*>(map.bytes().data());
  if (header->magic != kChannelMagic || header->version != kChannelVersion)
    return Error{Errc::version,
                 "cannot read the simulator's block definitions: the plugin is of another version",
                 {},
                 "install the plugin that belongs to this program"};
  const uint32_t first = header->first_id;
  if (first > kMaxBlocks || first > (parent ? parent->size() : 0)) return bad("they go on from unknown ones");
  BlockTable table;
  if (first > 0) {
    table.blocks_.assign(parent->blocks_.begin(), parent->blocks_.begin() + first);
    table.memory_ = parent->memory_;
  }
  table.memory_.push_back(std::make_shared<const Mapping>(std::move(map)));
  return table;
}

Result<void> BlockTable::refresh() {
  if (memory_.empty()) return {};
  const ByteSpan all = memory_.back()->bytes();
  const auto* header = reinterpret_cast<const DefsHeader*>(all.data());
  const uint64_t used = header->used.load(std::memory_order_acquire);
  const ByteSpan entries = all.subspan(kPageBytes);
  if (used > entries.size()) return bad("more is used than there is");
  while (parsed_ < used) {
    ByteReader r(entries.subspan(parsed_, used - parsed_));
    const auto def = r.read<BlockDef>();
    const ByteSpan code = r.take(def.bytes);
    const ByteSpan lengths = r.take(def.instructions);
    if (r.failed()) return bad("an entry is cut short");
    if (def.id >= kMaxBlocks)
      return Error{Errc::too_large, "the simulated program has too many blocks of code", {}, {}};
    // Copied out: the other side may change what it shares at any time.
    uint64_t sum = 0, last = 0;
    for (uint8_t n : lengths) sum += last = n;
    if (def.instructions == 0 || sum != def.bytes || last == 0 || last > 15) return bad("lengths and bytes disagree");
    const TerminatorInfo end = classify_terminator(def.ip + def.bytes - last, code.subspan(def.bytes - last));
    BlockInfo info;
    info.ip = def.ip;
    info.target = end.target;
    info.lengths = lengths.data();
    info.bytes = def.bytes;
    info.instructions = def.instructions;
    info.kind = end.kind;
    add(def.id, info);
    parsed_ += (sizeof(BlockDef) + def.bytes + def.instructions + 7) / 8 * 8;
  }
  return {};
}

void BlockTable::add(uint32_t id, const BlockInfo& info) {
  if (id >= blocks_.size()) blocks_.resize(id + 1);
  if (blocks_[id].instructions == 0) blocks_[id] = info;
}

}  // namespace hindcast::sim
