// The decoder's contract: trace bytes and an image in, events out. Pure: no socket, no clock, no file it was
// not handed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/event.h"
#include "hindcast/pt_config.h"
#include "hindcast/result.h"
#include "hindcast/stream_bytes.h"

namespace hindcast {

/// Bytes together with whoever keeps them alive (a vector, a file mapping, a cache entry).
struct SharedBytes {
  std::shared_ptr<const void> owner;
  ByteSpan bytes;
  /// Where bytes are missing, ascending: from each hole on they are a filling that means nothing (of unknown length), or,
  /// at bytes.size(), more followed that is lost.
  std::vector<uint64_t> holes = {};
};

/// A stream that is in memory as a whole.
class WholeStream final : public StreamBytes {
 public:
  explicit WholeStream(SharedBytes bytes)
      : StreamBytes(bytes.bytes, std::move(bytes.holes)), owner_(std::move(bytes.owner)) {}
  uint64_t hold(uint64_t, uint64_t to) override { return to; }
  void release(uint64_t, uint64_t) override {}

 private:
  std::shared_ptr<const void> owner_;
};

/// Hands out a snapshot's bytes by id: a bundle, an import, or vectors in a test. Keeping bytes cached is up
/// to the implementation; what it returned stays valid for as long as the caller holds the owner. One thread
/// of the caller.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// All bytes of the stream / image with this id. Errors: not_found, corrupt, io.
  virtual Result<SharedBytes> stream(uint32_t id) = 0;
  virtual Result<SharedBytes> image(uint32_t id) = 0;
  /// A stream of which a part is in memory when it is held. May borrow from the source. Errors: as stream().
  virtual Result<std::shared_ptr<StreamBytes>> stream_in_parts(uint32_t id) {
    HC_TRY(SharedBytes bytes, stream(id));
    return std::shared_ptr<StreamBytes>(std::make_shared<WholeStream>(std::move(bytes)));
  }
  /// The same of an image.
  virtual Result<std::shared_ptr<StreamBytes>> image_in_parts(uint32_t id) {
    HC_TRY(SharedBytes bytes, image(id));
    return std::shared_ptr<StreamBytes>(std::make_shared<WholeStream>(std::move(bytes)));
  }

  /// What was found out about a stream at an earlier time, as it was given to keep(); nothing when nothing was kept. Any
  /// thread may call this and keep().
  virtual std::optional<std::vector<uint8_t>> kept(uint32_t) { return std::nullopt; }
  /// Keeps what `make` gives, or does not: who asks must be able to find it out anew.
  virtual void keep(uint32_t, const std::function<std::vector<uint8_t>()>&) {}
};

/// A run of code bytes at an address. Sections with equal `content` hold the same backing bytes, of which this is the part
/// that starts at `content_offset`: a decoder may keep what it learned about them.
struct CodeSection {
  Ip address;
  uint64_t size = 0;     // bytes; some may be unknown all the same
  uint64_t content = 0;  // > 0 and unique per backing bytes within one HostTrace; 0: not shareable
  uint64_t content_offset = 0;

  bool operator==(const CodeSection&) const = default;
};

/// Code bytes of one address space at one time. Implementations are immutable once handed to a decoder.
class CodeImage {
 public:
  virtual ~CodeImage() = default;
  /// Where read() may find bytes, as whole sections in ascending order, not overlapping. Empty when the implementation does
  /// not tell.
  virtual std::span<const CodeSection> sections() const { return {}; }
  /// Copies up to out.size() bytes of code from ip on; returns how many are known there (0: none). May stop
  /// short at the end of a mapping: callers ask again from where it stopped.
  virtual size_t read(Ip ip, std::span<uint8_t> out) const = 0;
  /// There was code, but it may have been written while it ran: read() gives no bytes there.
  virtual bool version_unknown(Ip) const { return false; }
};

/// Tells the decoder whose code runs, whenever tracing turns on.
class ImageSelector {
 public:
  virtual ~ImageSelector() = default;
  /// Called with the offset (in the trace) of the packet that turned tracing on (TIP.PGE, a PSB+'s FUP, or an
  /// OVF's FUP). nullptr: nobody knows, so the stretch is a gap `unattributed`. Returning the same object for
  /// the same code saves work.
  virtual std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip ip) = 0;
};

enum class Resync : uint8_t {
  psb,       // after an error continue at the next PSB: what every reader of PT does
  earliest,  // continue at the earliest packet from which the path is certain again
};

/// Which decoder; all give the same flow.
enum class Engine : uint8_t {
  fast,    // our own
  libipt,  // the reference
};

struct DecodeConfig {
  PtCpu cpu;
  PtOptions options;
  Resync resync = Resync::earliest;
};

/// Rebuilds what one CPU executed from one stretch of its trace, pulled a batch at a time.
/// Lost or damaged trace is not an error: it arrives as an Event of kind gap and work resumes. Events come in
/// trace order; their time intervals' bounds never decrease. One object per thread of the caller; the trace
/// is borrowed for the object's life.
class FlowDecoder {
 public:
  virtual ~FlowDecoder() = default;
  /// Fills out from the front; returns how many events were written, 0 only at the end of the trace.
  virtual size_t next(std::span<Event> out) = 0;
  /// Continues at the last PSB at or before offset (or the first one). Events before it are skipped, not
  /// decoded.
  virtual void seek(uint64_t offset) = 0;
};

}  // namespace hindcast
