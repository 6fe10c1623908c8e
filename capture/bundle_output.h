// Puts a finished recording into a bundle file: streams, images, then the description of it all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "capture/code_bytes.h"
#include "hindcast/cut.h"
#include "transport/bundle_writer.h"

namespace hindcast::capture {

class BundleOutput {
 public:
  /// Makes the file at once, so that a path that cannot be written is known before the command runs.
  static Result<BundleOutput> create(const std::string& path);

  /// Numbers the streams, fills info.streams, images and placements, writes all and makes the file durable. An image
  /// whose file shrank or cannot be read any more becomes shorter and a note.
  ///   say  progress when it takes longer than a second
  Result<void> write(SnapshotInfo& info, std::vector<Cut>& cuts, CodeBytes::Collected& code,
                     const std::function<void(const std::string&)>& say);

 private:
  explicit BundleOutput(transport::BundleWriter writer) : writer_(std::move(writer)) {}
  Result<void> write_image(CapturedImage& image, std::vector<std::string>& notes);
  transport::BundleWriter writer_;
};

}  // namespace hindcast::capture
