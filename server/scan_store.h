// What scans of streams found, in a folder: the next time that a stream with the same bytes is opened, it is read from there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::server {

/// Any number of threads and processes may use one folder. Nothing here fails: what is not there is made anew.
class ScanStore {
 public:
  /// The folder is made when the first scan is written.
  ScanStore(std::string folder, uint64_t most_bytes) : folder_(std::move(folder)), most_(most_bytes) {}

  /// key: letters and digits. most: of its bytes.
  std::optional<std::vector<uint8_t>> read(const std::string& key, uint64_t most) const;
  /// Those that were not read for the longest time go, until all together take no more than most_bytes.
  void write(const std::string& key, ByteSpan scan) const;

 private:
  std::string path_of(const std::string& key) const { return folder_ + "/" + key + kSuffix; }
  void make_room() const;

  static constexpr char kSuffix[] = ".scan";
  std::string folder_;
  uint64_t most_;
};

}  // namespace hindcast::server
