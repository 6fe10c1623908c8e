// perf-PID.map files, found in the namespaces of the processes that wrote them.
#include "capture/perf_maps.h"

#include <csignal>
#include <functional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

/// A process in a mount and a pid namespace of its own, with a /tmp of its own, that did `prepare` and sleeps.
class Namespaced {
 public:
  explicit Namespaced(const std::function<void()>& prepare) {
    int ready[2];
    if (::pipe(ready) != 0) return;
    parent_ = ::fork();
    if (parent_ == 0) {
      if (::unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) ::_exit(1);
      if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(1);
      if (::mount("none", "/tmp", "tmpfs", 0, nullptr) != 0) ::_exit(1);
      const pid_t inner = ::fork();
      if (inner == 0) {
        prepare();
        (void)!::write(ready[1], "x", 1);
        for (;;) ::pause();
      }
      (void)!::write(ready[1], &inner, sizeof inner);
      ::waitpid(inner, nullptr, 0);
      ::_exit(0);
    }
    ::close(ready[1]);
    char all[1 + sizeof(pid_t)];
    size_t have = 0;
    for (ssize_t n; have < sizeof all && (n = ::read(ready[0], all + have, sizeof all - have)) > 0;)
      have += static_cast<size_t>(n);
    ::close(ready[0]);
    if (have != sizeof all) return;
    std::memcpy(&pid_, all[0] == 'x' ? all + 1 : all, sizeof pid_);
  }
  ~Namespaced() { end(); }
  void end() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    if (parent_ > 0) ::waitpid(parent_, nullptr, 0);
    pid_ = parent_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t parent_ = -1, pid_ = -1;
};

void write_file(const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  (void)!::write(fd, text.data(), text.size());
  ::close(fd);
}

class PerfMapsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "namespaces of its own need root";
  }
  std::vector<PerfMaps::Map> found() {
    std::vector<std::string> notes;
    auto all = maps.collect(notes);
    EXPECT_THAT(notes, IsEmpty());
    return all;
  }
  PerfMaps maps;
};

TEST_F(PerfMapsTest, IsFoundUnderTheProcessesOwnNumberAndKeptWhenItEnds) {
  Namespaced process([] { write_file("/tmp/perf-1.map", "1000 10 f\n"); });
  ASSERT_GT(process.pid(), 0);
  maps.look(Pid(process.pid()));
  const Pid pid(process.pid());
  process.end();
  const auto all = found();
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_EQ(all[0].pid, pid);
  EXPECT_EQ(all[0].path, "/tmp/perf-1.map");
  EXPECT_EQ(all[0].bytes, 10u);
  char text[16] = {};
  EXPECT_EQ(::pread(all[0].file.get(), text, sizeof text, 0), 10);
  EXPECT_STREQ(text, "1000 10 f\n");
}

TEST_F(PerfMapsTest, IsReadAsItIsWhenItIsCollected) {
  const std::string path = "/tmp/perf-" + std::to_string(::getpid()) + ".map";
  write_file(path.c_str(), "1000 10 f\n");
  maps.look(Pid(::getpid()));
  write_file(path.c_str(), "1000 10 f\n2000 10 g\n");
  const auto all = found();
  ::unlink(path.c_str());
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_EQ(all[0].bytes, 20u);
}

TEST_F(PerfMapsTest, NoLinkLeadsOutOfTheProcessesReach) {
  Namespaced link([] { (void)!::symlink("/etc/passwd", "/tmp/perf-1.map"); });
  Namespaced folder([] { (void)!::mkdir("/tmp/perf-1.map", 0755); });
  Namespaced strange([] {
    write_file("/tmp/perf-1.map", "1000 10 f\n");
    (void)!::chown("/tmp/perf-1.map", 4242, 4242);
  });
  Namespaced none([] {});
  for (const Namespaced* p : {&link, &folder, &strange, &none}) {
    ASSERT_GT(p->pid(), 0);
    maps.look(Pid(p->pid()));
  }
  maps.look(Pid(0x7fffffff));
  EXPECT_THAT(found(), IsEmpty());
}

}  // namespace
}  // namespace hindcast::capture
