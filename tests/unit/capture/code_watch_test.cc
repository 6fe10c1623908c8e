// Executable memory that changes, looked at in a process of the real kernel: this one. Times are the test's own.
#include "capture/code_watch.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace hindcast::capture {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Asked each time: a test may run in a child of the program.
Pid self() { return Pid(::getpid()); }
constexpr uint64_t kPage = 4096;

class CodeWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    code_ = static_cast<uint8_t*>(
        ::mmap(nullptr, 3 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASSERT_NE(code_, MAP_FAILED);
    code_ += kPage;  // with a neighbour on each side that is no code
  }
  void TearDown() override { ::munmap(code_ - kPage, 3 * kPage); }

  uint64_t at() const { return reinterpret_cast<uint64_t>(code_); }
  /// As a JIT compiler does it that never has memory writable and executable; the record of the second call.
  void write_sealed(uint8_t fill, uint64_t time) {
    ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_WRITE), 0);
    std::memset(code_, fill, kPage);
    ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_EXEC), 0);
    record(PROT_READ | PROT_EXEC, time);
  }
  void write_open(uint8_t fill) {
    ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    std::memset(code_, fill, kPage);
  }
  void record(uint32_t prot, uint64_t time) {
    MapRecord m;
    m.pid = self();
    m.start = at();
    m.length = kPage;
    m.prot = prot;
    m.path = "//anon";
    watch_.on_map(m, RecordTime(time), Tid(33));
  }
  void look(uint64_t before, uint64_t after) {
    bool first = true;
    watch_.look_at(self(), [&] { return RecordTime(std::exchange(first, false) ? before : after); });
  }
  /// "fill from..to", and by whom, of the page.
  std::vector<std::string> versions(uint64_t complete = ~0ull) {
    watch_.settle(RecordTime(complete));
    std::vector<std::string> out;
    for (const auto& v : watch_.versions()) {
      const PlacementInfo& p = v.placements.front();
      if (at() < p.address || at() >= p.address + p.length) continue;
      const auto number = [](RecordTime t) { return t == RecordTime::max() ? "max" : std::to_string(t.value()); };
      out.push_back(std::to_string(v.bytes.at(at() - p.address)) + " " + number(p.from) + ".." + number(p.to) +
                    (p.by == kNoTid ? "" : " by " + std::to_string(p.by.value())));
    }
    return out;
  }
  std::vector<std::string> unknown() {
    std::vector<std::string> out;
    for (const UnknownCode& u : watch_.unknown())
      if (u.address <= at() && at() < u.address + u.length)
        out.push_back(std::to_string(u.from.value()) + ".." + std::to_string(u.to.value()));
    return out;
  }

  uint8_t* code_ = nullptr;
  CodeWatch watch_;
};

TEST_F(CodeWatchTest, WritableCodeIsUnknownBetweenTwoLooksThatDiffer) {
  write_open(1);
  record(PROT_READ | PROT_WRITE | PROT_EXEC, 10);
  look(20, 21);
  look(30, 31);
  write_open(2);
  look(40, 41);
  EXPECT_THAT(versions(), ElementsAre("1 21..30")) << "the other one may have been read while it was written";
  look(50, 51);
  EXPECT_THAT(versions(), ElementsAre("1 21..30", "2 41..50"));
  EXPECT_THAT(unknown(), ElementsAre("10..21", "30..41"));
}

TEST_F(CodeWatchTest, CodeThatIsNeverWritableChangesWhereItsRecordSays) {
  write_sealed(1, 10);
  look(20, 21);
  write_sealed(2, 30);
  look(40, 41);
  look(50, 51);
  EXPECT_THAT(versions(), ElementsAre("1 10..30 by 33", "2 30..50 by 33"));
  EXPECT_THAT(unknown(), IsEmpty());
}

TEST_F(CodeWatchTest, AVersionThatNoLookMetIsUnknown) {
  write_sealed(1, 10);
  look(20, 21);
  write_sealed(2, 30);
  write_sealed(3, 35);
  look(40, 41);
  EXPECT_THAT(versions(), ElementsAre("1 10..30 by 33", "3 35..40 by 33"));
  EXPECT_THAT(unknown(), ElementsAre("30..35"));
}

