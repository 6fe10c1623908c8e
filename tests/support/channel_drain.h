// Stands in for the daemon: listens on the plugin's channel and keeps all it says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "capture/sim/channel.h"
#include "hindcast/fd.h"
#include "hindcast/result.h"

namespace hindcast::test {

class ChannelDrain {
 public:
  struct Def {
    uint64_t ip;
    std::vector<uint8_t> bytes, lengths;
  };
  struct Thread {
    int32_t tid = 0;
    bool closed = false;
    std::vector<uint32_t> words;
    uint64_t words_seen = 0;  // also when they are not kept
    Mapping ring;
  };
  struct Process {
    sim::Message hello;
    uint32_t image = 0;  // of its pid, from 0
    bool exec_announced = false;
    bool exec_followed = false;
    uint32_t first_id = 0;
    Mapping defs_map;
    std::unordered_map<uint32_t, Def> defs;  // a fork's child has its parent's too
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<sim::Message> code_messages;  // of kinds code and mapping, as they came
    Fd socket;
  };

  /// Listens at path, in a thread of its own. keep_words: else they are taken and dropped, to measure the plugin.
  static Result<std::unique_ptr<ChannelDrain>> start(const std::string& path, bool keep_words = true);
  ~ChannelDrain();
  /// Call when the programs have ended: takes what is left and returns all processes in the order they came.
  std::vector<std::unique_ptr<Process>>& finish();

  /// What a thread executed according to its words. Returns a text saying what was wrong with them, empty when nothing.
  static std::string expand(const Process& process, const Thread& thread, const std::function<void(uint64_t ip)>& ran);

 private:
  void loop();
  bool read_message(Process& process);
  void take(Process& process, Thread& thread, bool process_gone);
  void read_defs(Process& process);

  std::string path_;
  Fd listener_;
  bool keep_ = true;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::string problem_;
};

}  // namespace hindcast::test
