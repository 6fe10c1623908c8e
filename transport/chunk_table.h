// Where a bundle's chunks are: from the index at its end, or by walking from its front when the end is lost.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "hindcast/bundle_format.h"
#include "hindcast/result.h"
#include "transport/bundle_bytes.h"

namespace hindcast::transport {

struct ChunkTable {
  std::vector<bundle::IndexEntry> chunks;  // in file order, index chunks left out; headers have no header_problem()
  bool from_index = false;
  uint64_t walked_to = 0;      // when walked: where the first thing lies that is no whole chunk, or the index
  bool reached_index = false;  // when walked: every chunk is there, only the end of the file is not usable
};

/// Checks the file header, then finds the chunks. Errors: bad_input, version, too_large.
Result<ChunkTable> find_chunks(const BundleBytes& source);

/// The chunks of one stream, image or manifest, in order; offsets have no gaps and no overlaps.
struct Run {
  std::vector<uint32_t> chunks;  // indexes in ChunkTable::chunks
  uint64_t raw_bytes = 0;
};

/// What belongs to one snapshot number. Keys are stream and image ids.
struct SnapshotChunks {
  Run preliminary, manifest;
  std::map<uint32_t, Run> streams, images;
};

/// Groups chunks and checks their order: a snapshot's preliminary manifest, its data, its manifest, then the
/// next snapshot. Chunk types of newer versions are skipped. Errors: corrupt when the chunks contradict each
/// other, too_large.
Result<std::vector<SnapshotChunks>> group_chunks(const ChunkTable& table);

/// Reads one chunk's stored bytes and checks that its header is still the one in the table. Errors: corrupt.
Result<std::vector<uint8_t>> read_stored(const BundleBytes& source, const bundle::IndexEntry& entry);

}  // namespace hindcast::transport
