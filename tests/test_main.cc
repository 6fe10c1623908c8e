// The main of test programs: Google Test's, and one that runs each test in a process of its own without starting the program
// anew for each, which under AddressSanitizer takes longer than most tests.
//   X_test --each-alone=I/N    the tests I, I + N, I + 2 N, ... of the program, I from 0
// One line for each test; behind one that failed, what it wrote. The last line is their count. A test that crashes, exits or
// takes longer than kTimeLimit has failed, and the next one runs. The exit status is 0 when none failed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr unsigned kTimeLimit = 300;  // seconds, as ctest's

enum Verdict : char { running, passed, skipped };

[[noreturn]] void fail_start(const char* what) {
  std::perror(what);
  std::exit(2);
}

/// In the child: runs the test and exits as a program that holds no other would. Its verdict is written before the checks at
/// exit (for leaks), which the exit status tells.
[[noreturn]] void run_here(const std::string& name, int output, Verdict* verdict) {
  setpgid(0, 0);
  if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) fail_start("dup2");
  close(output);
  GTEST_FLAG_SET(filter, name);
  const int status = RUN_ALL_TESTS();
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  if (unit.test_to_run_count() != 1) {
    std::fprintf(stderr, "%d tests are called %s\n", unit.test_to_run_count(), name.c_str());
    std::exit(1);
  }
  *verdict = unit.skipped_test_count() == 1 ? skipped : passed;
  std::exit(status);
}

/// Waits for the child to end, and ends it and its group when its time is over; returns its wait status.
int wait_for(pid_t child, const sigset_t& child_ended, bool& late) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kTimeLimit);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      late = true;
      kill(-child, SIGKILL);
    }
    const timespec second{1, 0};
    sigtimedwait(&child_ended, nullptr, &second);
  }
  return status;
}

std::string how_it_ended(int status, bool late) {
  if (late) return "took longer than " + std::to_string(kTimeLimit) + " s";
  if (WIFSIGNALED(status)) return "killed by " + std::string(strsignal(WTERMSIG(status)));
  return "exit status " + std::to_string(WEXITSTATUS(status));
}

void copy_to_stdout(int file) {
  char bytes[4096];
  lseek(file, 0, SEEK_SET);
  for (ssize_t n; (n = read(file, bytes, sizeof bytes)) > 0;) std::fwrite(bytes, 1, static_cast<size_t>(n), stdout);
}

/// The names of the tests I, I + N, ..., but for those that are disabled.
std::vector<std::string> names_of(size_t index, size_t count) {
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  std::vector<std::string> names;
  size_t at = 0;
  for (int s = 0; s < unit.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *unit.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const std::string name = std::string(suite.name()) + "." + suite.GetTestInfo(t)->name();
      if (name.find("DISABLED_") == std::string::npos && at++ % count == index) names.push_back(name);
    }
  }
  return names;
}

int run_each_alone(size_t index, size_t count) {
  sigset_t child_ended, before;
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child_ended, &before);
  void* shared = mmap(nullptr, sizeof(Verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail_start("mmap");
  auto* verdict = static_cast<Verdict*>(shared);
  size_t good = 0, bad = 0, left_out = 0;
  for (const std::string& name : names_of(index, count)) {
    std::fflush(nullptr);
    const int output = memfd_create("output", MFD_CLOEXEC);
    if (output < 0) fail_start("memfd_create");
    *verdict = running;
    const auto begin = std::chrono::steady_clock::now();
    const pid_t child = fork();
    if (child < 0) fail_start("fork");
    if (child == 0) {
      sigprocmask(SIG_SETMASK, &before, nullptr);
      run_here(name, output, verdict);
    }
    bool late = false;
    const int status = wait_for(child, child_ended, late);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const bool ok = status == 0 && !late && *verdict != running;
    const bool skip = ok && *verdict == skipped;
    std::printf("%-7s %6.2f s  %s%s\n",
                !ok    ? "FAILED"
                : skip ? "skipped"
                       : "passed",
                took.count(), name.c_str(), ok ? "" : ("  (" + how_it_ended(status, late) + ")").c_str());
    if (!ok) copy_to_stdout(output);
    close(output);
    ++(!ok ? bad : skip ? left_out : good);
  }
  std::printf("%zu passed, %zu failed, %zu skipped\n", good, bad, left_out);
  return bad == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  size_t index = 0, count = 0;
  if (argc == 2 && std::sscanf(argv[1], "--each-alone=%zu/%zu", &index, &count) == 2 && index < count)
    return run_each_alone(index, count);
  return RUN_ALL_TESTS();
}
