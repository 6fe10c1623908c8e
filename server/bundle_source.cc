#include "server/bundle_source.h"

#include <algorithm>

#include "hindcast/bundle_format.h"

namespace hindcast::server {
namespace {

SharedBytes share(std::shared_ptr<const std::vector<uint8_t>> bytes) {
  const ByteSpan span(*bytes);
  return {std::move(bytes), span};
}

}  // namespace

Result<SharedBytes> BundleSource::stream(uint32_t id) {
  const auto shared = [](std::shared_ptr<const Stream> s) {
    SharedBytes out{s, s->bytes, s->holes};
    return out;
  };
  if (auto kept = streams_[id].lock()) return shared(std::move(kept));
  Stream stream;
  auto read = reader_.read_stream(snapshot_, id);
  if (read.ok()) {
    stream.bytes = std::move(read).value();
  } else if (read.error().code == Errc::corrupt) {
    HC_TRY(stream, read_damaged(id, read.error()));
  } else {
    return std::move(read).error();
  }
  for (const transport::BundleReader::Damage& d : reader_.damage())
    if (d.snapshot == snapshot_ && d.stream == id && d.offset == stream.bytes.size()) stream.holes.push_back(d.offset);
  const auto kept = std::make_shared<const Stream>(std::move(stream));
  streams_[id] = kept;
  return shared(kept);
}

Result<std::shared_ptr<StreamBytes>> BundleSource::stream_in_parts(uint32_t id) {
  // What is known to be damaged is found out about at once, and whole.
  const auto is_its = [&](const auto& d) { return d.snapshot == snapshot_ && d.stream == id; };
  if (std::any_of(reader_.damage().begin(), reader_.damage().end(), is_its)) return ByteSource::stream_in_parts(id);
  return in_parts(id, parts_, &transport::BundleReader::stream_in_parts);
}

Result<std::shared_ptr<StreamBytes>> BundleSource::image_in_parts(uint32_t id) {
  return in_parts(id, image_parts_, &transport::BundleReader::image_in_parts);
}

/// Opened once for all who have it at the same time.
Result<std::shared_ptr<StreamBytes>> BundleSource::in_parts(uint32_t id, PartsById& all, OpenParts open) {
  std::shared_ptr<transport::StreamParts> parts = all[id].lock();
  if (!parts) {
    HC_TRY(parts, (reader_.*open)(snapshot_, id));
    all[id] = parts;
  }
  return std::shared_ptr<StreamBytes>(std::move(parts));
}

std::optional<std::string> BundleSource::scan_key(uint32_t id) const {
  if (!scans_) return std::nullopt;
  for (const StreamInfo& s : reader_.snapshot(snapshot_).streams)
    if (s.id == id && s.bytes < kFewestToKeep) return std::nullopt;
  auto key = reader_.content_key(snapshot_, id);
  if (!key.ok()) return std::nullopt;
  return std::move(key).value();
}

std::optional<std::vector<uint8_t>> BundleSource::kept(uint32_t id) {
  const auto key = scan_key(id);
  return key ? scans_->read(*key, bundle::kMaxReadBytes) : std::nullopt;
}

void BundleSource::keep(uint32_t id, const std::function<std::vector<uint8_t>()>& make) {
  if (const auto key = scan_key(id)) scans_->write(*key, make());
}

std::vector<transport::BundleReader::Damage> BundleSource::damage() const {
  std::vector<transport::BundleReader::Damage> all = damage_;
  const auto add = [&](const std::string& name, uint32_t stream, uint32_t image, const auto& weak) {
    const std::shared_ptr<transport::StreamParts> parts = weak.lock();
    if (!parts) return;
    for (const auto& loss : parts->losses()) {
      const auto same = [&](const auto& d) {
        return d.stream == stream && d.image == image && d.offset == loss.offset;
      };
      if (std::any_of(all.begin(), all.end(), same)) continue;
      const std::string where =
          name + ": bytes " + std::to_string(loss.offset) + " to " + std::to_string(loss.offset + loss.bytes) + ": ";
      all.push_back({where + loss.why, stream, loss.offset, loss.bytes, snapshot_, image});
    }
  };
  for (const auto& [id, parts] : parts_) add("stream " + std::to_string(id), id, 0, parts);
  for (const auto& [id, parts] : image_parts_) add("image " + std::to_string(id), 0, id, parts);
  return all;
}

Result<SharedBytes> BundleSource::image(uint32_t id) {
  auto read = reader_.read_image(snapshot_, id);
  if (!read.ok()) {
    if (read.error().code == Errc::corrupt) note({read.error().what, 0, 0, 0, snapshot_, id});
    return std::move(read).error();
  }
  return share(std::make_shared<const Bytes>(std::move(read).value()));
}

Result<BundleSource::Stream> BundleSource::read_damaged(uint32_t id, const Error& why) {
  const auto& streams = reader_.snapshot(snapshot_).streams;
  const auto info = std::find_if(streams.begin(), streams.end(), [&](const StreamInfo& s) { return s.id == id; });
  if (info == streams.end()) return why;
  HC_TRY(const auto salvage, reader_.salvage_stream(snapshot_, id));
  for (const auto& d : salvage.damage) note(d);
  Stream out;
  for (const auto& piece : salvage.pieces) {
    if (piece.offset > info->bytes || piece.bytes.size() > info->bytes - piece.offset) return why;
    if (piece.offset != out.bytes.size()) {
      out.holes.push_back(out.bytes.size());
      if (info->kind != StreamKind::pt) return out;
      out.bytes.resize(static_cast<size_t>(piece.offset), kDamageFill);
    }
    out.bytes.insert(out.bytes.end(), piece.bytes.begin(), piece.bytes.end());
  }
  if (out.bytes.size() < info->bytes) {
    out.holes.push_back(out.bytes.size());
    if (info->kind == StreamKind::pt) out.bytes.resize(static_cast<size_t>(info->bytes), kDamageFill);
  }
  return out;
}

void BundleSource::note(const transport::BundleReader::Damage& damage) {
  const auto same = [&](const auto& d) { return d.what == damage.what; };
  if (std::none_of(reader_.damage().begin(), reader_.damage().end(), same) &&
      std::none_of(damage_.begin(), damage_.end(), same))
    damage_.push_back(damage);
}

}  // namespace hindcast::server
