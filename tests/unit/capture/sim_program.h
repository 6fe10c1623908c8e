// A made-up x86-64 program and a made-up walk through it: what the encoder's tests and bench feed it with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "capture/sim/block_info.h"
#include "capture/sim/seeded_random.h"

namespace hindcast::sim {

/// Random functions of random blocks at `base`. Block 0 of each function is its entry.
class SyntheticProgram {
 public:
  SyntheticProgram(uint64_t base, uint64_t seed, unsigned functions = 40, double indirect_share = 0.15)
      : base_(base), random_(seed, 77) {
    struct Planned {
      uint64_t at;
      unsigned function, index;
      Terminator kind;
      unsigned target_function, target_index;
    };
    std::vector<Planned> plan;
    std::vector<unsigned> first_block;
    std::vector<unsigned> counts;
    for (unsigned f = 0; f < functions; ++f) counts.push_back(static_cast<unsigned>(random_.between(2, 12)));
    // pass 1: straight code and room for the last instruction
    for (unsigned f = 0; f < functions; ++f) {
      first_block.push_back(static_cast<unsigned>(blocks_.size()));
      for (unsigned i = 0; i < counts[f]; ++i) {
        BlockInfo b;
        b.ip = base_ + code_.size();
        std::vector<uint8_t> lengths;
        for (uint64_t k = random_.between(0, 6); k > 0; --k) lengths.push_back(put_filler());
        Planned p{base_ + code_.size(), f, i, pick_kind(i + 1 == counts[f], indirect_share), 0, 0};
        // Jumps and direct calls only go forward: a loop without any packet could be cut by an interrupt at places that
        // no decoder can count.
        if (p.kind == Terminator::call && f + 1 == functions) p.kind = Terminator::call_zero;
        p.target_index = static_cast<unsigned>(random_.between(p.kind == Terminator::jump ? i + 1 : 0, counts[f] - 1));
        p.target_function = static_cast<unsigned>(random_.between(std::min(f + 1, functions - 1), functions - 1));
        lengths.push_back(put_terminator(p.kind));
        b.bytes = static_cast<uint16_t>(base_ + code_.size() - b.ip);
        b.instructions = static_cast<uint16_t>(lengths.size());
        b.kind = p.kind;
        lengths_.push_back(std::make_unique<std::vector<uint8_t>>(lengths));
        b.lengths = lengths_.back()->data();
        blocks_.push_back(b);
        function_of_.push_back(f);
        plan.push_back(p);
      }
    }
    // pass 2: displacements
    for (size_t i = 0; i < blocks_.size(); ++i) {
      BlockInfo& b = blocks_[i];
      const Planned& p = plan[i];
      const uint64_t fall = b.fall();
      uint64_t target = fall;
      if (b.kind == Terminator::cond || b.kind == Terminator::jump)
        target = blocks_[first_block[p.function] + p.target_index].ip;
      if (b.kind == Terminator::call) target = blocks_[first_block[p.target_function]].ip;
      if (b.kind == Terminator::cond || b.kind == Terminator::jump || b.kind == Terminator::call ||
          b.kind == Terminator::call_zero) {
        const auto displacement = static_cast<int32_t>(static_cast<int64_t>(target - fall));
        std::memcpy(code_.data() + (fall - base_ - 4), &displacement, 4);
        b.target = target;
      }
      if (b.kind == Terminator::none || b.kind == Terminator::far) b.target = fall;
      if (b.kind == Terminator::call && target == fall) b.kind = Terminator::call_zero;
    }
    first_block_ = first_block;
    for (size_t i = 0; i < blocks_.size(); ++i) by_ip_.push_back({blocks_[i].ip, static_cast<uint32_t>(i)});
  }

  const std::vector<BlockInfo>& blocks() const { return blocks_; }
  const std::vector<uint8_t>& code() const { return code_; }
  uint64_t base() const { return base_; }
  unsigned functions() const { return static_cast<unsigned>(first_block_.size()); }
  uint32_t entry(unsigned function) const { return first_block_[function]; }
  uint32_t function_of(uint32_t id) const { return function_of_[id]; }
  uint32_t id_at(uint64_t ip) const {
    auto it = std::lower_bound(by_ip_.begin(), by_ip_.end(), std::pair<uint64_t, uint32_t>{ip, 0});
    HC_CHECK(it != by_ip_.end() && it->first == ip);
    return it->second;
  }
  bool contains(uint64_t ip) const { return ip >= base_ && ip < base_ + code_.size(); }
  void append_ips(uint32_t id, uint32_t from, uint32_t to, std::vector<uint64_t>& out) const {
    uint64_t at = blocks_[id].ip_of(from);
    for (uint32_t i = from; i < to; ++i) {
      out.push_back(at);
      at += blocks_[id].lengths[i];
    }
  }

