#include "decode/calls.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "decode/x86_insn.h"

namespace hindcast::decode {
namespace {

/// Deeper than any sane stack; beyond it the oldest frames are closed as unwound, so that memory stays bounded.
constexpr size_t kMaxFrames = size_t{1} << 20;
/// How far down a return may look for its frame: exceptions and longjmp leave many frames at once.
constexpr size_t kMaxUnwind = size_t{1} << 16;

struct Frame {
  uint64_t function = 0;
  uint64_t from = 0;
  uint64_t return_address = 0;  // signal: the interrupted address
  uint64_t enter_index = 0;
  uint64_t instructions_at_enter = 0;
  bool signal = false;
};

/// A setjmp is short; longer callees are not remembered as places to jump back to.
constexpr uint64_t kSetjmpInstructions = 200;
constexpr size_t kMaxReturnPoints = size_t{1} << 16;

/// Where a frame's calls came back to: longjmp goes to one of these.
struct ReturnPoint {
  size_t index = 0;          // of the frame that made the call
  uint64_t enter_index = 0;  // of that frame, so that another one in its place is not taken for it
};

}  // namespace

struct CallTracker::Impl {
  explicit Impl(const HostTrace& t) : trace(t), sites(4096) {}

  struct Site {
    std::shared_ptr<const CodeImage> image;
    uint64_t ip = 0, next = 0;
  };

  const HostTrace& trace;
  std::vector<Site> sites;
  std::vector<Frame> stack;
  size_t uncertain_below = 0;  // frames under this index have a gap behind them
  std::unordered_map<uint64_t, ReturnPoint> return_points;
  int32_t below = 0;     // frames left that were entered before the capture
  uint64_t entered = 0;  // enter events so far
  uint64_t instructions = 0;
  uint64_t last_ip = 0;  // last instruction run
  BlockEnd last_end = BlockEnd::none;
  uint64_t last_next = 0;               // the address after it; 0 unknown
  std::optional<uint64_t> interrupted;  // an async_disabled waits for where the thread goes on
  bool gap_since = false;               // since the last block
  bool called_out = false;              // the last block's call left what is traced
  bool arrived = false;                 // `enabled` told where the next block starts, and that was dealt with
  std::shared_ptr<const CodeImage> image;
  uint32_t image_stream = 0, image_stretch = 0;

  CallEvent make(CallKind kind, const FlowEvent& e) const {
    CallEvent c;
    c.kind = kind;
    c.time = e.event.time;
    c.cpu = e.cpu;
    return c;
  }

  int32_t depth_of(size_t index) const { return static_cast<int32_t>(index) - below; }

  void enter(const FlowEvent& e, uint64_t function, uint64_t from, uint64_t return_address, bool signal,
             std::vector<CallEvent>& out) {
    if (stack.size() == kMaxFrames) {
      // Close the oldest: what is left of it cannot be told any more.
      CallEvent c = exit_event(e, 0, kCallUnwound | kCallUncertain);
      out.push_back(c);
      stack.erase(stack.begin());
      --below;
      uncertain_below = std::min(uncertain_below, stack.size());
    }
    CallEvent c = make(CallKind::enter, e);
    c.function = function;
    c.from = from;
    c.return_address = return_address;
    c.depth = depth_of(stack.size());
    c.flags = signal ? kCallSignal : 0;
    out.push_back(c);
    Frame f;
    f.function = function;
    f.from = from;
    f.return_address = return_address;
    f.enter_index = ++entered;
    f.instructions_at_enter = instructions;
    f.signal = signal;
    stack.push_back(f);
  }

  CallEvent exit_event(const FlowEvent& e, size_t index, int flags) const {
    const Frame& f = stack[index];
    CallEvent c = make(CallKind::exit, e);
    c.function = f.function;
    c.from = last_ip;
    c.return_address = f.return_address;
    c.depth = depth_of(index);
    c.enter_index = f.enter_index;
    c.instructions = instructions - f.instructions_at_enter;
    c.flags =
        static_cast<uint8_t>(flags | (f.signal ? kCallSignal : 0) | (index < uncertain_below ? kCallUncertain : 0));
    return c;
  }

