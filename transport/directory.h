// Every chunk of a bundle file with its place, those of the index included: what a file is rebuilt from elsewhere.
#pragma once

#include <vector>

#include "hindcast/bundle_format.h"
#include "hindcast/result.h"
#include "transport/bundle_bytes.h"
#include "transport/digest.h"

namespace hindcast::transport {

/// Directories of more chunks are not shipped: 512 Ki chunks of 256 KiB are 128 GiB, and their directory 28 MiB.
inline constexpr uint32_t kMaxShippedChunks = uint32_t{512} << 10;

struct Directory {
  bundle::FileHeader header{};
  std::vector<bundle::IndexEntry> chunks;  // in file order
  bundle::Trailer trailer{};

  /// Names the exact content: chunk headers hold the checksums of what follows them.
  Digest digest() const;
};

/// Of a whole bundle with one snapshot. Errors: as find_chunks; corrupt when the file lacks its end; too_large.
Result<Directory> read_directory(const BundleBytes& source);

/// What a directory from outside breaks; empty when it could be a bundle's: one snapshot, chunks one after the other
/// from the file header to the trailer, sizes within limits, no header_problem(). Says nothing about their bytes.
std::string directory_problem(const Directory& directory);

}  // namespace hindcast::transport
