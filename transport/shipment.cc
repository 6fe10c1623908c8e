// Orders chunks by what a reader needs first.
#include "transport/shipment.h"

#include <algorithm>

namespace hindcast::transport {
namespace {

Priority natural_priority(const bundle::ChunkHeader& h, const std::set<uint32_t>& pt_streams) {
  switch (static_cast<bundle::ChunkType>(h.type)) {
    case bundle::ChunkType::stream:
      return pt_streams.contains(h.id) ? Priority::pt : Priority::sideband;
    case bundle::ChunkType::image:
      return Priority::image;
    default:
      return Priority::map;
  }
}

}  // namespace

Shipment::Shipment(SpooledSnapshot snapshot) : snapshot_(std::move(snapshot)) {
  std::set<uint32_t> pt_streams;
  for (const SpoolMaps::Stream& s : snapshot_.maps.streams) pt_streams.insert(s.id);
  const auto& chunks = snapshot_.directory.chunks;
  priority_.reserve(chunks.size());
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    priority_.push_back(natural_priority(chunks[i].header, pt_streams));
    unsent_.insert({priority_[i], i});
  }
}

uint64_t Shipment::skip(uint64_t first, uint64_t count) {
  const uint64_t n = priority_.size();
  uint64_t skipped = 0;
  for (uint64_t i = first; i < n && i - first < count; ++i)
    skipped += unsent_.erase({priority_[i], static_cast<uint32_t>(i)});
  return skipped;
}

void Shipment::want(uint32_t stream, uint32_t image, uint64_t offset, uint64_t bytes) {
  const auto type = static_cast<uint8_t>(stream != 0 ? bundle::ChunkType::stream : bundle::ChunkType::image);
  const uint64_t end = bytes == 0 || bytes > UINT64_MAX - offset ? UINT64_MAX : offset + bytes;
  const auto& chunks = snapshot_.directory.chunks;
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    const bundle::ChunkHeader& h = chunks[i].header;
    if (h.type != type || h.id != (stream != 0 ? stream : image) || h.offset >= end || h.offset + h.raw_bytes <= offset)
      continue;
    if (priority_[i] <= Priority::wanted || unsent_.erase({priority_[i], i}) == 0) continue;
    priority_[i] = Priority::wanted;
    unsent_.insert({Priority::wanted, i});
  }
}

}  // namespace hindcast::transport
