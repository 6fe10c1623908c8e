// A page cache in any order, with duplicates, contradictions and unmapped pages, against the plainest model of it.
#include <map>
#include <optional>

#include "server/import/raw_pt.h"
#include "tests/fuzz/fuzz_support.h"
#include "transport/snapshot_rules.h"

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Four bytes a page: number (signed, so that both ends of the address space occur), low bits, contents.
  std::vector<uint8_t> addresses, pages;
  std::map<uint64_t, std::optional<uint8_t>> model;  // nothing: contradictory
  for (size_t i = 0; i + 4 <= size && i < 4 * 64; i += 4) {
    const auto number = static_cast<int64_t>(static_cast<int16_t>(data[i] | (data[i + 1] & 1) << 15));
    const uint64_t address = static_cast<uint64_t>(number) * 4096 + (data[i + 2] == 1 ? 1 : 0);
    const uint8_t fill = data[i + 3] & 3;
    ByteWriter(addresses).u64(address);
    pages.insert(pages.end(), 4096, fill);
    if (address % 4096) continue;
    const auto [it, fresh] = model.emplace(address, fill);
    if (!fresh && it->second != fill) it->second = std::nullopt;
  }
  if (size % 4 == 3) pages.resize(pages.size() / 2 + 1);

  Imported out;
  const auto r = add_page_cache(addresses, pages, out);
  size_t usable = 0;
  for (const auto& [address, fill] : model) usable += fill.has_value();
  if (size % 4 == 3 || usable == 0) {
    MUST(!r.ok());
    return 0;
  }
  MUST(r.ok() && transport::broken_rules(out.info).empty());
  MUST(out.images.size() == 1 && out.images[0].size() == usable * 4096);
  size_t placed = 0;
  for (size_t i = 0; i < out.info.placements.size(); ++i) {
    const PlacementInfo& p = out.info.placements[i];
    // Sorted, and two runs are never adjacent: else they would be one.
    if (i) MUST(out.info.placements[i - 1].address + out.info.placements[i - 1].length < p.address);
    for (uint64_t at = 0; at < p.length; at += 4096) {
      const auto it = model.find(p.address + at);
      MUST(it != model.end() && it->second && *it->second == out.images[0][p.image_offset + at + 4095]);
      ++placed;
    }
  }
  MUST(placed == usable);
  return 0;
}
