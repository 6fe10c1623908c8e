// Page cache and ELF files into images and placements.
#include "server/import/raw_pt.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "server/import/elf_placement.h"
#include "server/import/input_files.h"

namespace hindcast::server {
namespace {

constexpr size_t kPage = 4096;

std::string hex(uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
  return text;
}

}  // namespace

Result<void> add_page_cache(ByteSpan addresses, ByteSpan pages, Imported& out) {
  const size_t count = addresses.size() / sizeof(uint64_t);
  if (addresses.size() % sizeof(uint64_t) != 0 || pages.size() / kPage != count || pages.size() % kPage != 0)
    return Error{Errc::bad_input, "cannot import the page cache: its two files do not fit together",
                 std::to_string(addresses.size()) + " bytes of addresses (8 each) and " + std::to_string(pages.size()) +
                     " bytes of pages (4096 each)",
                 "check that both come from the same run and are whole"};
  struct Page {
    uint64_t address;
    const uint8_t* bytes;
  };
  std::vector<Page> list;
  for (size_t i = 0; i < count; ++i) {
    uint64_t address;
    std::memcpy(&address, addresses.data() + i * sizeof address, sizeof address);
    if (address % kPage == 0) list.push_back({address, pages.data() + i * kPage});
  }
  const size_t unmapped = count - list.size();
  std::stable_sort(list.begin(), list.end(), [](const Page& a, const Page& b) { return a.address < b.address; });

  std::vector<uint8_t> image;
  std::vector<PlacementInfo> placements;
  size_t conflicts = 0;
  std::string conflict_list;
  for (size_t i = 0; i < list.size();) {
    size_t end = i + 1;
    bool same = true;
    for (; end < list.size() && list[end].address == list[i].address; ++end)
      same = same && std::memcmp(list[i].bytes, list[end].bytes, kPage) == 0;
    if (same) {
      const uint64_t at = list[i].address;
      if (placements.empty() || placements.back().address + placements.back().length != at) {
        PlacementInfo p;
        p.address = at;
        p.image_offset = image.size();
        placements.push_back(p);
      }
      placements.back().length += kPage;
      image.insert(image.end(), list[i].bytes, list[i].bytes + kPage);
    } else if (conflicts++ < 8) {
      conflict_list += " " + hex(list[i].address);
    }
    i = end;
  }
  if (conflicts)
    out.info.notes.push_back(std::to_string(conflicts) +
                             " page(s) are in the page cache with different bytes and were left out:" + conflict_list +
                             (conflicts > 8 ? " ..." : ""));
  if (unmapped)
    out.info.notes.push_back(std::to_string(unmapped) + " page(s) were not mapped when the page cache was made");
  if (image.empty())
    return Error{Errc::bad_input,
                 "cannot import the page cache: it holds no usable page",
                 std::to_string(unmapped) + " unmapped, " + std::to_string(conflicts) + " contradictory",
                 {}};
  const uint32_t id = out.add_image(ImageKind::memory, "page_cache", {}, std::move(image));
  for (PlacementInfo& p : placements) {
    p.image = id;
    out.info.placements.push_back(p);
  }
  return {};
}

Result<void> add_elf(const ElfInput& input, std::vector<uint8_t> bytes, bool by_records, Imported& out) {
  const auto named = [&](Error e) {
    e.what = "cannot use " + shown(input.path) + ": " + e.what;
    return e;
  };
  auto layout = read_elf_layout(bytes);
  if (!layout.ok()) return named(std::move(layout).error());
  const bool records_place_it = by_records && !input.load_address;
  if (layout->position_independent && !input.load_address && !by_records)
    return named(Error{Errc::usage, "nothing says where it was loaded", "its type is DYN: it runs at any address",
                       "give its load address: " + shown(input.path) + "@0x..."});
  auto placed = place_elf(*layout, input.load_address);
  if (!placed.ok()) return named(std::move(placed).error());
  const std::string path = input.mapped_as.empty() ? input.path : input.mapped_as;
  const uint32_t id = out.add_image(ImageKind::elf, path, layout->build_id, std::move(bytes));
  if (records_place_it) return {};
  for (PlacementInfo& p : *placed) {
    p.image = id;
    out.info.placements.push_back(p);
  }
  return {};
}

}  // namespace hindcast::server
