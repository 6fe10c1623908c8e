// Reads the ground truth of a simulated run (hindcast/truth_format.h): what each thread executed, in order.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "hindcast/result.h"
#include "hindcast/truth_format.h"

namespace hindcast::test {

/// One process image: from a start, fork or exec to the next exec or the end.
struct TruthProcess {
  int32_t pid = 0;
  uint32_t image = 0;      // counts the images of one pid, from 0
  int32_t parent_pid = 0;  // when it is a fork's child
  uint64_t tsc = 0;
  std::map<uint32_t, std::vector<sim::TruthInstruction>> blocks;
};

struct TruthMark {
  uint64_t index;  // the mark lies between instructions index - 1 and index of its thread
  uint64_t tsc;
  uint32_t cpu;
};

struct TruthThread {
  const TruthProcess* process = nullptr;
  int32_t tid = 0;
  uint64_t tsc = 0;
  bool ended = false;   // it says how it ended; else the process was killed
  bool failed = false;  // its file could not be made longer: the end is missing
  Mapping file;
};

/// One executed instruction.
struct TruthStep {
  uint64_t ip = 0;
  uint64_t index = 0;
  uint8_t length = 0;
  sim::TruthClass kind = sim::TruthClass::other;
  int64_t depth = 0;  // calls minus returns before it, since the thread began
};

/// Walks one thread's executed instructions; borrowed from its Truth. One user.
class TruthCursor {
 public:
  explicit TruthCursor(const TruthThread& thread);
  /// False at the end.
  bool next(TruthStep& step);
  /// Marks and signals passed so far.
  const std::vector<TruthMark>& marks() const { return marks_; }
  struct Signal {
    uint64_t index;  // of the instruction that follows
    uint64_t ip;     // interrupted
    uint32_t number;
  };
  const std::vector<Signal>& signals() const { return signals_; }

 private:
  bool next_block();

  const TruthThread& thread_;
  const uint32_t* at_;
  const uint32_t* end_;
  const sim::TruthInstruction* insn_ = nullptr;
  const sim::TruthInstruction* insn_end_ = nullptr;
  uint64_t index_ = 0;
  int64_t depth_ = 0;
  std::vector<TruthMark> marks_;
  std::vector<Signal> signals_;
};

/// All of one run.
struct Truth {
  std::vector<std::unique_ptr<TruthProcess>> processes;  // by pid, then image
  std::vector<TruthThread> threads;                      // by process, then time of their start

  /// Errors: io; bad_input when a file breaks the format, with its name.
  static Result<Truth> read(const std::string& directory);
  /// Every executed address of a thread; 8 bytes each.
  static std::vector<uint64_t> addresses(const TruthThread& thread);
};

}  // namespace hindcast::test