TEST_F(CodeWatchTest, ARecordWhilePagesAreReadMakesTheLookUnusable) {
  write_sealed(1, 10);
  look(20, 21);
  write_sealed(2, 30);
  look(29, 31);
  look(40, 41);
  EXPECT_THAT(versions(), ElementsAre("1 10..30 by 33", "2 30..40 by 33"));
}

TEST_F(CodeWatchTest, ALookWaitsForTheRecordsOfItsTime) {
  write_sealed(1, 10);
  look(20, 21);
  EXPECT_THAT(versions(20), IsEmpty());
  EXPECT_THAT(versions(21), ElementsAre("1 10..20 by 33"));
}

TEST_F(CodeWatchTest, WhereRecordsWereLostNothingIsSure) {
  watch_.on_lost();
  write_sealed(1, 10);
  look(20, 21);
  write_sealed(2, 30);
  look(40, 41);
  EXPECT_THAT(versions(), IsEmpty());
  EXPECT_THAT(unknown(), ElementsAre("10..21", "20..41"));
}

TEST_F(CodeWatchTest, CodeThatIsTakenAwayAndComesBackIsNewCode) {
  write_sealed(1, 10);
  look(20, 21);
  ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_WRITE), 0);
  look(30, 31);
  write_sealed(2, 40);
  look(50, 51);
  EXPECT_THAT(versions(), ElementsAre("1 10..30 by 33", "2 40..50 by 33"));
  EXPECT_THAT(unknown(), IsEmpty());
}

TEST_F(CodeWatchTest, AProcessThatWasMetRunningIsKnownFromThenOn) {
  ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_WRITE), 0);
  std::memset(code_, 1, kPage);
  ASSERT_EQ(::mprotect(code_, kPage, PROT_READ | PROT_EXEC), 0);
  watch_.add_running(self(), RecordTime(5));
  look(20, 21);
  EXPECT_THAT(versions(), ElementsAre("1 5..20"));
}

TEST_F(CodeWatchTest, ExecAndExitEndWhatWasThere) {
  write_sealed(1, 10);
  look(20, 21);
  watch_.on_exec(self(), RecordTime(30));
  write_open(2);
  record(PROT_READ | PROT_WRITE | PROT_EXEC, 40);
  look(50, 51);
  watch_.on_exit(self(), RecordTime(60));
  EXPECT_THAT(versions(), ElementsAre("1 10..30 by 33"));
  EXPECT_THAT(unknown(), ElementsAre("40..51", "50..60"));
}

TEST_F(CodeWatchTest, KeepsToItsBudgetAndGoesOnWhereItStopped) {
  constexpr uint64_t kBytes = uint64_t{16} << 20;
  auto* big = static_cast<uint8_t*>(
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(big, MAP_FAILED);
  std::memset(big, 0x90, kBytes);
  const auto begin = reinterpret_cast<uint64_t>(big);
  write_open(1);
  record(PROT_READ | PROT_WRITE | PROT_EXEC, 10);
  auto wall = std::chrono::steady_clock::now();
  uint64_t time = 100, seconds = 0;
  for (; seconds < 60; ++seconds) {
    const uint64_t before = watch_.bytes_read();
    for (int i = 0; i < 100; ++i)
      watch_.look(wall += std::chrono::milliseconds(10), [&] { return RecordTime(++time); });
    EXPECT_LE(watch_.bytes_read() - before, CodeWatch::kBytesPerSecond + CodeWatch::kBytesPerSecond / 2);
    watch_.settle(RecordTime::max());
    uint64_t seen = 0;
    for (const auto& v : watch_.versions())
      if (const uint64_t at = v.placements.front().address; at >= begin && at < begin + kBytes) seen += v.bytes.size();
    if (seen == kBytes) break;
  }
  EXPECT_GE(seconds, 2u);
  EXPECT_LT(seconds, 60u) << "the list of mappings costs, too, and AddressSanitizer makes it long";
  ::munmap(big, kBytes);
}

}  // namespace
}  // namespace hindcast::capture
