// A folder of ground-truth files (hindcast/truth_format.h) as one sequence of executed addresses per thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hindcast/result.h"
#include "hindcast/units.h"
#include "server/truth_compare.h"

namespace hindcast::server {

/// Files are mapped and checked when opened: every block that a thread names is there, nothing lies outside its file.
class TruthFolder {
 public:
  /// Errors: io, not_found; bad_input with the file's name; not_found for a folder without truth files.
  static Result<TruthFolder> open(const std::string& folder);
  TruthFolder(TruthFolder&&) noexcept;
  TruthFolder& operator=(TruthFolder&&) noexcept;
  ~TruthFolder();

  /// Threads with a sequence, ascending.
  std::vector<Tid> threads() const;
  /// All that the thread executed, over every exec of its process; borrows the folder. Null for an unknown thread.
  std::unique_ptr<TruthSequence> sequence(Tid tid) const;
  /// Why the sequence ends before the thread did; empty when it does not.
  std::string incomplete(Tid tid) const;

 private:
  struct Impl;
  explicit TruthFolder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hindcast::server
