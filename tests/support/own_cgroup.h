// A version 2 cgroup of the test's own, below the first one.
#pragma once

#include <string>

namespace hindcast::test {

/// Gone with the object: what still runs in it is killed. Needs root.
class OwnCgroup {
 public:
  /// name: begins its folder's name, which is unique.
  explicit OwnCgroup(const std::string& name);
  ~OwnCgroup();
  OwnCgroup(const OwnCgroup&) = delete;
  OwnCgroup& operator=(const OwnCgroup&) = delete;

  /// Why there is none; empty: there is.
  const std::string& missing() const { return missing_; }
  const std::string& folder() const { return folder_; }
  /// As /proc/PID/cgroup names it.
  const std::string& path() const { return path_; }
  /// A cgroup inside; its folder. name may have several parts.
  std::string inside(const std::string& name) const;
  /// Puts a process there, with all its threads. folder: empty: this one.
  bool take(int pid, const std::string& folder = {}) const;

 private:
  std::string folder_, path_, missing_;
};

}  // namespace hindcast::test
