#include "server/remote_frames.h"

#include <algorithm>

namespace hindcast::server {
namespace {

enum Kind : uint8_t { kKeepAlive = 0, kOut = 1, kErr = 2, kExit = 3 };

uint32_t little_endian(std::string_view four) {
  uint32_t v = 0;
  for (size_t i = 0; i < 4; ++i) v |= static_cast<uint32_t>(static_cast<unsigned char>(four[i])) << (8 * i);
  return v;
}

Error bad_frame(const std::string& found) {
  return {Errc::bad_input, "the server's answer to a command is not one that this program knows", found,
          "use a hindcast and a hindcast-server of the same version"};
}

}  // namespace

Result<void> RunFrames::begin_frame() {
  kind_ = static_cast<uint8_t>(header_[0]);
  left_ = little_endian(std::string_view(header_).substr(1));
  const std::string found = "a frame of kind " + std::to_string(kind_) + " and " + std::to_string(left_) + " bytes";
  if (kind_ > kExit || left_ > kMaxFrameBytes) return bad_frame(found);
  if ((kind_ == kExit && left_ != 4) || (kind_ == kKeepAlive && left_ != 0)) return bad_frame(found);
  return {};
}

Result<void> RunFrames::take(std::string_view bytes) {
  while (!bytes.empty()) {
    if (exit_) return bad_frame("bytes behind the exit code");
    if (header_.size() < kHeader) {
      const size_t n = std::min(kHeader - header_.size(), bytes.size());
      header_ += bytes.substr(0, n);
      bytes.remove_prefix(n);
      if (header_.size() < kHeader) return {};
      HC_TRY_VOID(begin_frame());
    }
    const size_t n = std::min<size_t>(left_, bytes.size());
    const std::string_view part = bytes.substr(0, n);
    bytes.remove_prefix(n);
    left_ -= static_cast<uint32_t>(n);
    if (kind_ == kExit) code_ += part;
    const To* to = kind_ == kOut ? &out_ : kind_ == kErr ? &err_ : nullptr;
    if (to && n > 0 && !(*to)(part)) return Error{Errc::io, "the answer is not taken any more", {}, {}};
    if (left_ > 0) return {};
    header_.clear();
    if (kind_ != kExit) continue;
    const uint32_t code = little_endian(code_);
    if (code > 255) return bad_frame("exit code " + std::to_string(code));
    exit_ = static_cast<int>(code);
  }
  return {};
}

Result<int> RunFrames::finish() const {
  if (exit_) return *exit_;
  return Error{Errc::io, "the server's answer was cut: it ends before the command's exit code",
               "the server was stopped, or the connection broke", "ask again"};
}

}  // namespace hindcast::server
