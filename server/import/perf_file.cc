#include "server/import/perf_file.h"

#include <algorithm>
#include <bit>

namespace hindcast::server {
namespace {

constexpr uint64_t kMaxAttrBytes = 4096;
constexpr size_t kMaxAttrs = 65536;
constexpr size_t kMaxIds = size_t{1} << 22;
constexpr char kOnlyFiles[] = "record it into a file:  perf record -o perf.data -e intel_pt// ...";

Error unsupported(const std::string& why, const std::string& fix) {
  return Error{Errc::unsupported, "cannot import the perf.data file: " + why, {}, fix};
}

std::string where(const perf::Section& s, uint64_t file_bytes) {
  return std::to_string(s.size) + " bytes at " + std::to_string(s.offset) + " of " + std::to_string(file_bytes);
}

Result<ByteSpan> part(ByteSpan file, const perf::Section& s, const char* name) {
  if (s.offset > file.size() || s.size > file.size() - s.offset)
    return bad_perf_file(std::string(name) + " lies outside the file", where(s, file.size()));
  return file.subspan(s.offset, s.size);
}

Result<std::vector<PerfAttr>> read_attrs(ByteSpan file, const perf::FileHeader& h) {
  constexpr uint64_t kLeast = perf::kFirstAttrBytes + sizeof(perf::Section);
  if (h.attr_size < kLeast || h.attr_size > kMaxAttrBytes)
    return bad_perf_file("the size of its attrs is impossible", std::to_string(h.attr_size) + " bytes; " +
                                                                    std::to_string(kLeast) + " to " +
                                                                    std::to_string(kMaxAttrBytes) + " can be");
  HC_TRY(const ByteSpan all, part(file, h.attrs, "the list of attrs"));
  if (all.empty() || all.size() % h.attr_size != 0)
    return bad_perf_file("its attrs do not fill their list",
                         std::to_string(all.size()) + " bytes, " + std::to_string(h.attr_size) + " for each");
  const size_t count = all.size() / h.attr_size;
  if (count > kMaxAttrs) return bad_perf_file("it has too many attrs", std::to_string(count));
  std::vector<PerfAttr> out(count);
  size_t ids = 0;
  for (size_t i = 0; i < count; ++i) {
    const ByteSpan one = all.subspan(i * h.attr_size, h.attr_size);
    const size_t bytes = h.attr_size - sizeof(perf::Section);
    std::memcpy(&out[i].attr, one.data(), std::min(bytes, sizeof out[i].attr));
    perf::Section where_ids{};
    std::memcpy(&where_ids, one.data() + bytes, sizeof where_ids);
    HC_TRY(const ByteSpan list, part(file, where_ids, "a list of event ids"));
    if (list.size() % sizeof(uint64_t) != 0)
      return bad_perf_file("a list of event ids is no whole number of ids", std::to_string(list.size()) + " bytes");
    ids += list.size() / sizeof(uint64_t);
    if (ids > kMaxIds) return bad_perf_file("it has too many event ids", "more than " + std::to_string(kMaxIds));
    out[i].ids.resize(list.size() / sizeof(uint64_t));
    if (!list.empty()) std::memcpy(out[i].ids.data(), list.data(), list.size());
  }
  return out;
}

Result<std::map<uint32_t, ByteSpan>> read_features(ByteSpan file, const perf::FileHeader& h) {
  std::map<uint32_t, ByteSpan> out;
  size_t count = 0;
  for (const uint64_t word : h.features) count += static_cast<size_t>(std::popcount(word));
  HC_TRY(const ByteSpan table,
         part(file, {h.data.offset + h.data.size, count * sizeof(perf::Section)}, "the table of features"));
  ByteReader r(table);
  for (uint32_t bit = 0; bit < perf::kFeatureBits; ++bit) {
    if (!(h.features[bit / 64] >> bit % 64 & 1)) continue;
    const auto section = r.read<perf::Section>();
    HC_TRY(const ByteSpan bytes, part(file, section, ("feature " + std::to_string(bit)).c_str()));
    out.emplace(bit, bytes);
  }
  return out;
}

}  // namespace

Error bad_perf_file(const std::string& why, const std::string& found) {
  return Error{Errc::bad_input, "cannot import the perf.data file: " + why, found,
               "copy the file again, or record anew"};
}

std::string PerfFile::text(uint32_t feature) const {
  const auto it = features.find(feature);
  if (it == features.end()) return {};
  ByteReader r(it->second);
  const size_t length = r.u32();
  const ByteSpan bytes = r.take(std::min(length, r.left()));
  const auto end = std::find(bytes.begin(), bytes.end(), uint8_t{0});
  return {bytes.begin(), end};
}

Result<PerfFile> read_perf_file(ByteSpan file) {
  ByteReader r(file);
  const uint64_t magic = r.u64(), size = r.u64();
  if (magic == perf::kSwappedMagic) return unsupported("a big-endian machine wrote it", "PT is of little-endian ones");
  if (magic == perf::kOldFileMagic) return unsupported("its format is from before Linux 3.2", kOnlyFiles);
  if (r.failed() || magic != perf::kFileMagic) return bad_perf_file("it does not begin with PERFILE2");
  if (size == perf::kPipeHeaderBytes) return unsupported("perf wrote it to a pipe", kOnlyFiles);
  if (size != sizeof(perf::FileHeader) || file.size() < size)
    return bad_perf_file("its header is impossible or cut",
                         std::to_string(size) + " bytes; the file has " + std::to_string(file.size()));
  perf::FileHeader h{};
  std::memcpy(&h, file.data(), sizeof h);
  PerfFile out;
  HC_TRY(out.attrs, read_attrs(file, h));
  if (h.data.size == 0)
    return bad_perf_file("it holds no events", "perf writes their size last: was perf record killed?");
  HC_TRY(out.data, part(file, h.data, "the list of events"));
  HC_TRY(out.features, read_features(file, h));
  if (out.features.contains(perf::kFeatureDirFormat))
    return unsupported("it is part of a folder that perf record --threads wrote", kOnlyFiles);
  return out;
}

}  // namespace hindcast::server
