// The answer of /v1/run, as it comes: frames of u8 kind, u32 length (little-endian), bytes. Pure; nothing is trusted.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "hindcast/result.h"

namespace hindcast::server {

/// Takes the stream in pieces of any size. What a frame says is passed on as soon as it is there, so no frame is ever held.
class RunFrames {
 public:
  static constexpr uint32_t kMaxFrameBytes = 1u << 20;
  /// False: it wants no more.
  using To = std::function<bool(std::string_view bytes)>;

  RunFrames(To out, To err) : out_(std::move(out)), err_(std::move(err)) {}

  /// Errors: bad_input for what no server sends: an unknown kind, a length beyond the limit or wrong for its kind, bytes
  /// behind the exit code; io when the one who takes it wants no more. No more may be taken after an Error.
  Result<void> take(std::string_view bytes);
  /// The exit code, once the stream has ended. Errors: io when it ended before its exit frame: the answer was cut.
  Result<int> finish() const;

 private:
  static constexpr size_t kHeader = 5;
  Result<void> begin_frame();

  To out_, err_;
  std::string header_;  // what of a frame's head is there
  uint8_t kind_ = 0;
  uint32_t left_ = 0;  // of the frame's bytes
  std::string code_;
  std::optional<int> exit_;
};

}  // namespace hindcast::server
