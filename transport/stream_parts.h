// A bundle's stream or image, of which chunks are unpacked when somebody reads them and dropped when too many are in memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "hindcast/stream_bytes.h"
#include "transport/chunk_codec.h"

namespace hindcast::transport {

class StreamParts;

/// What streams keep in memory that nobody holds, the least recently used part first to go.
class IdleParts {
 public:
  explicit IdleParts(uint64_t most_bytes) : most_(most_bytes) {}

 private:
  friend class StreamParts;
  struct Idle {
    StreamParts* stream;
    size_t part;
  };

  const uint64_t most_;
  std::mutex mutex_;  // of all parts of all its streams
  std::condition_variable came_;
  std::list<Idle> idle_;  // oldest first
  uint64_t bytes_ = 0;
};

/// Cost of hold(): about 1 ms for each MiB that is not there; many are unpacked on all CPUs.
class StreamParts final : public StreamBytes {
 public:
  struct Chunk {
    uint64_t offset = 0;  // each begins where the one before ends, the first one at 0
    uint32_t bytes = 0;
    uint32_t number = 0;  // for Read
  };
  /// Writes the raw bytes of a chunk, as many as it has. Errors: corrupt, io. Called on any thread, several at once.
  using Read = std::function<Result<void>(uint32_t number, ChunkDecoder& decoder, std::span<uint8_t> raw)>;

  /// Errors: too_large when there are no addresses for it.
  static Result<std::shared_ptr<StreamParts>> open(std::vector<Chunk> chunks, Read read,
                                                   std::shared_ptr<IdleParts> idle);
  ~StreamParts() override;

  uint64_t hold(uint64_t from, uint64_t to) override;
  void release(uint64_t from, uint64_t to) override;

  /// Chunks that were held and could not be read. Their bytes are kDamageFill.
  struct Loss {
    uint64_t offset = 0, bytes = 0;
    std::string why;
  };
  std::vector<Loss> losses() const;

  /// Begins no packet.
  static constexpr uint8_t kDamageFill = 0x05;

 private:
  /// As few neighbouring chunks as fill whole pages.
  struct Part {
    uint64_t begin = 0, end = 0;
    size_t first_chunk = 0, chunks = 0;
    enum class State : uint8_t { absent, coming, here } state = State::absent;
    size_t holders = 0;
    std::list<IdleParts::Idle>::iterator idle;  // when it is here and has none
  };

  StreamParts(ByteSpan place, std::vector<Chunk> chunks, Read read, std::shared_ptr<IdleParts> idle);
  size_t part_at(uint64_t offset) const;
  void load(const std::vector<size_t>& wanted);
  void load(Part& part, ChunkDecoder& decoder);
  void drop(Part& part);
  uint8_t* address(uint64_t offset) const { return const_cast<uint8_t*>(bytes().data()) + offset; }

  const std::vector<Chunk> chunks_;
  const Read read_;
  const std::shared_ptr<IdleParts> idle_;
  std::vector<Part> parts_;
  std::vector<Loss> losses_;  // ascending
};

}  // namespace hindcast::transport
