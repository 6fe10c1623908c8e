#include "tests/support/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hindcast::test {
namespace {

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "test support: %s\n", why.c_str());
  std::abort();
}

}  // namespace

std::vector<std::string> Ran::lines() const {
  std::vector<std::string> all;
  for (size_t at = 0; at < out.size();) {
    const size_t end = std::min(out.find('\n', at), out.size());
    all.push_back(out.substr(at, end - at));
    at = end + 1;
  }
  return all;
}

std::vector<nlohmann::json> Ran::objects() const {
  std::vector<nlohmann::json> all;
  for (const std::string& line : lines()) {
    all.push_back(nlohmann::json::parse(line, nullptr, false));
    if (!all.back().is_object()) give_up("not a JSON object: " + line);
  }
  return all;
}

Ran run_program(const std::vector<std::string>& argv, const std::vector<std::string>& env, const Place& place) {
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) give_up("no pipe");
  const pid_t child = fork_in(place, [&] {
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    for (const std::string& e : env) {
      const size_t at = e.find('=');
      ::setenv(e.substr(0, at).c_str(), e.substr(at + 1).c_str(), 1);
    }
    std::vector<char*> args;
    for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
    args.push_back(nullptr);
    ::execv(args[0], args.data());
  });
  if (child < 0) give_up("no fork");
  ::close(out[1]);
  ::close(err[1]);
  Ran ran;
  pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* to[2] = {&ran.out, &ran.err};
  for (int open = 2; open > 0;) {
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) give_up("poll failed");
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || !fds[i].revents) continue;
      char buffer[65536];
      const ssize_t n = ::read(fds[i].fd, buffer, sizeof buffer);
      if (n > 0) {
        to[i]->append(buffer, static_cast<size_t>(n));
      } else if (n == 0 || errno != EINTR) {
        ::close(fds[i].fd);
        fds[i].fd = -1;
        --open;
      }
    }
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) give_up("waitpid failed");
  ran.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return ran;
}

TempFolder::TempFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "hindcast-test-XXXXXX").string();
  if (!::mkdtemp(name.data())) give_up("cannot make " + name);
  path_ = name;
}

std::string TempFolder::script(const std::string& text) const {
  const std::string path = *this / "stand-in";
  std::ofstream(path) << "#!/bin/sh\n" << text;
  ::chmod(path.c_str(), 0700);
  return path;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace hindcast::test
