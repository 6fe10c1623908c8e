// Files that an importer may read. Names that come out of a trace can only reach files inside one folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::server {

inline constexpr uint64_t kMaxInputFileBytes = uint64_t{4} << 30;
inline constexpr uint64_t kMaxJsonBytes = uint64_t{16} << 20;
inline constexpr uint64_t kMaxElfBytes = uint64_t{1} << 30;
inline constexpr size_t kMaxFolderEntries = 100000;

/// A whole regular file (never a device, a pipe or a folder). Errors: not_found, permission, bad_input, too_large, io.
Result<std::vector<uint8_t>> read_input_file(const std::string& path, uint64_t limit = kMaxInputFileBytes);

/// One folder of untrusted names. Virtual so that tests and fuzzers need no disk.
class InputFolder {
 public:
  virtual ~InputFolder() = default;
  /// `name` is relative to the folder. Errors: bad_input when it is absolute, has a ".." part or a NUL, or leads outside by
  /// a symbolic link; else as read_input_file.
  virtual Result<std::vector<uint8_t>> read(const std::string& name, uint64_t limit) const = 0;
};

class DiskFolder : public InputFolder {
 public:
  explicit DiskFolder(std::string path) : path_(std::move(path)) {}
  Result<std::vector<uint8_t>> read(const std::string& name, uint64_t limit) const override;
  /// Names of the regular files in it, sorted. Errors: as opendir; too_large.
  Result<std::vector<std::string>> list() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// nullptr, or why a name from a trace cannot be a file of its folder: every InputFolder asks this first.
const char* unsafe_name(const std::string& name);

/// A name from a trace for an error text: printable and not too long.
std::string shown(const std::string& name);

}  // namespace hindcast::server