 private:
  void put(std::initializer_list<int> bytes) {
    for (int b : bytes) code_.push_back(static_cast<uint8_t>(b));
  }
  uint8_t put_filler() {
    const size_t before = code_.size();
    switch (random_.next() % 5) {
      case 0:
        put({0x90});
        break;
      case 1:
        put({0x48, 0x89, 0xc8});
        break;  // mov %rcx,%rax
      case 2:
        put({0x48, 0x8d, 0x84, 0x24, 0x10, 0, 0, 0});
        break;  // lea 0x10(%rsp),%rax
      case 3:
        put({0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8});
        break;  // movabs
      default:
        put({0xff, 0xc0});
        break;  // inc %eax
    }
    return static_cast<uint8_t>(code_.size() - before);
  }
  Terminator pick_kind(bool last, double indirect_share) {
    const double r = random_.unit();
    if (last) return r < 0.8 ? Terminator::ret : Terminator::indirect_jump;
    if (r < indirect_share / 2) return Terminator::indirect_call;
    if (r < indirect_share * 0.6) return Terminator::indirect_jump;
    if (r < 0.60) return Terminator::cond;
    if (r < 0.66) return Terminator::jump;
    if (r < 0.84) return Terminator::call;
    if (r < 0.86) return Terminator::call_zero;
    if (r < 0.88) return Terminator::far;
    if (r < 0.94) return Terminator::none;
    return Terminator::ret;
  }
  uint8_t put_terminator(Terminator k) {
    const size_t before = code_.size();
    switch (k) {
      case Terminator::none:
        put({0x90});
        break;
      case Terminator::cond:
        put({0x0f, 0x84, 0, 0, 0, 0});
        break;
      case Terminator::jump:
        put({0xe9, 0, 0, 0, 0});
        break;
      case Terminator::call:
      case Terminator::call_zero:
        put({0xe8, 0, 0, 0, 0});
        break;
      case Terminator::ret:
        put({0xc3});
        break;
      case Terminator::indirect_jump:
        put({0xff, 0xe0});
        break;
      case Terminator::indirect_call:
        put({0xff, 0xd0});
        break;
      case Terminator::far:
        put({0x0f, 0x05});
        break;
    }
    return static_cast<uint8_t>(code_.size() - before);
  }

  uint64_t base_;
  SeededRandom random_;
  std::vector<uint8_t> code_;
  std::vector<BlockInfo> blocks_;
  std::vector<std::unique_ptr<std::vector<uint8_t>>> lengths_;
  std::vector<unsigned> first_block_, function_of_;
  std::vector<std::pair<uint64_t, uint32_t>> by_ip_;
};

/// Walks a program at random, with a call stack as deep as it gets and now and then a longjmp.
class SyntheticWalk {
 public:
  SyntheticWalk(const SyntheticProgram& program, uint64_t seed, unsigned max_depth = 200)
      : program_(program), random_(seed, 78), max_depth_(max_depth), current_(program.entry(0)) {}

  uint32_t current() const { return current_; }
  /// current() ran to its end; chooses what runs next.
  uint32_t step() {
    const BlockInfo& b = program_.blocks()[current_];
    uint64_t next = b.fall();
    switch (b.kind) {
      case Terminator::cond:
        next = random_.chance(0.5) ? b.target : b.fall();
        break;
      case Terminator::jump:
      case Terminator::call_zero:
        next = b.target;
        break;
      case Terminator::call:
        push(b.fall());
        next = b.target;
        break;
      case Terminator::indirect_call:
        push(b.fall());
        next = entry();
        break;
      case Terminator::indirect_jump:
        next = entry();
        break;
      case Terminator::ret:
        if (!stack_.empty() && random_.chance(0.02)) stack_.resize(random_.between(0, stack_.size() - 1));  // longjmp
        if (stack_.empty() || stack_.size() > max_depth_) {
          stack_.clear();
          next = entry();
        } else {
          next = stack_.back();
          stack_.pop_back();
        }
        break;
      case Terminator::none:
      case Terminator::far:
        break;
    }
    return current_ = program_.id_at(next);
  }
  /// Control goes elsewhere (a signal handler).
  void jump_to(uint32_t id) { current_ = id; }

 private:
  void push(uint64_t ip) { stack_.push_back(ip); }
  uint64_t entry() {
    return program_.blocks()[program_.entry(static_cast<unsigned>(random_.between(0, program_.functions() - 1)))].ip;
  }

  const SyntheticProgram& program_;
  SeededRandom random_;
  unsigned max_depth_;
  uint32_t current_;
  std::vector<uint64_t> stack_;
};

}  // namespace hindcast::sim
