#include "server/flow_reader.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "decode/disasm.h"
#include "decode/x86_insn.h"

namespace hindcast::server {
namespace {

/// "1, 2, 3 ... (12 in all)", so that a message stays one line.
template <class Rows, class Fn>
std::string list_of(const Rows& rows, const Fn& number) {
  std::string s;
  size_t shown = 0;
  for (const auto& row : rows) {
    if (++shown > 12) return s + " ... (" + std::to_string(rows.size()) + " in all)";
    s += (s.empty() ? "" : ", ") + std::to_string(number(row));
  }
  return s.empty() ? "none" : s;
}

bool has_address(const Event& e) {
  switch (e.kind) {
    case EventKind::block:
    case EventKind::enabled:
    case EventKind::async_disabled:
    case EventKind::async_branch:
      return true;
    case EventKind::disabled:
    case EventKind::ptwrite:
    case EventKind::gap:
      return e.ip != 0;
    default:
      return false;
  }
}

class FlowItems : public FlowReader {
 public:
  FlowItems(OpenSnapshot& snapshot, const FlowQuestion& question, std::unique_ptr<decode::SeekableFlow> cursor)
      : snapshot_(snapshot),
        question_(question),
        cursor_(std::move(cursor)),
        disassembler_(question.intel_syntax ? decode::AsmSyntax::intel : decode::AsmSyntax::att) {}

  bool next(FlowItem& out) override {
    if (at_ == held_) {
      held_ = cursor_->next(buffer_);
      at_ = 0;
      if (held_ == 0) return false;
    }
    fill(buffer_[at_++], out);
    return true;
  }

  uint64_t back(uint64_t items) override {
    const uint64_t ahead = held_ - at_;  // what the cursor has read and nobody has been given
    held_ = at_ = 0;
    uint64_t n = 0;
    while (n < ahead + items) {
      const size_t more = static_cast<size_t>(std::min<uint64_t>(buffer_.size(), ahead + items - n));
      const size_t got = cursor_->previous(std::span(buffer_).first(more));
      if (got == 0) break;
      n += got;
    }
    return n - ahead;
  }

  void seek(Tsc time) override {
    held_ = at_ = 0;
    cursor_->seek(time);
  }
  void seek_end() override {
    held_ = at_ = 0;
    cursor_->seek_end();
  }

  Result<void> seek_instruction(uint64_t number) override {
    const std::optional<uint64_t> all = cursor_->instructions();
    if (!all)
      return Error{Errc::usage,
                   "instructions have no numbers here",
                   {},
                   "they have them with the fast engine, when it goes on at the earliest safe packet"};
    held_ = at_ = 0;
    if (cursor_->seek_instruction(number)) return {};
    return Error{Errc::not_found,
                 "there is no instruction " + std::to_string(number),
                 *all == 0 ? "none is known to have run" : "the last one is " + std::to_string(*all - 1),
                 {}};
  }

 private:
  void fill(const decode::FlowEvent& e, FlowItem& out) {
    out.event = e.event;
    out.number = e.number == decode::kNoNumber ? std::nullopt : std::optional(e.number);
    out.tid = e.tid;
    out.pid = e.pid;
    out.cpu = e.cpu;
    out.stream = e.stream;
    out.place.reset();
    out.instructions.reset();
    out.instructions_missing = false;
    if (question_.detail == Detail::events || !has_address(e.event)) return;
    const Interval<RecordTime> time = snapshot_.trace->record_times_of(e);
    out.place = snapshot_.places->find(e.pid, time, Ip(e.event.ip));
    if (question_.detail != Detail::instructions || e.event.kind != EventKind::block) return;
    out.instructions = instructions(e, time, out.place);
    out.instructions_missing = out.instructions->size() < e.event.count;
  }

