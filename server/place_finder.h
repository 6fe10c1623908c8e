// Addresses of one host's processes to names: which file is mapped there, which function, which source line.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "decode/host_trace.h"
#include "decode/kallsyms.h"
#include "decode/symbols.h"
#include "server/query.h"

namespace hindcast::server {

/// Separate debug files are looked for by build-id in debug_dirs (DIR/.build-id/xx/rest.debug) and by .gnu_debuglink
/// (DIR/path-of-image/link, DIR/link). Symbols are read when first needed and kept; at most kMaxPlaces places are kept.
/// Not thread-safe.
class PlaceFinder {
 public:
  /// All three are borrowed for the object's life.
  PlaceFinder(const decode::HostTrace& trace, ByteSource& source, const std::vector<std::string>& debug_dirs)
      : trace_(trace), source_(source), debug_dirs_(debug_dirs) {}

  /// Never null.
  std::shared_ptr<const Place> find(Pid pid, Interval<RecordTime> time, Ip ip);

 private:
  static constexpr size_t kMaxPlaces = size_t{1} << 18;
  struct Key {
    uint32_t image;
    uint64_t offset, ip;
    Pid pid;  // kNoPid: the same in every process
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const {
      return (k.ip ^ (k.offset << 20) ^ (uint64_t{k.image} << 52)) * 0x9e3779b97f4a7c15u;
    }
  };

  void name_by_process(Place& place, Pid pid, const std::optional<decode::CodeLocation>& where) const;
  ImageKind kind_of(uint32_t image) const;
  decode::ElfSymbols* symbols_of(uint32_t image);
  const decode::Kallsyms& kernel_names();
  void name_kernel_code(Place& place, const decode::CodeLocation* where);
  void add_debug_file(decode::ElfSymbols& symbols, const std::string& image_path);

  const decode::HostTrace& trace_;
  ByteSource& source_;
  const std::vector<std::string>& debug_dirs_;
  std::map<uint32_t, std::unique_ptr<decode::ElfSymbols>> symbols_;  // null: not an ELF file, or unreadable
  std::optional<decode::Kallsyms> kernel_names_;                     // read when first needed
  std::unordered_map<Key, std::shared_ptr<const Place>, KeyHash> places_;
};

}  // namespace hindcast::server
