// The records that `perf record -z` packed: one zstd stream, in pieces that end anywhere, each inside a COMPRESSED record.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/perf_record.h"
#include "hindcast/result.h"

namespace hindcast::server {

class PackedRecords {
 public:
  using Each = std::function<Result<void>(const perf::Record&)>;

  /// limit: bytes that all pieces together may unpack to, so that no file costs more than it is worth.
  explicit PackedRecords(uint64_t limit);
  ~PackedRecords();
  PackedRecords(PackedRecords&&) noexcept;

  /// Hands out each record that is whole now; borrowed for the call, with `offset` as its place. What is left waits for the
  /// next piece. At most 128 KiB and one record are held. Errors: bad_input, too_large, and what `each` says.
  Result<void> add(ByteSpan piece, uint64_t offset, const Each& each);

  /// A record has begun and not ended.
  bool in_record() const { return used_ != 0; }

 private:
  Result<void> take(uint64_t offset, const Each& each);

  struct Stream;
  std::unique_ptr<Stream> stream_;
  uint64_t limit_, total_ = 0;
  std::vector<uint8_t> bytes_;
  size_t used_ = 0;
};

}  // namespace hindcast::server
