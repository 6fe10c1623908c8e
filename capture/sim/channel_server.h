// The daemon's end of the channel (channel.h): takes connections, checks messages and hands them on.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "capture/sim/channel.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::sim {

/// One message, or the end of a connection. The memory behind fd cannot shrink any more.
struct Incoming {
  uint64_t connection = 0;
  bool ended = false;
  Message message;
  Fd fd;
};

/// One thread.
class ChannelServer {
 public:
  static constexpr size_t kMaxConnections = 4096;

  /// Makes a socket in a directory of its own that only this user can enter. Errors: io.
  static Result<ChannelServer> listen();
  ChannelServer(ChannelServer&& o) noexcept { *this = std::move(o); }
  ChannelServer& operator=(ChannelServer&&) noexcept;
  ~ChannelServer();

  const std::string& path() const { return path_; }
  /// Hands on all that has arrived, waiting up to timeout_ms for the first. A peer that breaks the rules is cut off: its
  /// connection ends, and refused() counts it.
  void poll(int timeout_ms, const std::function<void(Incoming&)>& sink);
  uint64_t refused() const { return refused_; }

 private:
  ChannelServer() = default;
  struct Peer {
    Fd fd;
    int32_t pid = 0;
  };
  void accept_all();
  bool read_all(uint64_t id, Peer& peer, const std::function<void(Incoming&)>& sink);
  void remove_files();

  std::string directory_, path_;
  Fd socket_;
  std::map<uint64_t, Peer> peers_;
  uint64_t next_id_ = 1;
  uint64_t refused_ = 0;
};

}  // namespace hindcast::sim
