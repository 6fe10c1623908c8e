#include "server/service/first_openings.h"

namespace hindcast::server {

FirstOpenings::FirstOpenings(std::string program, RunOptions options, Log& log)
    : program_(std::move(program)), options_(std::move(options)), log_(log) {
  options_.in_background = true;
  thread_ = std::thread([this] { work(); });
}

FirstOpenings::~FirstOpenings() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FirstOpenings::add(const std::string& bundle) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() == kMostWaiting) {
      ++counters_.left_out;
      return;
    }
    waiting_.push_back(bundle);
  }
  changed_.notify_all();
}

FirstOpenings::Counters FirstOpenings::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void FirstOpenings::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const std::string bundle = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    const bool opened = open(bundle);
    lock.lock();
    if (!stopping_) ++(opened ? counters_.opened : counters_.failed);
  }
}

bool FirstOpenings::open(const std::string& bundle) {
  auto run = RunCommand::start({program_, "ls", bundle}, options_);
  if (!run.ok()) {
    log_("cannot open " + bundle + " beforehand: " + run.error().what);
    return false;
  }
  std::string words;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
    }
    const RunFrame frame = (*run)->next(std::chrono::milliseconds(100));
    if (frame.kind == RunFrame::Kind::err && words.size() < kMostWords) words += frame.bytes;
    if (frame.kind != RunFrame::Kind::exit) continue;
    const bool opened = !frame.bytes.empty() && frame.bytes[0] == 0;
    if (!opened) log_("cannot open " + bundle + " beforehand: " + words);
    return opened;
  }
}

}  // namespace hindcast::server
