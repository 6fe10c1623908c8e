// One end of the transport as a process that may be killed at any moment.
//   ship_peer receive FOLDER PORT STORE_LIMIT                       server; commits go to FOLDER/commits.log
//   ship_peer send FOLDER PORT SPOOL_LIMIT SEED COUNT PT_BYTES RATE   host "h": keeps and ships COUNT made-up snapshots; names of
//                                                                   durable ones go to FOLDER/durable.log; FOLDER/done at the end
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>

#include "tests/support/ship_kit.h"
#include "transport/file_sink.h"

namespace {

using namespace hindcast;             // NOLINT
using namespace hindcast::transport;  // NOLINT
using std::chrono::milliseconds;

[[noreturn]] void die(const Error& e) {
  std::fprintf(stderr, "ship_peer: %s\n", e.text().c_str());
  std::exit(1);
}

/// One write, so that a kill leaves a whole line or none.
void append_line(const std::string& path, const std::string& line) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  (void)!::write(fd.get(), (line + "\n").data(), line.size() + 1);
}

void say(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

int receive(const std::string& folder, const std::string& port, uint64_t limit) {
  FileSink::Limits limits;
  limits.total_bytes = limit;
  auto sink = FileSink::create(folder + "/store", limits, [&](const auto& host, const auto& incident, const auto&) {
    append_line(folder + "/commits.log", host + "/" + incident);
  });
  if (!sink.ok()) die(sink.error());
  ReceiverConfig config;
  config.endpoint = "tcp://127.0.0.1:" + port;
  config.silence = milliseconds(3000);
  auto keys = read_secret_key_file(folder + "/server.secret");
  if (!keys.ok()) die(keys.error());
  config.keys = *keys;
  auto allowed = AllowList::read_file(folder + "/hosts");
  if (!allowed.ok()) die(allowed.error());
  config.allowed = *allowed;
  ReceiverEvents events;
  events.say = say;
  auto receiver = Receiver::start(config, **sink, events);
  // The port of one that was killed may still be taken.
  test::wait_for([&] { return receiver.ok() || (receiver = Receiver::start(config, **sink, events)).ok(); }, 10);
  if (!receiver.ok()) die(receiver.error());
  ::pause();
  return 0;
}

int send(const std::string& folder, const std::string& port, uint64_t limit, uint32_t seed, int count, size_t pt_bytes,
         uint64_t rate) {
  auto spool = Spool::open({folder + "/spool", limit});
  if (!spool.ok()) die(spool.error());
  SenderConfig config;
  config.endpoint = "tcp://127.0.0.1:" + port;
  config.host = "h";
  config.bytes_per_second = rate;
  config.heartbeat = milliseconds(50);
  config.silence = milliseconds(3000);
  config.first_backoff = milliseconds(10);
  config.longest_backoff = milliseconds(100);
  auto keys = read_secret_key_file(folder + "/host.secret");
  auto server_key = read_public_key_file(folder + "/server.public");
  if (!keys.ok() || !server_key.ok()) die(keys.ok() ? server_key.error() : keys.error());
  config.keys = *keys;
  config.server_key = *server_key;
  SenderEvents events;
  events.say = say;
  auto sender = Sender::start(config, **spool, events);
  if (!sender.ok()) die(sender.error());
  const std::string log = folder + "/durable.log";
  std::set<std::string> durable;
  {
    std::ifstream in(log);
    for (std::string line; std::getline(in, line);) durable.insert(line);
  }
  for (int i = 0; i < count;) {
    const std::string incident = "i" + std::to_string(i);
    if (!durable.contains(incident) && !(*spool)->holds(incident)) {
      const auto kept = test::keep(**spool, test::make_snapshot("h", incident, seed, pt_bytes));
      if (!kept.ok() && kept.error().code != Errc::too_large) die(kept.error());
      if (!kept.ok()) {  // full: there is room once the server has committed something
        std::this_thread::sleep_for(milliseconds(10));
        continue;
      }
    }
    if (!durable.contains(incident)) append_line(log, incident);
    (*sender)->durable(incident);
    ++i;
  }
  for (;;) {
    if ((*spool)->waiting().empty()) append_line(folder + "/done", "done");
    std::this_thread::sleep_for(milliseconds(20));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  if (a.size() == 4 && a[0] == "receive") return receive(a[1], a[2], std::stoull(a[3]));
  if (a.size() == 8 && a[0] == "send")
    return send(a[1], a[2], std::stoull(a[3]), static_cast<uint32_t>(std::stoul(a[4])), std::stoi(a[5]),
                std::stoull(a[6]), std::stoull(a[7]));
  std::fprintf(stderr, "usage: see the head of ship_peer.cc\n");
  return 2;
}
