#include "server/scan_store.h"

#include <algorithm>
#include <filesystem>

#include "transport/packed_file.h"

namespace hindcast::server {

namespace fs = std::filesystem;

std::optional<std::vector<uint8_t>> ScanStore::read(const std::string& key, uint64_t most) const {
  const std::string path = path_of(key);
  auto scan = transport::read_packed(path, most);
  std::error_code ignored;
  if (!scan.ok()) {
    if (scan.error().code != Errc::not_found) fs::remove(path, ignored);
    return std::nullopt;
  }
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
  return std::move(scan).value();
}

void ScanStore::write(const std::string& key, ByteSpan scan) const {
  if (scan.size() > most_) return;
  std::error_code error;
  if (!fs::exists(folder_, error)) {
    fs::create_directories(folder_, error);
    fs::permissions(folder_, fs::perms::owner_all, error);
  }
  if (transport::write_packed(path_of(key), scan).ok()) make_room();
}

void ScanStore::make_room() const {
  struct File {
    fs::path path;
    fs::file_time_type used;
    uint64_t bytes;
  };
  std::vector<File> files;
  uint64_t all = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
    if (entry.path().extension() != kSuffix) continue;
    File file{entry.path(), entry.last_write_time(error), 0};
    if (error) continue;
    file.bytes = entry.file_size(error);
    if (error) continue;
    all += file.bytes;
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.used < b.used; });
  for (const File& file : files) {
    if (all <= most_) return;
    if (fs::remove(file.path, error)) all -= file.bytes;
  }
}

}  // namespace hindcast::server
