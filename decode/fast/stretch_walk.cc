#include "decode/fast/stretch_walk.h"

#include <algorithm>

#include "decode/packet_reader.h"
#include "decode/x86_insn.h"

namespace hindcast::decode {
namespace {

/// Behind a stretch's last packet, which may stand right where it is handed over.
uint64_t limit_of(const Stretch& s) { return s.how == StretchEnd::handover ? s.end + 1 : s.end; }

}  // namespace

bool StretchWalk::begin(const Stretch& stretch, BlockGraph& graph) {
  const uint64_t behind = std::min<uint64_t>(stretch.begin + kMaxPacketBytes, bytes_.all().size());
  const uint64_t covered = bytes_.cover(stretch.begin, behind);
  PacketReader reader(bytes_.all().first(covered));
  reader.seek(stretch.begin);
  Packet first;
  if (reader.next(first) != Step::ok) {
    stuck_ = {covered == behind ? GapCause::desync : GapCause::cut, stretch.begin, 0, kNoBlock, false};
    return false;
  }
  start(stretch, graph);
  lex(stretch, reader.offset(), stretch.begin_ip);
  if (stretch.in_psb) lexer_->pass_psb();
  lanes_.base = lexer_->offset();
  walk_.at = graph.at(stretch.begin_ip);
  return true;
}

bool StretchWalk::begin_at_psb(const Stretch& stretch, BlockGraph& graph, uint64_t psb) {
  start(stretch, graph);
  lex(stretch, psb, 0);
  lanes_.base = psb;
  const uint64_t ip = lexer_->cross_psb(lanes_);
  psb_ = psb;
  if (ip == 0)
    stuck_ = {lexer_->meets_loss() ? GapCause::cut : GapCause::desync, psb, 0, kNoBlock, false};
  else
    walk_.at = graph.at(ip);
  return ip != 0;
}

void StretchWalk::start(const Stretch& stretch, BlockGraph& graph) {
  stretch_ = &stretch;
  graph_ = &graph;
  lanes_.bits = 0;
  lanes_.tips = lanes_.tnts = 0;
  targets_.assign(1, kNoBlock);
  wants_more_ = false;
  psb_ = 0;
  left_ = false;
  restart();
}

void StretchWalk::lex(const Stretch& stretch, uint64_t from, uint64_t ip) {
  lexer_.emplace(bytes_, from, stretch.whole_end, ip);
  lexer_->limit(limit_of(stretch));
}

void StretchWalk::hand_over(const Stretch& next, BlockGraph& graph) {
  stretch_ = &next;
  lexer_->limit(limit_of(next));
  if (&graph != graph_) move_to(graph);
}

void StretchWalk::restart() {
  walk_.bit = 0;
  walk_.tip = 0;
  walk_.free.reset();
  walk_.used = 0;
  first_bit_ = 0;
  first_tip_ = 0;
}

void StretchWalk::move_to(BlockGraph& graph) {
  stack_.leave(*graph_);
  walk_.at = graph.at(graph_->block(index_of(walk_.at)).ip);
  graph_ = &graph;
  find_targets(0);
}

StretchWalk::Found StretchWalk::next(std::span<BlockId> out, size_t& n) {
  n = 0;
  for (;;) {
    if (wants_more_) {
      wants_more_ = false;
      if (!fill()) {
        first_bit_ = walk_.bit;
        first_tip_ = walk_.tip;
        if (walk_.used_all(lanes_)) {
          if (lexer_->stop() == LaneLexer::Stop::psb) return Found::psb;
          if (lexer_->stop() == LaneLexer::Stop::event) return Found::event;
        }
        if (lexer_->stop() == LaneLexer::Stop::lost) return get_lost();
        // A TIP may be waited for that is of the next one.
        const bool hands_over = lexer_->stop() == LaneLexer::Stop::end && stretch_->how == StretchEnd::handover;
        if (why_ == WalkStop::used_all || hands_over) return Found::end;
        return get_stuck(why_);
      }
    }
    first_bit_ = walk_.bit;
    first_tip_ = walk_.tip;
    why_ = walk_blocks(*graph_, memo_, lanes_, targets_, ret_compression_, walk_, stack_, out, n);
    switch (why_) {
      case WalkStop::out_full:
        return Found::blocks;
      case WalkStop::used_all:
      case WalkStop::wants_tip:
        // The lanes stay as they are until what was walked is read.
        wants_more_ = true;
        if (n != 0) return Found::blocks;
        continue;
      default:
        return get_stuck(why_);
    }
  }
}

/// False when there is no more up to where the lexer stopped.
bool StretchWalk::fill() {
  if (lexer_->stop() == LaneLexer::Stop::full) {
    const uint32_t whole = walk_.bit / 8 * 8;
    lexer_->more(lanes_, walk_.bit, walk_.tip);
    const uint32_t bit = walk_.bit - whole;
    targets_.erase(targets_.begin(), targets_.begin() + static_cast<ptrdiff_t>(walk_.tip));
    find_targets(targets_.size() - 1);
    restart();
    walk_.bit = bit;
    return true;
  }
  return false;
}

bool StretchWalk::cross_psb(std::vector<uint32_t>& out, std::optional<BlockPart>& part) {
  const uint64_t psb = lexer_->offset();
  const uint64_t ip = lexer_->cross_psb(lanes_);
  const size_t before = out.size();
  if (ip == 0 || !run_to(ip, out, part)) {
    out.resize(before);
    GapCause cause = GapCause::desync;
    if (ip == 0 && lexer_->meets_loss()) cause = GapCause::cut;
    if (ip != 0 && stuck_.cause == GapCause::code_version_unknown) cause = stuck_.cause;  // on the way there
    stuck_ = {cause, psb, ip, kNoBlock, false};
    return false;
  }
  stack_.clear();
  psb_ = psb;
  begin_anew(ip);
  return true;
}

/// The calls that the CPU knows outlive it: what an asynchronous branch leads to returns by a far transfer.
bool StretchWalk::cross_event(PacketEvent& event, std::vector<uint32_t>& out, std::optional<BlockPart>& part) {
  event = lexer_->cross_event(lanes_);
  using Place = PacketEvent::Place;
  if (event.place == Place::nowhere || event.place == Place::branch) {
    stuck_ = {GapCause::desync, event.placed, graph_->last_block(walk_.at).last_ip(), kNoBlock, false};
    if (event.place == Place::branch)
      run_to_branch(out);
    else if (event.at != 0)
      run_to(event.at, out, part);
    stuck_.offset = event.placed;
    return false;
  }
  bool fits = true;
  if (event.place != Place::before)
    fits = run_behind(event, out, part);
  else if (event.at != 0)
    fits = run_to(event.at, out, part);
  if (!fits) {
    stuck_.offset = event.placed;
    return false;
  }
  begin_anew(event.to != 0 ? event.to : graph_->block(index_of(walk_.at)).ip);
  return true;
}

/// With empty lanes.
void StretchWalk::begin_anew(uint64_t ip) {
  walk_.at = graph_->at(ip);
  targets_.assign(1, kNoBlock);
  restart();
}

/// All TIPs at once: unlike on the way, one look-up does not wait for another. `known` of them are there.
void StretchWalk::find_targets(size_t known) {
  targets_.resize(lanes_.tips + 1);
  for (size_t i = known; i < lanes_.tips; ++i) targets_[i] = graph_->at(lanes_.tip[i]);
  targets_[lanes_.tips] = kNoBlock;
}

std::optional<uint64_t> StretchWalk::last_used() const {
  if (walk_.bit == first_bit_ && walk_.tip == first_tip_) return std::nullopt;
  if (walk_.took_tip) return lanes_.base + lanes_.tip_offset[walk_.tip - 1];
  TntCursor bits;
  bits.seek(lanes_, bytes_.all(), walk_.bit - 1);
  return bits.offset();
}

StretchWalk::Found StretchWalk::get_stuck(WalkStop why) {
  const CodeBlock& b = graph_->last_block(walk_.at);
  stuck_ = {GapCause::desync, replay_at(walk_.bit, walk_.tip).next_offset(*this), b.last_ip(), walk_.at,
            why == WalkStop::unseen_call};
  if (b.stops) stop_at(walk_.at);
  return Found::stuck;
}

/// Where the trace is not what was written any more.
StretchWalk::Found StretchWalk::get_lost() {
  stuck_ = {GapCause::cut, lexer_->offset(), graph_->last_block(walk_.at).last_ip(), kNoBlock, false};
  return Found::stuck;
}

bool StretchWalk::finish(std::vector<uint32_t>& out, std::optional<BlockPart>& part) {
  bool fits = true;
  if (left_)
    fits = stretch_->how != StretchEnd::async_disabled;
  else if (stretch_->how == StretchEnd::async_disabled)
    fits = run_to(stretch_->end_ip, out, part);
  else if (stretch_->how == StretchEnd::disabled)
    fits = run_to_exit(stretch_->end_to, out);
  if (stretch_->how == StretchEnd::overflow) stack_.clear();  // calls may have been lost
  return fits;
}

/// Always false.
bool StretchWalk::does_not_fit(uint32_t at) {
  const CodeBlock& b = graph_->block(at);
  stuck_ = {GapCause::desync, stretch_->end, b.last_ip(), kNoBlock, false};
  if (b.stops) stop_at(graph_->at(b.ip));
  return false;
}

/// Where the last block of a superblock has no known code behind it.
void StretchWalk::stop_at(BlockId id) {
  const CodeBlock& b = graph_->last_block(id);
  stuck_.cause = b.bad ? GapCause::desync : why_no_instruction(*graph_->code(), Ip(b.behind()));
  stuck_.ip = b.behind();
  stuck_.entered = id;
  stuck_.to_its_end = b.count != 0;
}

/// Goes on without trace until before the instruction at ip. The first time that it is reached counts.
bool StretchWalk::run_to(uint64_t ip, std::vector<uint32_t>& out, std::optional<BlockPart>& part) {
  CircleGuard guard;
  for (uint32_t at = index_of(walk_.at);; at = graph_->after(at)) {
    uint64_t last;
    if (const auto n = graph_->instructions_before(at, ip, &last)) {
      if (*n != 0) part = {graph_->block(at).ip, last, *n};
      return true;
    }
    if (!graph_->block(at).flows() || guard.is_circle(at)) return does_not_fit(at);
    ran_free(at, out);
  }
}

/// Goes on without trace up to and with the next branch that takes a TIP.
void StretchWalk::run_to_branch(std::vector<uint32_t>& out) {
  CircleGuard guard;
  uint32_t at = index_of(walk_.at);
  for (; graph_->block(at).flows() && !guard.is_circle(at); at = graph_->after(at)) ran_free(at, out);
  const CodeBlock& b = graph_->block(at);
  if (!b.flows() && !b.stops && b.end != BlockEnd::cond_branch) out.push_back(at);
}

/// Goes on without trace up to and with the next instruction that sends such a packet.
bool StretchWalk::run_behind(PacketEvent& event, std::vector<uint32_t>& out, std::optional<BlockPart>& part) {
  using Place = PacketEvent::Place;
  const InsnSends sends = event.place == Place::ptwrite   ? InsnSends::ptw
                          : event.place == Place::mov_cr3 ? InsnSends::pip
                          : event.place == Place::vmptrld ? InsnSends::vmcs
                                                          : InsnSends::nothing;
  CircleGuard guard;
  for (uint32_t at = index_of(walk_.at);; at = graph_->after(at)) {
    const auto found = sends != InsnSends::nothing ? graph_->first_that_sends(at, sends) : std::nullopt;
    if (found) {
      if (event.at != 0 && event.at != found->ip) return does_not_fit(at);
      part = {graph_->block(at).ip, found->ip, found->count};
      event.at = found->ip;
      event.to = found->behind;
      // As run_to_exit() has it: what leaves for nowhere leaves where CR3 is set.
      left_ = event.ends && stretch_->how == StretchEnd::disabled && stretch_->end_to == 0;
      return true;
    }
    const CodeBlock& b = graph_->block(at);
    if (b.end == BlockEnd::far_transfer && event.place != Place::ptwrite) {
      if (event.place != Place::far_transfer && !lexer_->make_far(event)) return does_not_fit(at);
      ran_free(at, out);
      left_ = event.to == 0;
      return true;
    }
    if (!b.flows() || guard.is_circle(at)) return does_not_fit(at);
    ran_free(at, out);
  }
}

/// Goes on without trace up to and with the branch that leaves the trace, for `to` when that is known: a place that is not
/// traced, so the walk cannot come by there.
bool StretchWalk::run_to_exit(uint64_t to, std::vector<uint32_t>& out) {
  CircleGuard guard;
  for (uint32_t at = index_of(walk_.at);; at = graph_->after(at)) {
    const CodeBlock& b = graph_->block(at);
    uint64_t ignored;
    if (to != 0 && graph_->instructions_before(at, to, &ignored)) return does_not_fit(at);
    const bool leaves_for = to != 0 && b.target == to && b.end != BlockEnd::none;
    const bool may_leave = b.sets_cr3 ? to == 0 : b.flows() || b.end == BlockEnd::cond_branch ? leaves_for : !b.stops;
    if (!may_leave && (!b.flows() || guard.is_circle(at))) return does_not_fit(at);
    ran_free(at, out);
    if (may_leave) return true;
  }
}

void StretchWalk::ran_free(uint32_t at, std::vector<uint32_t>& out) {
  if (graph_->block(at).calls()) stack_.push(graph_->at(graph_->block(at).behind()));
  out.push_back(at);
}

}  // namespace hindcast::decode
