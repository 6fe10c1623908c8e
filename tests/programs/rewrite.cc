// Writes code, runs it, writes other code at the same address, and runs that, in one thread or in two that take turns.
//   rewrite sealed|open [THREADS [ROUNDS [DUMP_FOLDER]]]
// sealed: memory is never writable and executable at once; open: it is both, and no system call tells of a change. With
// DUMP_FOLDER it writes a jitdump of what it does, and a perf map of what it does not dump, as a JIT compiler would.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr size_t kPage = 4096;
using Function = uint64_t (*)(uint64_t);

/// sum of 0..n-1, times factor; odd generations have a jump more, so that packets tell the two apart.
std::vector<uint8_t> function(uint8_t factor, bool with_jump) {
  std::vector<uint8_t> code = {0x31, 0xc0};                                // xor eax,eax
  code.insert(code.end(), {0x48, 0x85, 0xff, 0x74, 0x0b});                 // test rdi,rdi; jz end
  code.insert(code.end(), {0x48, 0xff, 0xcf, 0x48, 0x01, 0xf8});           // loop: dec rdi; add rax,rdi
  code.insert(code.end(), {0x48, 0x85, 0xff, 0x75, 0xf5});                 // test rdi,rdi; jnz loop
  if (with_jump) code.insert(code.end(), {0x48, 0x85, 0xc0, 0x75, 0x00});  // end: test rax,rax; jnz over nothing
  code.insert(code.end(), {0x48, 0x6b, 0xc0, factor, 0xc3});               // imul rax,rax,factor; ret
  return code;
}

/// jit-PID.dump in a folder, mapped executable as the convention has it (Linux, tools/perf/Documentation).
class JitDump {
 public:
  explicit JitDump(const std::string& folder) {
    if (folder.empty()) return;
    fd_ = open((folder + "/jit-" + std::to_string(getpid()) + ".dump").c_str(), O_CREAT | O_TRUNC | O_RDWR, 0644);
    put<uint32_t>(0x4a695444);
    put<uint32_t>(1);
    put<uint32_t>(40);
    put<uint32_t>(62);
    put<uint32_t>(0);
    put<uint32_t>(static_cast<uint32_t>(getpid()));
    put<uint64_t>(now());
    put<uint64_t>(0);
    flush();
    marker_ = mmap(nullptr, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd_, 0);
    if (fd_ < 0 || marker_ == MAP_FAILED) _exit(9);
  }
  void load(const uint8_t* code, size_t bytes, const std::string& name) {
    if (fd_ < 0) return;
    put<uint32_t>(0);
    put<uint32_t>(static_cast<uint32_t>(16 + 40 + name.size() + 1 + bytes));
    put<uint64_t>(now());
    put<uint32_t>(static_cast<uint32_t>(getpid()));
    put<uint32_t>(static_cast<uint32_t>(gettid()));
    put<uint64_t>(reinterpret_cast<uint64_t>(code));
    put<uint64_t>(reinterpret_cast<uint64_t>(code));
    put<uint64_t>(bytes);
    put<uint64_t>(++index_);
    out_.insert(out_.end(), name.c_str(), name.c_str() + name.size() + 1);
    out_.insert(out_.end(), code, code + bytes);
    flush();
  }

 private:
  static uint64_t now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
  }
  template <class T>
  void put(T v) {
    const auto* p = reinterpret_cast<const uint8_t*>(&v);
    out_.insert(out_.end(), p, p + sizeof v);
  }
  void flush() {
    if (write(fd_, out_.data(), out_.size()) != static_cast<ssize_t>(out_.size())) _exit(9);
    out_.clear();
  }
  int fd_ = -1;
  void* marker_ = nullptr;
  uint64_t index_ = 0;
  std::vector<uint8_t> out_;
};

std::string perf_map() { return "/tmp/perf-" + std::to_string(getpid()) + ".map"; }

void name_in_perf_map(const uint8_t* code, size_t bytes, const char* name) {
  if (FILE* f = std::fopen(perf_map().c_str(), "a")) {
    std::fprintf(f, "%llx %zx %s\n", static_cast<unsigned long long>(reinterpret_cast<uint64_t>(code)), bytes, name);
    std::fclose(f);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool sealed = argc > 1 && std::strcmp(argv[1], "sealed") == 0;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 1, rounds = argc > 3 ? std::atoi(argv[3]) : 8;
  const std::string folder = argc > 4 ? argv[4] : "";
  JitDump dump(folder);
  const int both = PROT_READ | PROT_WRITE | (sealed ? 0 : PROT_EXEC);
  auto* code = static_cast<uint8_t*>(mmap(nullptr, 2 * kPage, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (code == MAP_FAILED) return 1;
  // Never changed, and in no jitdump: its name is in the perf map alone.
  uint8_t* steady = code + kPage;
  const auto first = function(3, false);
  std::memcpy(steady, first.data(), first.size());
  if (!folder.empty()) name_in_perf_map(steady, first.size(), "steady_function");

  std::atomic<int> turn{0};
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const auto run = [&](int self) {
    for (int round = self; round < rounds; round += threads) {
      while (turn.load(std::memory_order_acquire) != round) usleep(100);
      uint8_t* at = code + 64;
      const auto text = function(static_cast<uint8_t>(round % 100 + 1), round % 2);
      if (sealed && mprotect(code, 2 * kPage, PROT_READ | PROT_WRITE) != 0) _exit(2);
      std::memcpy(at, text.data(), text.size());
      if (sealed && mprotect(code, 2 * kPage, PROT_READ | PROT_EXEC) != 0) _exit(3);
      dump.load(at, text.size(), "made_in_round_" + std::to_string(round));
      const auto made = reinterpret_cast<Function>(at), old = reinterpret_cast<Function>(steady);
      for (uint64_t i = 0; i < 300; ++i) sums[static_cast<size_t>(self)] += made(i % 40) + old(i % 20);
      usleep(2000);
      turn.store(round + 1, std::memory_order_release);
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& t : others) t.join();
  if (!folder.empty()) {
    usleep(1500000);  // perf maps are looked for once a second
    unlink(perf_map().c_str());
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  std::printf("%llu\n", static_cast<unsigned long long>(sum));
  return 0;
}