  /// Closes frames down to `index`; the last one closed returned by itself, those above it were unwound.
  void leave_to(const FlowEvent& e, size_t index, bool by_itself, std::vector<CallEvent>& out) {
    while (stack.size() > index) {
      const bool last = stack.size() == index + 1;
      out.push_back(exit_event(e, stack.size() - 1, last && by_itself ? 0 : kCallUnwound));
      const Frame gone = stack.back();
      stack.pop_back();
      if (last && by_itself && !gone.signal && instructions - gone.instructions_at_enter <= kSetjmpInstructions) {
        if (return_points.size() >= kMaxReturnPoints) return_points.clear();
        return_points[gone.return_address] = {stack.size(), stack.empty() ? 0 : stack.back().enter_index};
      }
    }
    uncertain_below = std::min(uncertain_below, stack.size());
  }

  void doubt() { uncertain_below = stack.size(); }

  /// True when ip is where a call of a frame still open came back to: everything above that frame is left.
  bool jumped_back(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    const auto it = return_points.find(ip);
    if (it == return_points.end()) return false;
    const ReturnPoint p = it->second;
    const bool alive =
        p.index == 0 ? p.enter_index == 0 : p.index <= stack.size() && stack[p.index - 1].enter_index == p.enter_index;
    if (!alive || p.index == stack.size()) return false;
    leave_to(e, p.index, false, out);
    return true;
  }

  /// The innermost frame that returns to ip; nothing when none does.
  std::optional<size_t> find_return(uint64_t ip, bool signal) const {
    const size_t lowest = stack.size() > kMaxUnwind ? stack.size() - kMaxUnwind : 0;
    for (size_t i = stack.size(); i-- > lowest;) {
      if (stack[i].signal != signal) continue;
      // A handler that ran before a system call returned may come back to the call itself, which then runs again.
      if (stack[i].return_address == ip || (signal && stack[i].from == ip)) return i;
    }
    return std::nullopt;
  }

  void returned(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    if (const auto i = find_return(ip, false)) {
      leave_to(e, *i, true, out);
      return;
    }
    if (!stack.empty()) {
      if (stack.back().signal || jumped_back(e, ip, out)) return;  // a handler returns to code that calls rt_sigreturn
      // To where no call is waiting: an exception's landing pad, another stack (fibers), a pushed address. The frames
      // stay; those that were left show when a return finds its caller below them.
      doubt();
      return;
    }
    ++below;
    CallEvent c = make(CallKind::exit, e);
    c.flags = static_cast<uint8_t>(kCallBelowStart | (gap_since ? kCallUncertain : 0));
    c.depth = -below;
    c.from = last_ip;
    c.return_address = ip;
    c.instructions = instructions;
    out.push_back(c);
  }

  /// Control reached ip by the last block's end; called before the next block counts.
  void transfer(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    if (gap_since) return;  // how it got here is unknown
    switch (last_end) {
      case BlockEnd::direct_call:
      case BlockEnd::indirect_call:
        // A call to the next instruction reads the address; it is no frame. Neither does the CPU take it for one.
        if (ip != last_next || last_end == BlockEnd::indirect_call) enter(e, ip, last_ip, last_next, false, out);
        return;
      case BlockEnd::near_ret:
        returned(e, ip, out);
        return;
      case BlockEnd::indirect_jump:
        // longjmp and landing pads jump back into a frame: to the address after a call still open.
        (void)jumped_back(e, ip, out);  // longjmp; anything else keeps the frame (switch tables, tail calls)
        return;
      default:
        return;
    }
  }

  void on_block(const FlowEvent& e, std::vector<CallEvent>& out) {
    arrive(e, e.event.ip, out);
    instructions += e.event.count;
    last_ip = e.event.last_ip;
    last_end = e.event.end;
    last_next = 0;
    if (last_end == BlockEnd::direct_call || last_end == BlockEnd::indirect_call || last_end == BlockEnd::far_transfer)
      last_next = next_of(e);
    gap_since = false;
    arrived = false;
  }

  /// The address after the block's last instruction. Each call site is decoded once.
  uint64_t next_of(const FlowEvent& e) {
    if (!image || image_stream != e.stream || image_stretch != e.stretch) {
      image = trace.image_of(e);
      image_stream = e.stream;
      image_stretch = e.stretch;
    }
    if (!image) return 0;
    const uint64_t ip = e.event.last_ip;
    Site& site = sites[(ip ^ ip >> 12) % sites.size()];
    if (site.ip != ip || site.image != image) {
      const X86Insn i = decode_x86(*image, Ip(ip));
      site = {image, ip, i.length == 0 ? 0 : ip + i.length};
    }
    return site.next;
  }

