// What an importer makes: a snapshot in memory, ready to be written.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "hindcast/cut.h"
#include "hindcast/result.h"

namespace hindcast::server {

struct Imported {
  SnapshotInfo info;  // info.streams and info.images are in the order of the bytes below
  std::vector<std::vector<uint8_t>> streams, images;
  bool options_known = false;  // the trace says how it was made; else info.pt is to be guessed from its packets

  /// Numbers the stream and takes its bytes; returns its id.
  uint32_t add_stream(StreamInfo stream, std::vector<uint8_t> bytes) {
    stream.id = static_cast<uint32_t>(info.streams.size() + 1);
    stream.bytes = bytes.size();
    info.streams.push_back(std::move(stream));
    streams.push_back(std::move(bytes));
    return info.streams.back().id;
  }
  uint32_t add_image(ImageKind kind, std::string path, std::string build_id, std::vector<uint8_t> bytes) {
    ImageInfo image{static_cast<uint32_t>(info.images.size() + 1), kind, std::move(build_id), std::move(path),
                    bytes.size()};
    info.images.push_back(std::move(image));
    images.push_back(std::move(bytes));
    return info.images.back().id;
  }
};

}  // namespace hindcast::server
