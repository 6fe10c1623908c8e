// hindcast-server: receives what hosts froze, keeps it, and answers questions about it.
#include <signal.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "hindcast/fd.h"
#include "server/service/server.h"
#include "transport/keys.h"
#include "transport/service_notify.h"

namespace {

using namespace hindcast;  // NOLINT

constexpr const char* kHelp =
    "usage: hindcast-server --config FILE     run; ends with SIGTERM or SIGINT, reads the allow-list again with "
    "SIGHUP\n"
    "       hindcast-server --keygen PATH     make a CURVE key pair: PATH.secret and PATH.public\n"
    "       hindcast-server --version\n"
    "server/hindcast-server.example.toml shows every setting.\n";

void say(const std::string& line) {
  const std::string whole = "hindcast-server: " + line + "\n";
  (void)!::write(2, whole.data(), whole.size());  // one call: lines of several threads do not mix
}

int fail(const Error& error) {
  say(error.text());
  return error.code == Errc::usage ? 2 : 1;
}

std::string beside(const std::string& name) {
  char self[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self);
  const std::string path(self, n > 0 ? static_cast<size_t>(n) : 0);
  return path.substr(0, path.rfind('/') + 1) + name;
}

int keygen(const std::string& path) {
  const transport::KeyPair keys = transport::make_key_pair();
  if (auto written = transport::write_key_files(path, keys); !written.ok()) return fail(written.error());
  std::printf("%s\n", keys.public_key.c_str());
  say("wrote " + path + ".secret (keep it to yourself) and " + path +
      ".public\n  to let a host with this key in, add to the server's allow-list:\n    HOST " + keys.public_key);
  return 0;
}

int run(const std::string& config_file) {
  const auto config = server::read_server_config(config_file);
  if (!config.ok()) return fail(config.error());
  // Before any thread begins, so that all have them blocked.
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t awaited;
  ::sigemptyset(&awaited);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&awaited, s);
  ::sigprocmask(SIG_BLOCK, &awaited, nullptr);

  auto server = server::Server::start(*config, beside("hindcast"), say);
  if (!server.ok()) return fail(server.error());
  say("listening: transport " + (*server)->transport_endpoint() + ", http " + (*server)->http_url());
  transport::notify_service("READY=1");
  for (;;) {
    (*server)->tick();
    const timespec some_seconds{5, 0};
    const int signal = ::sigtimedwait(&awaited, nullptr, &some_seconds);
    if (signal == SIGHUP) {
      if (auto read = (*server)->reload(); !read.ok()) say(read.error().text());
    } else if (signal > 0) {
      break;
    }
  }
  transport::notify_service("STOPPING=1");
  say("stopping");
  if (!(*server)->stop()) {
    // What is durable is so already; the next start takes up the rest.
    say("an HTTP client would not let go of its answer: it is cut off");
    ::_exit(0);
  }
  server->reset();
  say("stopped");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() == 2 && args[0] == "--config") return run(args[1]);
  if (args.size() == 2 && args[0] == "--keygen") return keygen(args[1]);
  if (args.size() == 1 && args[0] == "--version") return std::printf("hindcast-server " HINDCAST_VERSION "\n") < 0;
  if (args.size() == 1 && args[0] == "--help") return std::fputs(kHelp, stdout) < 0;
  std::fputs(kHelp, stderr);
  return 2;
}