  /// A block that ran before costs a look-up.
  std::shared_ptr<const std::vector<Instruction>> instructions(const decode::FlowEvent& e, Interval<RecordTime> time,
                                                               const std::shared_ptr<const Place>& first) {
    const auto image = snapshot_.trace->image_of(e);
    const BlockKey key{image.get(), e.event.ip, e.event.last_ip, e.event.count};
    if (const auto it = blocks_.find(key); it != blocks_.end()) return it->second.instructions;
    auto list = std::make_shared<std::vector<Instruction>>();
    const auto addresses = image ? expander_.instructions(image, e.event) : std::span<const uint64_t>{};
    for (const uint64_t ip : addresses) {
      Instruction insn;
      insn.ip = ip;
      std::array<uint8_t, 15> bytes;
      const size_t known = image->read(Ip(ip), bytes);
      const size_t length = decode::decode_x86(ByteSpan(bytes.data(), known), Ip(ip)).length;
      insn.text = disassembler_.text(Ip(ip), ByteSpan(bytes.data(), length ? length : known));
      insn.place = ip == e.event.ip ? first : snapshot_.places->find(e.pid, time, Ip(ip));
      list->push_back(std::move(insn));
    }
    if (blocks_.size() >= kMaxBlocks) blocks_.clear();
    blocks_.emplace(key, KeptBlock{image, list});
    return list;
  }

  static constexpr size_t kMaxBlocks = size_t{1} << 16;
  struct BlockKey {
    const CodeImage* image;
    uint64_t ip, last_ip;
    uint32_t count;
    bool operator==(const BlockKey&) const = default;
  };
  struct BlockKeyHash {
    size_t operator()(const BlockKey& k) const {
      return (k.ip ^ (k.last_ip << 24) ^ (uint64_t{k.count} << 48) ^ reinterpret_cast<uintptr_t>(k.image)) *
             0x9e3779b97f4a7c15u;
    }
  };
  struct KeptBlock {
    std::shared_ptr<const CodeImage> image;  // kept, so that no other image gets its address
    std::shared_ptr<const std::vector<Instruction>> instructions;
  };

  OpenSnapshot& snapshot_;
  const FlowQuestion question_;
  std::unique_ptr<decode::SeekableFlow> cursor_;
  decode::Disassembler disassembler_;
  decode::BlockExpander expander_;
  std::unordered_map<BlockKey, KeptBlock, BlockKeyHash> blocks_;
  std::array<decode::FlowEvent, 256> buffer_;
  size_t at_ = 0, held_ = 0;
};

}  // namespace

Result<std::unique_ptr<decode::SeekableFlow>> open_cursor(const OpenSnapshot& snapshot, const FlowQuestion& question) {
  if (question.tid.has_value() + question.cpu.has_value() + question.stream.has_value() != 1)
    return Error{Errc::usage, "a flow is that of one thread, one CPU or one stream", {}, "name exactly one of them"};
  const decode::FlowOptions options{question.time, question.resync, question.engine};
  const decode::HostTrace& trace = *snapshot.trace;
  if (question.tid) {
    if (!trace.find_thread(*question.tid))
      return Error{Errc::not_found, "no thread " + std::to_string(question.tid->value()) + " in this snapshot",
                   "threads " + list_of(trace.threads(), [](const auto& t) { return t.tid.value(); }),
                   "list them with their names:  hindcast ls FILE"};
    return trace.thread_flow(*question.tid, options);
  }
  const auto matches = [&](const decode::CpuCoverage& c) {
    return question.cpu ? c.cpu == *question.cpu : c.stream == *question.stream;
  };
  for (const decode::CpuCoverage& c : trace.cpus())
    if (matches(c)) return trace.stream_flow(c.stream, options);
  const bool cpu = question.cpu.has_value();
  return Error{Errc::not_found,
               cpu ? "no trace of CPU " + std::to_string(question.cpu->value()) + " in this snapshot"
                   : "no PT stream " + std::to_string(*question.stream) + " in this snapshot",
               cpu ? "CPUs " + list_of(trace.cpus(), [](const auto& c) { return c.cpu.value(); })
                   : "PT streams " + list_of(trace.cpus(), [](const auto& c) { return c.stream; }),
               "list them:  hindcast ls FILE"};
}

Result<std::unique_ptr<FlowReader>> read_flow(OpenSnapshot& snapshot, const FlowQuestion& question) {
  HC_TRY(auto cursor, open_cursor(snapshot, question));
  return std::unique_ptr<FlowReader>(new FlowItems(snapshot, question, std::move(cursor)));
}

}  // namespace hindcast::server
