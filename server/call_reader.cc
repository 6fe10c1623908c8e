#include "server/call_reader.h"

#include <array>
#include <deque>

#include "decode/calls.h"
#include "server/flow_reader.h"

namespace hindcast::server {
namespace {

class CallItems : public Reader<CallItem> {
 public:
  CallItems(OpenSnapshot& snapshot, const CallQuestion& question, std::unique_ptr<decode::FlowCursor> cursor)
      : snapshot_(snapshot), question_(question), cursor_(std::move(cursor)), tracker_(*snapshot.trace) {}

  bool next(CallItem& out) override {
    while (ready_.empty()) {
      if (ended_) return false;
      pull();
    }
    out = std::move(ready_.front());
    ready_.pop_front();
    return true;
  }

 private:
  void pull() {
    const size_t n = cursor_->next(buffer_);
    if (n == 0) {
      tracker_.finish(calls_);
      take_calls();
      ended_ = true;
      return;
    }
    for (size_t i = 0; i < n; ++i) {
      last_ = buffer_[i];
      // The stack needs every event of the stretches that were pulled, also those just outside the range.
      tracker_.feed(last_, calls_);
      take_calls();
      if (last_.event.kind == EventKind::gap && last_.event.time.overlaps(question_.time)) {
        CallItem item;
        item.kind = CallItem::Kind::gap;
        item.gap = last_.event;
        item.time = last_.event.time;
        item.cpu = last_.cpu;
        item.depth = depth_;
        ready_.push_back(std::move(item));
      }
    }
  }

  std::shared_ptr<const Place> place(uint64_t ip) {
    return ip == 0 ? nullptr : snapshot_.places->find(last_.pid, snapshot_.trace->record_times_of(last_), Ip(ip));
  }

  void take_calls() {
    for (const decode::CallEvent& c : calls_) {
      const bool enter = c.kind == decode::CallKind::enter;
      if (enter) ++entered_;
      depth_ = enter ? c.depth + 1 : c.depth;
      if (!c.time.overlaps(question_.time)) continue;
      CallItem item;
      item.kind = enter ? CallItem::Kind::enter : CallItem::Kind::exit;
      item.depth = c.depth;
      item.signal = c.flags & decode::kCallSignal;
      item.uncertain = c.flags & decode::kCallUncertain;
      item.unwound = c.flags & decode::kCallUnwound;
      item.below_start = c.flags & decode::kCallBelowStart;
      item.open = c.flags & decode::kCallOpen;
      item.function = place(c.function);
      item.from = place(c.from);
      item.time = c.time;
      item.cpu = c.cpu;
      item.number = enter ? entered_ : c.enter_index;
      item.instructions = c.instructions;
      ready_.push_back(std::move(item));
    }
    calls_.clear();
  }

  OpenSnapshot& snapshot_;
  const CallQuestion question_;
  std::unique_ptr<decode::FlowCursor> cursor_;
  decode::CallTracker tracker_;
  decode::FlowEvent last_;
  std::array<decode::FlowEvent, 256> buffer_;
  std::vector<decode::CallEvent> calls_;
  std::deque<CallItem> ready_;
  uint64_t entered_ = 0;
  int32_t depth_ = 0;
  bool ended_ = false;
};

}  // namespace

Result<std::unique_ptr<Reader<CallItem>>> read_calls(OpenSnapshot& snapshot, const CallQuestion& question) {
  FlowQuestion flow;
  flow.tid = question.tid;
  flow.time = question.time;
  flow.engine = question.engine;
  HC_TRY(auto cursor, open_cursor(snapshot, flow));
  return std::unique_ptr<Reader<CallItem>>(new CallItems(snapshot, question, std::move(cursor)));
}

}  // namespace hindcast::server
