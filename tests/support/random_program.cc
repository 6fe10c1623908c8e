#include "tests/support/random_program.h"

#include <array>
#include <utility>

namespace hindcast::test {

RandomProgram::RandomProgram(Random& random, size_t n, uint64_t where, bool kernel) : base(where) {
  constexpr Ends kUser[] = {Ends::branch,        Ends::branch,        Ends::branch, Ends::branch,
                            Ends::branch,        Ends::jump,          Ends::call,   Ends::call,
                            Ends::indirect_jump, Ends::indirect_call, Ends::ret,    Ends::ret};
  constexpr Ends kKernel[] = {Ends::far_return, Ends::syscall, Ends::ptwrite, Ends::mov_cr3, Ends::vmptrld};
  units.resize(n);
  std::vector<size_t> patches;
  for (size_t i = 0; i < n; ++i) {
    Unit& u = units[i];
    u.ip = base + code.size();
    u.ends = i + 1 == n                    ? Ends::ret
             : kernel && one_in(random, 5) ? kKernel[below(random, std::size(kKernel))]
                                           : kUser[below(random, std::size(kUser))];
    u.to = below(random, n);
    u.taken = std::array{0.03, 0.5, 0.97}[below(random, 3)];
    const size_t nops = below(random, 5);
    u.instructions = static_cast<uint32_t>(nops) + 1;
    code.insert(code.end(), nops, 0x90);
    const auto put = [this](std::initializer_list<uint8_t> bytes) { code.insert(code.end(), bytes); };
    switch (u.ends) {
      case Ends::branch:
        put({0x0f, 0x85});
        break;
      case Ends::jump:
        put({0xe9});
        break;
      case Ends::call:
        put({0xe8});
        break;
      case Ends::ret:
        put({0xc3});
        break;
      case Ends::indirect_jump:
        put({0xff, 0xe0});
        break;
      case Ends::indirect_call:
        put({0xff, 0xd0});
        break;
      case Ends::far_return:
        put({0xcf});
        break;
      case Ends::syscall:
        put({0x0f, 0x05});
        break;
      case Ends::ptwrite:
        put({0xf3, 0x0f, 0xae, 0xe0});
        break;
      case Ends::mov_cr3:
        put({0x0f, 0x22, 0xd8});
        break;
      case Ends::vmptrld:
        put({0x0f, 0xc7, 0x30});
        break;
    }
    if (u.ends <= Ends::call) {
      patches.push_back(i);
      put({0, 0, 0, 0});
    }
    u.behind = base + code.size();
  }
  for (const size_t i : patches) {
    const auto distance = static_cast<uint32_t>(units[units[i].to].ip - units[i].behind);
    const size_t place = units[i].behind - base - 4;
    for (size_t b = 0; b < 4; ++b) code[place + b] = static_cast<uint8_t>(distance >> 8 * b);
  }
}

RandomCpu::RandomCpu(const RandomProgram& program, Random& random, const Options& options)
    : program_(program),
      random_(random),
      options_(options),
      ptwrite_traced_(options.kernel && one_in(random, 2)),
      passed_(program.units.size(), 0) {}

void RandomCpu::begin() {
  if (one_in(random_, 2)) {
    psb(true);
    used();
  } else {
    psb(false);
    turn_on(0, 0);
  }
}

void RandomCpu::run(size_t branches) {
  branches_ = branches;
  while (branches_ > 0 && !circles_) run_unit();
}

void RandomCpu::stop() {
  flush();
  lose();
}

void RandomCpu::end() {
  flush();
  if (circles_ || passed_[at_] == uses_) return lose();
  ip_packet(&PtBytes::fup, here());
  trace_.tip_pgd();
  used();
  lose();
}

void RandomCpu::run_unit() {
  const RandomProgram::Unit& u = program_.units[at_];
  const bool again = std::exchange(passed_[at_], uses_) == uses_ && skip_ == 0;
  if (options_.timing) timing();
  if (!again && below(random_, 1000) < options_.events_per_1000)
    return happen(skip_ + static_cast<uint32_t>(below(random_, u.instructions - skip_)));
  ran(skip_, u.instructions);
  skip_ = 0;
  if (++free_ > 2 * program_.units.size() + 2) {
    circles_ = true;
    return;
  }
  // Of several branches with the same target the first one counts.
  const bool leaves =
      below(random_, 2000) < options_.events_per_1000 && !again && (u.ends > Ends::jump || passed_[u.to] != uses_);
  switch (u.ends) {
    case Ends::branch: {
      if (leaves) return leave_at_branch(u);
      const bool taken = static_cast<double>(below(random_, 1000)) < 1000 * u.taken;
      bit(taken);
      at_ = taken ? u.to : at_ + 1;
      break;
    }
    case Ends::call:
      if (program_.units[u.to].ip != u.behind) call(at_ + 1);
      at_ = u.to;
      break;
    case Ends::jump:
      if (leaves) return leave_at_branch(u);
      at_ = u.to;
      break;
    case Ends::indirect_call:
      call(at_ + 1);
      at_ = any_unit();
      tip(program_.units[at_].ip);
      break;
    case Ends::indirect_jump:
      if (leaves) return leave_at_branch(u);
      at_ = any_unit();
      tip(program_.units[at_].ip);
      break;
    case Ends::ret: {
      const bool knows = !processor_.empty();
      at_ = calls_.empty() ? any_unit() : calls_.back();
      if (!calls_.empty()) calls_.pop_back();
      if (knows) processor_.pop_back();
      if (knows && options_.ret_compression)
        bit(true);
      else
        tip(program_.units[at_].ip, options_.deferred_returns);
      break;
    }
    case Ends::far_return:
    case Ends::syscall:
      if (leaves || !options_.kernel || one_in(random_, 2)) return leave_at_branch(u);
      at_ = any_unit();
      flush();
      if (one_in(random_, 4)) pip();
      if (one_in(random_, 4)) vmcs();
      // Where the address was passed before, libipt takes the change for one that came there.
      if (one_in(random_, 3)) mode_of(passed_[at_] == uses_ ? mode_ : some_mode());
      tip(program_.units[at_].ip);
      break;
    case Ends::ptwrite:
      if (ptwrite_traced_) {
        flush();
        const bool with_ip = one_in(random_, 2);
        trace_.raw({0x02, with_ip ? 0xb2 : 0x32}).le(random_(), 8);
        if (with_ip) ip_packet(&PtBytes::fup, u.ip + u.instructions - 1);
      }
      ++at_;
      break;
    case Ends::mov_cr3:
      flush();
      pip();
      cr3_set_ = true;
      ++at_;
      break;
    case Ends::vmptrld:
      flush();
      vmcs();
      ++at_;
      break;
  }
}

/// TIP.PGD: with the target where it is not inside the code.
void RandomCpu::leave_at_branch(const RandomProgram::Unit& unit) {
  flush();
  if (unit.ends == Ends::branch || unit.ends == Ends::jump)
    ip_packet(&PtBytes::tip_pgd, program_.units[unit.to].ip);
  else {
    if (options_.kernel && unit.ends >= Ends::far_return && one_in(random_, 4)) pip();
    if (!cr3_set_ && (unit.ends == Ends::syscall || one_in(random_, 2)))
      trace_.tip_pgd();
    else
      ip_packet(&PtBytes::tip_pgd, program_.base - 1 - below(random_, 0x800));
  }
  used();
  if (unit.ends == Ends::syscall && !one_in(random_, 4))
    turn_on(at_ + 1, 0);
  else
    turn_on(any_unit(), 0);
}

/// Before that instruction of the unit runs.
void RandomCpu::happen(uint32_t instruction) {
  ran(skip_, instruction);
  skip_ = instruction;
  flush();
  switch (below(random_, options_.kernel ? 8 : 3)) {
    case 0:
      if (options_.psbs_apart && psb_branches_ == branches_) break;
      psb_branches_ = branches_;
      psb(true);
      used();
      break;
    case 1:
    case 2:
      if (options_.overflows && one_in(random_, 4)) return overflow();
      ip_packet(&PtBytes::fup, here());
      if (one_in(random_, 2))
        trace_.tip_pgd();
      else
        ip_packet(&PtBytes::tip_pgd, program_.base - 1 - below(random_, 0x800));
      used();
      if (one_in(random_, 3))
        turn_on(any_unit(), 0);
      else
        turn_on(at_, skip_);
      break;
    case 3:
    case 4:
      ip_packet(&PtBytes::fup, here());
      if (one_in(random_, 3)) pip();
      if (one_in(random_, 4)) vmcs();
      at_ = any_unit();
      skip_ = 0;
      if (one_in(random_, 3)) mode_of(some_mode());
      ip_packet(&PtBytes::tip, here());
      used();
      break;
    case 5:
      in_transaction_ = !in_transaction_;
      trace_.mode_tsx(in_transaction_ ? 1 : 0);
      ip_packet(&PtBytes::fup, here());
      break;
    case 6:
      if (!in_transaction_) break;
      in_transaction_ = false;
      trace_.mode_tsx(2);
      ip_packet(&PtBytes::fup, here());
      if (one_in(random_, 4)) {
        trace_.tip_pgd();
        used();
        turn_on(any_unit(), 0);
        break;
      }
      at_ = any_unit();
      skip_ = 0;
      ip_packet(&PtBytes::tip, here());
      used();
      break;
    default:
      if (one_in(random_, 3)) {
        trace_.raw({0x02, 0x62});
        break;
      }
      if (one_in(random_, 2)) trace_.raw({0x02, 0xc2}).le(0x21, 8).raw({0x02, 0x22, 0, 0x20});
      trace_.raw({0x02, 0xe2});
      ip_packet(&PtBytes::fup, here());
      if (one_in(random_, 2)) trace_.raw({0x02, 0xa2}).le(0x122, 5);
      break;
  }
}

void RandomCpu::turn_on(size_t unit, uint32_t instruction) {
  at_ = unit;
  skip_ = instruction;
  if (one_in(random_, 4)) trace_.trace_stop();
  if (one_in(random_, 4)) trace_.pip(below(random_, 16) << 12);
  if (options_.timing) timing();
  if (one_in(random_, 6)) {
    psb(false);
    if (options_.announces && one_in(random_, 4)) {
      trace_.drop_last(2);
      mode_of(mode_);
      ip_packet(&PtBytes::fup, here());
      trace_.psbend();
      last_ip_ = 0;  // it is not known whether the TIP.PGE may build on it
    }
  }
  if (options_.kernel && program_.base >> 32 == 0 && one_in(random_, 8)) mode_ = 3 - mode_;
  mode_of(mode_);
  ip_packet(&PtBytes::tip_pge, here());
  used();
}

/// Whatever ran on meanwhile.
void RandomCpu::overflow() {
  lose();
  at_ = any_unit();
  skip_ = 0;
  calls_.clear();
  processor_.clear();
  trace_.ovf();
  in_transaction_ = false;
  last_ip_ = 0;
  switch (below(random_, 3)) {
    case 0:
      ip_packet(&PtBytes::fup, here());
      break;
    case 1:
      psb(true);
      break;
    default:
      psb(false);
      return turn_on(at_, skip_);
  }
  used();
}

void RandomCpu::psb(bool on) {
  trace_.psb();
  last_ip_ = 0;
  processor_.clear();
  if (options_.timing) trace_.tsc(now_).tma(static_cast<uint16_t>(now_), 0);
  if (options_.timing) mtc_ = now_ >> options_.mtc_period;
  if (one_in(random_, 4)) trace_.pip(below(random_, 16) << 12);
  if (one_in(random_, 4)) trace_.cbr(static_cast<uint8_t>(1 + below(random_, 40)));
  if (on) {
    trace_.mode_tsx(in_transaction_ ? 1 : 0);
    mode_of(mode_);
    ip_packet(&PtBytes::fup, here());
  }
  trace_.psbend();
}

void RandomCpu::timing() {
  now_ += below(random_, 50);
  if (now_ >> options_.mtc_period != mtc_) {
    mtc_ = now_ >> options_.mtc_period;
    trace_.mtc(static_cast<uint8_t>(mtc_));
  }
  switch (below(random_, 24)) {
    case 0:
      trace_.tsc(now_);
      break;
    case 1:
      trace_.cbr(static_cast<uint8_t>(1 + below(random_, 40)));
      break;
    case 2:
      trace_.pad(static_cast<int>(below(random_, 9)));
      break;
    case 3:
    case 4:
    case 5:
      // Not one behind the other, which on some CPUs is an OVF (erratum SKD007).
      if (cyc_end_ == trace_.size()) break;
      trace_.cyc(below(random_, 100));
      cyc_end_ = trace_.size();
      break;
    default:
      break;
  }
}

/// The same mostly, or another one where its addresses are.
int RandomCpu::some_mode() { return one_in(random_, 3) && program_.base >> 32 == 0 ? 3 - mode_ : mode_; }

void RandomCpu::mode_of(int bits) {
  mode_ = bits;
  trace_.mode_exec(bits);
}

void RandomCpu::flush() {
  const size_t longest = options_.long_tnt ? 47 : 6;
  while (!bits_.empty()) {
    const std::string packet = bits_.substr(0, longest);
    bits_.erase(0, packet.size());
    if (packet.size() > 6)
      trace_.tnt64(packet);
    else
      trace_.tnt(packet);
  }
  for (const uint64_t ip : held_) ip_packet(&PtBytes::tip, ip);
  held_.clear();
}

void RandomCpu::bit(bool taken) {
  bits_ += taken ? 'T' : 'N';
  used();
  if (bits_.size() == (options_.long_tnt ? 47 : 6)) flush();
  --branches_;
}

void RandomCpu::tip(uint64_t ip, bool may_wait) {
  // With RET compression a RET must be told from one with a bit, so nothing may be deferred.
  if (options_.ret_compression || !may_wait || bits_.empty() || one_in(random_, 2)) {
    flush();
    ip_packet(&PtBytes::tip, ip);
  } else {
    held_.push_back(ip);
  }
  used();
  --branches_;
}

/// In any of the forms that give the address back.
void RandomCpu::ip_packet(PtBytes& (PtBytes::*packet)(uint64_t, int), uint64_t ip) {
  const uint64_t differs = ip ^ last_ip_;
  const bool canonical = static_cast<uint64_t>(static_cast<int64_t>(ip << 16) >> 16) == ip;
  const bool legal[] = {false, differs >> 16 == 0, differs >> 32 == 0, canonical, differs >> 48 == 0, false, true};
  size_t form = 0;
  while (!legal[form]) form = below(random_, std::size(legal));
  (trace_.*packet)(ip, static_cast<int>(form));
  last_ip_ = ip;
}

void RandomCpu::call(size_t back) {
  calls_.push_back(back);
  processor_.push_back(back);
  if (processor_.size() > 64) processor_.erase(processor_.begin());
}

void RandomCpu::used() {
  cr3_set_ = false;
  ++uses_;
  free_ = 0;
  parts_.back().shown = parts_.back().ran.size();
}

void RandomCpu::lose() {
  parts_.emplace_back();
  ++uses_;
  free_ = 0;
}

void RandomCpu::ran(uint32_t from, uint32_t to) {
  if (to > from) parts_.back().ran.push_back({program_.units[at_].ip + from, to - from});
}

}  // namespace hindcast::test
