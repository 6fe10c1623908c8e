// A queue in, a list of results out, an eventfd that says there are some.
#include "transport/store_thread.h"

#include <sys/eventfd.h>

namespace hindcast::transport {

Result<std::unique_ptr<StoreThread>> StoreThread::start(SnapshotSink& sink) {
  std::unique_ptr<StoreThread> t(new StoreThread(sink));
  t->ready_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!t->ready_.valid()) return errno_error("cannot make", "an eventfd");
  t->thread_ = std::thread([p = t.get()] { p->run(); });
  return t;
}

StoreThread::~StoreThread() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  more_.notify_one();
  thread_.join();
}

void StoreThread::push(StoreJob job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  more_.notify_one();
}

std::vector<StoreResult> StoreThread::take_results() {
  uint64_t n = 0;
  (void)!::read(ready_.get(), &n, sizeof n);  // empties the eventfd; what comes later makes it readable again
  std::lock_guard lock(mutex_);
  return std::exchange(results_, {});
}

void StoreThread::run() {
  for (;;) {
    StoreJob job;
    {
      std::unique_lock lock(mutex_);
      more_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) break;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    StoreResult result = perform(job);
    {
      std::lock_guard lock(mutex_);
      results_.push_back(std::move(result));
    }
    const uint64_t one = 1;
    (void)!::write(ready_.get(), &one, sizeof one);
  }
  open_.clear();
}

StoreResult StoreThread::perform(StoreJob& job) {
  using Kind = StoreJob::Kind;
  StoreResult r;
  r.kind = job.kind;
  r.handle = job.handle;
  r.number = job.number;
  r.cost = job.cost;
  r.raw_bytes = job.raw.size();
  r.stored_bytes = job.stored.size();
  if (job.kind == Kind::close) {
    open_.erase(job.handle);
    return r;
  }
  Open& open = open_[job.handle];
  if (job.kind == Kind::open) {
    auto opened = sink_.open(job.offer);
    if (opened.ok()) {
      open.snapshot = std::move(*opened);
      r.committed = open.snapshot->committed();
      r.have = open.snapshot->have();
    } else {
      r.outcome = opened.error();
    }
  } else if (open.failed) {
    r.outcome = *open.failed;
  } else {
    HC_CHECK(open.snapshot != nullptr);
    r.outcome = job.kind == Kind::psb_map ? open.snapshot->psb_map(job.number, job.map)
                : job.kind == Kind::write ? open.snapshot->write(job.number, job.stored, job.raw)
                                          : open.snapshot->commit();
  }
  if (!r.outcome.ok() && !open.failed) open.failed = r.outcome.error();
  return r;
}

}  // namespace hindcast::transport
