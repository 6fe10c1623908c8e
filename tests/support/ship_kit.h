// What tests of the transport share: made-up snapshots, spools, and waiting.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "hindcast/cut.h"
#include "transport/keys.h"
#include "transport/receiver.h"
#include "transport/sender.h"
#include "transport/spool.h"

namespace hindcast::test {

/// A snapshot made from its arguments alone: two PT streams with PSBs, sideband, an ELF-like image that all snapshots of a
/// seed share, a small memory image.
struct MadeSnapshot {
  SnapshotInfo info;
  std::vector<std::vector<uint8_t>> streams, images;  // in the order of info
};
MadeSnapshot make_snapshot(const std::string& host, const std::string& incident, uint32_t seed, size_t pt_bytes);

/// Into the spool, finished. Errors: those of the spool.
Result<uint64_t> keep(transport::Spool& spool, const MadeSnapshot& snapshot);

/// The bundle at path holds exactly this snapshot. Else what differs.
std::string difference(const std::string& path, const MadeSnapshot& snapshot);

template <class F>
bool wait_for(F done, double seconds = 20) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// Whole file; empty when it cannot be read.
std::vector<uint8_t> bytes_of_file(const std::string& path);

}  // namespace hindcast::test
