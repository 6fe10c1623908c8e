#include "server/import/perf_packed.h"

#include <zstd.h>

#include <cstring>

#include "hindcast/perf_file.h"
#include "server/import/perf_file.h"

namespace hindcast::server {

namespace {
constexpr size_t kAtOnce = size_t{128} << 10;
}

struct PackedRecords::Stream {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  Stream() { HC_CHECK(context != nullptr); }
  ~Stream() { ZSTD_freeDCtx(context); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

PackedRecords::PackedRecords(uint64_t limit) : stream_(std::make_unique<Stream>()), limit_(limit) {}
PackedRecords::~PackedRecords() = default;
PackedRecords::PackedRecords(PackedRecords&&) noexcept = default;

Result<void> PackedRecords::add(ByteSpan piece, uint64_t offset, const Each& each) {
  ZSTD_inBuffer in{piece.data(), piece.size(), 0};
  for (;;) {
    if (bytes_.size() < used_ + kAtOnce) bytes_.resize(used_ + kAtOnce);
    ZSTD_outBuffer out{bytes_.data() + used_, kAtOnce, 0};
    const size_t before = in.pos;
    const size_t n = ZSTD_decompressStream(stream_->context, &out, &in);
    if (ZSTD_isError(n))
      return bad_perf_file("its compressed records are damaged", std::string(ZSTD_getErrorName(n)) + ", at byte " +
                                                                     std::to_string(offset) + " of the events");
    used_ += out.pos;
    total_ += out.pos;
    if (total_ > limit_)
      return Error{Errc::too_large, "cannot import the perf.data file: its compressed records unpack to too much",
                   "more than " + std::to_string(limit_) + " bytes", "record without -z"};
    HC_TRY_VOID(take(offset, each));
    const bool full = out.pos == kAtOnce;  // there may be more in the decoder
    if (in.pos == in.size && !full) return {};
    if (in.pos == before && out.pos == 0)
      return bad_perf_file("its compressed records are damaged",
                           "at byte " + std::to_string(offset) + " of the events");
  }
}

/// Whole records leave, the rest moves to the front.
Result<void> PackedRecords::take(uint64_t offset, const Each& each) {
  size_t at = 0;
  while (used_ - at >= 8) {
    ByteReader r(ByteSpan(bytes_).subspan(at, used_ - at));
    perf::Record record;
    record.offset = offset;
    record.type = r.u32();
    record.misc = r.u16();
    const uint16_t size = r.u16();
    const std::string place = "in what is packed at byte " + std::to_string(offset) + " of the events";
    if (size < 8) return bad_perf_file("a record has an impossible size", place);
    if (size > used_ - at) break;
    if (record.type >= perf::kFirstToolRecord)
      return bad_perf_file("a record of perf's own is packed among the kernel's",
                           "type " + std::to_string(record.type) + " " + place);
    record.body = r.take(size - 8u);
    HC_TRY_VOID(each(record));
    at += size;
  }
  std::memmove(bytes_.data(), bytes_.data() + at, used_ - at);
  used_ -= at;
  return {};
}

}  // namespace hindcast::server
