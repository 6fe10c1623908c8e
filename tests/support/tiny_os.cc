#include "tests/support/tiny_os.h"

#include <algorithm>

#include "hindcast/result.h"

namespace hindcast::test {

namespace {

/// Machine code, one instruction behind the other.
struct Assembler {
  std::vector<uint8_t> bytes;

  size_t here() const { return bytes.size(); }
  Assembler& put(std::initializer_list<int> code) {
    for (const int b : code) bytes.push_back(static_cast<uint8_t>(b));
    return *this;
  }
  Assembler& nops(size_t n) {
    bytes.insert(bytes.end(), n, uint8_t{0x90});
    return *this;
  }
  /// JZ over what `inside` writes.
  template <class F>
  Assembler& skip_if_zero(const F& inside) {
    put({0x74, 0});
    const size_t from = here();
    inside();
    bytes[from - 1] = static_cast<uint8_t>(here() - from);
    return *this;
  }
  Assembler& call(size_t to) {
    put({0xe8, 0, 0, 0, 0});
    const auto rel = static_cast<uint32_t>(to - here());
    for (size_t i = 0; i < 4; ++i) bytes[here() - 4 + i] = static_cast<uint8_t>(rel >> (8 * i));
    return *this;
  }
  Assembler& jump_back(size_t to) { return put({0xeb, static_cast<int>(static_cast<uint8_t>(to - here() - 2))}); }
};

/// Its functions lie at its beginning; a library is one of these, too.
std::vector<uint8_t> function(Random& random) {
  Assembler a;
  a.nops(1 + below(random, 4));
  a.skip_if_zero([&] { a.nops(1 + below(random, 5)); });
  a.nops(below(random, 3)).put({0xc3});
  return a.bytes;
}

constexpr size_t kMain = 32;

}  // namespace

TinyOs::TinyOs(uint64_t seed, const Options& options) : options_(options), random_(seed) {
  Assembler k;
  poked_ = k.here();
  k.put({0x74, 1}).nops(1).put({0xc3});  // JZ, which poke() makes two NOPs
  switch_ = k.here();
  k.skip_if_zero([&] { k.put({0x0f, 0x22, 0xd8}); });
  stack_switch_ = k.here();
  k.nops(1).put({0xc3});
  maybe_ = k.here();
  k.skip_if_zero([&] {
    k.nops(30).call(switch_);
    switched_ = k.here();
    k.nops(20);
  });
  k.put({0xc3});
  entry_ = k.here();
  k.nops(1);
  if (options.separate_tables) k.put({0x0f, 0x22, 0xd8});
  k.skip_if_zero([&] { k.nops(2).call(poked_); });
  k.call(maybe_).nops(1);
  if (options.separate_tables) k.put({0x0f, 0x22, 0xd8});
  k.put({0x48, 0x0f, 0x07});
  interrupt_ = k.here();
  k.nops(2);
  if (options.separate_tables) k.put({0x0f, 0x22, 0xd8});
  k.call(maybe_);
  if (options.separate_tables) k.put({0x0f, 0x22, 0xd8});
  k.put({0x48, 0xcf});
  kernel_ = k.bytes;

  for (unsigned p = 0; p < options.processes; ++p) {
    Process process;
    process.pid = static_cast<int32_t>(100 + 10 * p);
    process.cr3 = (p + 1) << 13;
    process.code = function(random_);
    process.code.resize(kMain, 0xcc);
    Assembler a;
    a.bytes = process.code;
    a.nops(below(random_, 6));
    a.skip_if_zero([&] { a.nops(1 + below(random_, 6)); });
    a.put({0xff, 0xd0}).nops(below(random_, 3)).put({0x0f, 0x05}).nops(below(random_, 3));
    a.jump_back(kMain);
    process.code = a.bytes;
    process.paths = {"/bin/p" + std::to_string(process.pid)};
    processes_.push_back(process);
    records_.at(0, process.pid, process.pid).comm(process.pid, process.pid, "p" + std::to_string(process.pid), true);
    records_.mmap2(process.pid, process.pid, kUser, 4096, 0, process.paths[0]);
    for (unsigned t = 0; t < options.threads; ++t) {
      Thread thread;
      thread.process = p;
      thread.tid = process.pid + static_cast<int32_t>(t);
      thread.ip = kUser + kMain;
      if (!threads_.empty()) {
        // As if it had been switched away from in an interrupt.
        thread.user_ip = thread.ip;
        thread.stack = {kKernel + interrupt_ + 2 + (options.separate_tables ? 3u : 0u) + 5u, kKernel + switched_};
        thread.ip = kKernel + stack_switch_;
      }
      threads_.push_back(thread);
    }
  }
  cr3_ = own().cr3;
  next_mtc_ = now_ / 16 * 16 + 16;
  next_switch_ = now_ + options.slice;
  records_.switch_in(now_ - 10, own().pid, self().tid, 0, 0);
  psb();
}

uint8_t TinyOs::byte(uint64_t ip) const {
  const Process& p = processes_[threads_[current_].process];
  const std::vector<uint8_t>* code = &p.code;
  uint64_t base = kUser;
  if (in_kernel(ip)) {
    code = &kernel_;
    base = kKernel;
  } else if (ip >= kLibrary) {
    code = &p.libraries.back();
    base = kLibrary;
  }
  HC_CHECK(ip - base < code->size());
  return (*code)[ip - base];
}

void TinyOs::tick(uint64_t ticks) {
  for (now_ += ticks; now_ >= next_mtc_; next_mtc_ += 16) {
    if (one_in(random_, 2)) flush();
    trace_.mtc(static_cast<uint8_t>(next_mtc_ >> 4));
  }
}

void TinyOs::flush() {
  if (!bits_.empty()) trace_.tnt(bits_);
  bits_.clear();
}
void TinyOs::bit(bool taken) {
  bits_ += taken ? 'T' : 'N';
  if (bits_.size() == 6) flush();
}
void TinyOs::tip(uint64_t ip) {
  flush();
  trace_.tip(ip);
}

void TinyOs::psb() {
  flush();
  trace_.psb().tsc(now_).tma(static_cast<uint16_t>(now_), 0).pip(cr3_).mode_exec().fup(self().ip).psbend();
  calls_.clear();
  last_psb_ = trace_.size();
}

void TinyOs::set_cr3(uint64_t cr3) {
  cr3_ = cr3;
  flush();
  trace_.pip(cr3);
}

/// The switch itself is where the kernel wants one; threads of one process come behind each other now and then.
void TinyOs::interrupt() {
  flush();
  trace_.fup(self().ip).tip(kKernel + interrupt_);
  self().user_ip = self().ip;
  self().ip = kKernel + interrupt_;
  wants_switch_ = true;
  next_switch_ = now_ + options_.slice / 2 + below(random_, options_.slice);
}

void TinyOs::map_library(size_t process) {
  for (const Thread& t : threads_)
    if (t.process == process && t.user_ip >= kLibrary) return;  // it has not come back from there
  Process& p = processes_[process];
  p.libraries.push_back(function(random_));
  p.paths.push_back("/lib/" + std::to_string(p.pid) + "." + std::to_string(p.libraries.size()));
  records_.at(now_, p.pid, self().tid).mmap2(p.pid, self().tid, kLibrary, 4096, 0, p.paths.back());
  unsure_.push_back(now_);
}

void TinyOs::poke() {
  const std::vector<uint8_t> jump = {0x74, 1}, nops = {0x90, 0x90};
  const std::vector<uint8_t> before(kernel_.begin() + static_cast<ptrdiff_t>(poked_),
                                    kernel_.begin() + static_cast<ptrdiff_t>(poked_ + 2));
  const auto& after = before == jump ? nops : jump;
  PerfBytes::Body body;
  body.u64(kKernel + poked_);
  for (const size_t n : {before.size(), after.size()}) {
    body.bytes.push_back(static_cast<uint8_t>(n));
    body.bytes.push_back(0);
  }
  body.bytes.insert(body.bytes.end(), before.begin(), before.end());
  body.bytes.insert(body.bytes.end(), after.begin(), after.end());
  while (body.bytes.size() % 8 != 0) body.bytes.push_back(0);
  records_.at(now_, own().pid, self().tid).record(perf::kTextPoke, 0, body);
  std::copy(after.begin(), after.end(), kernel_.begin() + static_cast<ptrdiff_t>(poked_));
  unsure_.push_back(now_);
}

/// What was sent since it began is lost.
void TinyOs::overflow() {
  flush();
  trace_.drop_last(trace_.size() - lost_from_).ovf().tsc(now_).tma(static_cast<uint16_t>(now_), 0).fup(self().ip);
  calls_.clear();
  last_psb_ = std::min(last_psb_, trace_.size());
  lost_until_ = 0;
}

void TinyOs::step() {
  if (lost_until_ != 0 && now_ >= lost_until_) overflow();
  if (options_.overflows && lost_until_ == 0 && one_in(random_, 4000)) {
    flush();
    lost_from_ = trace_.size();
    lost_until_ = now_ + 100 + below(random_, 6000);
  }
  const uint64_t ip = self().ip;
  if (!in_kernel(ip) && now_ >= next_switch_) {
    interrupt();
    return;
  }
  if (trace_.size() - last_psb_ > options_.psb_every) psb();
  ran_.push_back({ip, Tid(self().tid), now_});
  const uint8_t op = byte(ip);
  const auto direct = [&] { return ip + 2 + static_cast<uint64_t>(static_cast<int8_t>(byte(ip + 1))); };
  if (ip == kKernel + stack_switch_ && next_ != current_) current_ = next_;
  if (ip == kKernel + switched_ && wants_switch_) {
    wants_switch_ = false;
    tick(20);
    records_.switch_in(now_, own().pid, self().tid, 0, 0);
    unsure_.push_back(now_);
    tick(20);
  }
  uint64_t& to = self().ip;
  switch (op) {
    case 0x90:
      to = ip + 1;
      break;
    case 0x74: {
      bool taken = one_in(random_, 2);
      if (ip == kKernel + maybe_) {
        taken = !wants_switch_;
        if (wants_switch_) {
          do next_ = below(random_, threads_.size());
          while (next_ == current_ && threads_.size() > 1);
          records_.switch_out(now_, own().pid, self().tid, processes_[threads_[next_].process].pid,
                              threads_[next_].tid);
          unsure_.push_back(now_);
          tick(30);
        }
      } else if (ip == kKernel + switch_) {
        taken = threads_[next_].process == self().process;
      }
      bit(taken);
      to = taken ? direct() : ip + 2;
      break;
    }
    case 0xeb:
      to = direct();
      break;
    case 0xe8: {
      uint32_t rel = 0;
      for (unsigned i = 0; i < 4; ++i) rel |= static_cast<uint32_t>(byte(ip + 1 + i)) << (8 * i);
      to = ip + 5 + static_cast<uint64_t>(static_cast<int32_t>(rel));
      self().stack.push_back(ip + 5);
      calls_.push_back(ip + 5);
      break;
    }
    case 0xff:
      self().stack.push_back(ip + 2);
      calls_.push_back(ip + 2);
      to = !own().libraries.empty() && one_in(random_, 2) ? kLibrary : kUser;
      tip(to);
      break;
    case 0xc3: {
      to = self().stack.back();
      self().stack.pop_back();
      if (calls_.size() > 64) calls_.erase(calls_.begin());
      const bool known = !calls_.empty() && calls_.back() == to;
      if (!calls_.empty()) calls_.pop_back();
      if (known && options_.ret_compression)
        bit(true);
      else
        tip(to);
      break;
    }
    case 0x0f:
      if (byte(ip + 1) == 0x05) {
        self().user_ip = ip + 2;
        to = kKernel + entry_;
        tip(to);
        break;
      }
      {
        // MOV CR3: of the next thread's process, or between the kernel's tables and the user's.
        const bool switches = ip - kKernel > switch_ && ip - kKernel < stack_switch_;
        const uint64_t tables = switches ? processes_[threads_[next_].process].cr3 : cr3_ ^ 0x1000;
        set_cr3(switches && options_.separate_tables ? tables | 0x1000 : tables);
        to = ip + 3;
      }
      break;
    case 0x48:
      to = self().user_ip;
      tip(to);
      break;
    default:
      HC_CHECK(false);
  }
  // In a system call, whoever made it is in the kernel.
  if (ip == kKernel + entry_) {
    if (options_.maps && one_in(random_, 300)) map_library(self().process);
    if (options_.pokes && one_in(random_, 300)) poke();
  }
  tick(1 + below(random_, 3));
}

void TinyOs::run(size_t instructions) {
  for (const size_t end = ran_.size() + instructions; ran_.size() < end;) step();
}

TinyHost TinyOs::host() const {
  TinyHost h;
  SnapshotInfo& info = h.snapshot.info;
  info.user_only = false;
  info.cpu.tsc_ctc_num = info.cpu.tsc_ctc_den = 1;
  info.pt.mtc_period = 4;
  info.pt.noretcomp = !options_.ret_compression;
  if (options_.kernel_code_known) h.code(kNoPid, kKernel, kernel_);
  for (const Process& p : processes_)
    for (size_t i = 0; i < p.paths.size(); ++i) {
      h.image(i == 0 ? p.code : p.libraries[i - 1], p.paths[i]);
      info.images.back().kind = ImageKind::elf;
    }
  PtBytes trace = trace_;
  if (lost_until_ != 0)
    trace.drop_last(trace.size() - lost_from_);
  else if (!bits_.empty())
    trace.tnt(bits_);
  h.pt(CpuId(0), trace);
  h.sideband(CpuId(0), records_);
  return h;
}

std::vector<Tid> TinyOs::tids() const {
  std::vector<Tid> out;
  for (const Thread& t : threads_) out.push_back(Tid(t.tid));
  return out;
}

}  // namespace hindcast::test
