// The code of a snapshot as files that perf can find: an ELF file for each image, by build-id.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/bytes.h"
#include "server/query.h"

namespace hindcast::server::views {

using BuildId = std::array<uint8_t, 20>;

/// Names images for mmap records and remembers which ones a recording needs. perf looks for code by build-id first, so
/// every image gets one: its own, or one made of its content. Memory copies become small ELF files.
class CodeFiles {
 public:
  /// query and info are borrowed for the object's life.
  CodeFiles(Query& query, size_t snapshot, const SnapshotInfo& info)
      : query_(query), snapshot_(snapshot), info_(info) {}

  /// The ELF image that a mapping of this file runs: by build-id when the record has one, else by path when only one image
  /// has that path; nullptr when there is none. The rule of decoding.
  const ImageInfo* find(std::string_view path, ByteSpan build_id) const;
  const ImageInfo* find(uint32_t id) const;

  /// Under which build-id the image will be found; it is then part of what write() writes. `recorded`: the one that the
  /// mapping's record has, or empty.
  Result<BuildId> use(const ImageInfo& image, ByteSpan recorded);
  /// What a mapping of the image is called: its path; for memory "/hindcast/memory-ID".
  static std::string path_of(const ImageInfo& image);
  /// Where the image's byte `offset` lies in the file written.
  static uint64_t file_offset(const ImageInfo& image, uint64_t offset);

  /// Writes FOLDER/.build-id/xx/yyy/elf for each image used: the layout of perf's build-id cache.
  Result<void> write(const std::string& folder) const;

  struct Used {
    const ImageInfo* image = nullptr;
    BuildId build_id{};
  };
  const std::map<std::string, Used>& used() const { return used_; }  // by build-id, hex

 private:
  Query& query_;
  const size_t snapshot_;
  const SnapshotInfo& info_;
  std::map<uint32_t, BuildId> own_;  // by image
  std::map<std::string, Used> used_;
};

std::string hex_of(ByteSpan bytes);

}  // namespace hindcast::server::views