  void arrive(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    if (arrived) return;
    arrived = true;
    if (interrupted) {
      resume(e, ip, out);
      return;
    }
    const bool came_back = std::exchange(called_out, false) && ip == last_next;
    if (!came_back) transfer(e, ip, out);
    last_end = BlockEnd::none;
  }

  /// After an interruption: on where it was, in a signal handler, or back from one.
  void resume(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    const uint64_t at = *interrupted;
    interrupted.reset();
    if (gap_since) return;
    if (ip == at) {
      // A branch that ended just before the interruption took effect: the interruption stood at its target.
      transfer(e, ip, out);
      last_end = BlockEnd::none;
      return;
    }
    transfer(e, at, out);
    last_end = BlockEnd::none;
    if (const auto i = find_return(ip, true)) {
      leave_to(e, *i, true, out);
      return;
    }
    enter(e, ip, at, at, true, out);
  }

  /// After a system call: the next instruction, a signal handler (it runs before the call returns), or back from one
  /// (rt_sigreturn).
  void after_syscall(const FlowEvent& e, uint64_t ip, std::vector<CallEvent>& out) {
    last_end = BlockEnd::none;
    arrived = true;
    if (gap_since || last_next == 0 || ip == last_next) return;
    if (const auto i = find_return(ip, true)) {
      leave_to(e, *i, true, out);
      return;
    }
    // Restarted calls resume at the SYSCALL itself.
    if (ip == last_ip) return;
    // exec starts a new program: nothing of the old stack is left.
    if (trace_execs(e)) {
      leave_to(e, 0, false, out);
      return;
    }
    enter(e, ip, last_ip, last_next, true, out);
  }

  /// True when the process's code changed as a whole since the last block.
  bool trace_execs(const FlowEvent& e) {
    const ThreadInfo* t = trace.find_thread(e.tid);
    if (!t || image == nullptr) return false;
    FlowEvent before = e;
    before.stream = image_stream;
    before.stretch = image_stretch;
    const RecordTime from = trace.record_times_of(before).earliest, to = trace.record_times_of(e).earliest;
    return std::any_of(t->comms.begin(), t->comms.end(),
                       [&](const CommChange& c) { return c.exec && from < c.time && c.time <= to; });
  }
};

CallTracker::CallTracker(const HostTrace& trace) : impl_(std::make_unique<Impl>(trace)) {}
CallTracker::~CallTracker() = default;
CallTracker::CallTracker(CallTracker&&) noexcept = default;
CallTracker& CallTracker::operator=(CallTracker&&) noexcept = default;

void CallTracker::feed(const FlowEvent& event, std::vector<CallEvent>& out) {
  Impl& s = *impl_;
  const Event& e = event.event;
  switch (e.kind) {
    case EventKind::block:
      s.on_block(event, out);
      break;
    case EventKind::enabled:
      if (s.interrupted || s.last_end != BlockEnd::far_transfer)
        s.arrive(event, e.ip, out);
      else
        s.after_syscall(event, e.ip, out);
      break;
    case EventKind::async_disabled:
      s.interrupted = e.ip;
      break;
    case EventKind::async_branch:
      s.interrupted = e.ip;
      s.arrived = false;
      break;
    case EventKind::disabled:
      // A call out of what is traced comes back behind itself; what it did there is no frame.
      if (s.last_end == BlockEnd::direct_call || s.last_end == BlockEnd::indirect_call) s.called_out = true;
      break;
    case EventKind::overflow:
    case EventKind::gap:
    case EventKind::paging:
    case EventKind::exec_mode:
    case EventKind::tsx:
    case EventKind::stopped:
    case EventKind::ptwrite:
      break;
  }
  if (e.kind == EventKind::gap || e.kind == EventKind::overflow) {
    s.gap_since = true;
    s.interrupted.reset();
    s.last_end = BlockEnd::none;
    s.arrived = false;
    s.called_out = false;
    s.doubt();
  }
}

void CallTracker::finish(std::vector<CallEvent>& out) {
  Impl& s = *impl_;
  FlowEvent end;
  while (!s.stack.empty()) {
    out.push_back(s.exit_event(end, s.stack.size() - 1, kCallOpen));
    s.stack.pop_back();
  }
}

size_t CallTracker::depth() const { return impl_->stack.size(); }

}  // namespace hindcast::decode
