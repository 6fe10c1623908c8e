// Which processes descend from the recorded command, and which of them still run, by FORK and EXIT records.
#include "capture/process_tree.h"

#include "capture/text_file.h"

namespace hindcast::capture {

void ProcessTree::add_member(Pid pid) {
  if (members_.insert(pid).second) order_.push_back(pid);
}

void ProcessTree::add_root(Pid pid) {
  add_member(pid);
  threads_[Tid(pid.value())] = pid;
}

void ProcessTree::see(const perf::Record& record) {
  const auto task = read_task_record(record);
  if (!task) return;
  if (record.type == perf::kExit) {
    threads_.erase(task->tid);
  } else if (contains(task->parent_pid)) {
    add_member(task->pid);
    threads_[task->tid] = task->pid;
  } else {
    // a number that a dead member once had is now somebody else's
    threads_.erase(task->tid);
    if (task->pid != task->parent_pid) members_.erase(task->pid);
  }
}

void ProcessTree::expect(const perf::Record& record) {
  const auto task = read_task_record(record);
  if (task && record.type == perf::kFork && contains(task->parent_pid)) add_member(task->pid);
}

std::vector<Pid> ProcessTree::alive() const {
  std::set<Pid> pids;
  for (const auto& [tid, pid] : threads_) pids.insert(pid);
  return {pids.begin(), pids.end()};
}

void ProcessTree::forget_dead(const std::string& proc) {
  std::set<Pid> dead;
  for (const Pid pid : alive()) {
    const auto stat = read_text_file(proc + "/" + std::to_string(pid.value()) + "/stat", 4096);
    const size_t name_end = stat ? stat->rfind(')') : std::string::npos;
    const char state =
        stat && name_end != std::string::npos && name_end + 2 < stat->size() ? (*stat)[name_end + 2] : 'X';
    if (state == 'Z' || state == 'X') dead.insert(pid);
  }
  for (auto it = threads_.begin(); it != threads_.end();)
    it = dead.count(it->second) ? threads_.erase(it) : std::next(it);
}

}  // namespace hindcast::capture
