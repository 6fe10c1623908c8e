#include "server/service/server.h"

#include <sys/file.h>
#include <sys/stat.h>

#include "hindcast/fd.h"
#include "server/service/catalog.h"
#include "server/service/first_openings.h"
#include "server/service/http_api.h"
#include "server/service/incidents.h"
#include "server/service/log.h"
#include "server/service/store_check.h"
#include "server/service/upload.h"
#include "transport/file_sink.h"
#include "transport/keys.h"
#include "transport/receiver.h"
#include "transport/token_file.h"

namespace hindcast::server {
namespace {

Result<Fd> lock_folder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return errno_error("cannot make the store's folder", folder);
  const std::string path = folder + "/lock";
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return errno_error("cannot open", path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{Errc::usage,
                 "cannot use the store " + folder + ": another hindcast-server has it",
                 {},
                 "stop that one, or give this one a folder of its own"};
  return lock;
}

}  // namespace

struct Server::Impl {
  ServerConfig config;
  Log log;
  uint64_t started_ns = unix_now_ns();
  std::atomic<uint64_t> removed{0};
  // In the order in which they are made; they go in the opposite one.
  Fd lock;
  std::unique_ptr<Catalog> catalog;
  std::unique_ptr<Incidents> incidents;
  std::unique_ptr<FirstOpenings> openings;
  std::unique_ptr<transport::FileSink> sink;
  std::unique_ptr<Uploads> uploads;
  std::unique_ptr<transport::Receiver> receiver;
  std::unique_ptr<HttpApi> http;

  Impl(const ServerConfig& c, std::function<void(const std::string&)> write) : config(c), log(std::move(write)) {}

  ~Impl() {
    http.reset();
    if (incidents) incidents->detach();
    receiver.reset();
  }

  Result<void> start(const std::string& program);
  Result<StatusReport> status();
};

Result<void> Server::Impl::start(const std::string& program) {
  HC_TRY(const auto keys, transport::read_secret_key_file(config.key_file));
  HC_TRY(const auto allowed, transport::AllowList::read_file(config.allow_file));
  std::string token;
  if (!config.http_token_file.empty()) {
    HC_TRY(token, transport::read_token_file(config.http_token_file));
  }
  HC_TRY(lock, lock_folder(config.folder));
  HC_TRY(auto opened, Catalog::open(config.folder + "/catalog.sqlite"));
  catalog = std::move(opened.catalog);
  if (!opened.moved_aside.empty())
    log("the catalog was damaged and is kept as " + opened.moved_aside +
        "; a new one is made from the bundles, without the alerts of before");
  incidents = std::make_unique<Incidents>(*catalog, log);

  const std::string bundles = config.folder + "/bundles";
  transport::FileSink::Limits limits;
  if (config.limit_bytes > 0) limits.total_bytes = config.limit_bytes;
  const RunOptions run{bundles, config.run_limit, config.folder + "/scans"};
  openings = std::make_unique<FirstOpenings>(program, run, log);
  const auto is_new = [this](const std::string& host, const std::string& incident) {
    openings->add(host + "/" + incident + ".hcb");
  };
  HC_TRY(sink, transport::FileSink::create(
                   bundles, limits,
                   [note = incidents->committed(), is_new](const std::string& host, const std::string& incident,
                                                           const std::string& path) {
                     note(host, incident, path);
                     is_new(host, incident);
                   }));
  HC_TRY(uploads, Uploads::create(config.folder + "/uploads", limits.snapshot_bytes, *catalog, *sink, log, is_new));
  HC_TRY(const auto check, check_store(*catalog, bundles));
  for (const std::string& words : check.words) log("store: " + words);
  log("store: " + config.folder + ", " + std::to_string(check.bundles) + " bundles, " + std::to_string(sink->used()) +
      " bytes; " + std::to_string(check.added) + " were not in the catalog, " + std::to_string(check.gone) +
      " are gone");

  transport::ReceiverConfig r;
  r.endpoint = config.endpoint;
  r.keys = keys;
  r.allowed = allowed;
  r.program = "hindcast-server " HINDCAST_VERSION;
  HC_TRY(receiver, transport::Receiver::start(r, *sink, incidents->events()));
  HC_TRY_VOID(incidents->attach(*receiver, allowed));

  HttpConfig h;
  h.address = config.http;
  h.token = token;
  h.run = run;
  h.program = program;
  h.run_children = config.run_children;
  HC_TRY(http, HttpApi::start(h, {*catalog, *incidents, *sink, *uploads, log, [this] { return status(); }}));
  return {};
}

Result<StatusReport> Server::Impl::status() {
  StatusReport s;
  s.version = HINDCAST_VERSION;
  s.started_ns = started_ns;
  s.transport = receiver->endpoint();
  s.folder = config.folder;
  s.bytes = sink->used();
  s.limit_bytes = config.limit_bytes;
  HC_TRY(s.totals, catalog->totals());
  const auto r = receiver->counters();
  const auto i = incidents->counters();
  const auto o = openings->counters();
  s.counters = {{"sessions", r.sessions},
                {"refused_keys", r.refused_keys},
                {"refused_hellos", r.refused_hellos},
                {"bad_messages", r.bad_messages},
                {"bad_payloads", r.bad_payloads},
                {"unknown_messages", r.unknown_messages},
                {"chunks", r.chunks},
                {"duplicate_chunks", r.duplicate_chunks},
                {"raw_bytes", r.raw_bytes},
                {"stored_bytes", r.stored_bytes},
                {"committed", r.committed},
                {"committed_before", r.committed_before},
                {"refused_snapshots", r.refused_snapshots},
                {"failed_snapshots", r.failed_snapshots},
                {"orders", i.ordered},
                {"orders_given_again", i.reordered},
                {"dropped_events", i.dropped_events},
                {"failed_catalog_writes", i.failed_writes},
                {"removed_bundles", removed},
                {"opened_beforehand", o.opened},
                {"failed_openings", o.failed},
                {"left_out_openings", o.left_out}};
  HC_TRY(s.hosts, incidents->hosts());
  return s;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(const ServerConfig& config, const std::string& program,
                                              std::function<void(const std::string&)> write) {
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>(config, std::move(write))));
  HC_TRY_VOID(server->impl_->start(program));
  return server;
}

std::string Server::transport_endpoint() const { return impl_->receiver->endpoint(); }
std::string Server::http_url() const { return impl_->http->url(); }

Result<void> Server::reload() {
  HC_TRY(const auto allowed, transport::AllowList::read_file(impl_->config.allow_file));
  HC_TRY_VOID(impl_->incidents->replace_allowed(allowed));
  impl_->log("the allow-list was read again: " + std::to_string(allowed.hosts().size()) + " hosts");
  return {};
}

void Server::tick() {
  const auto removed = remove_old(impl_->config.keep, unix_now_ns(), *impl_->catalog, *impl_->sink, impl_->log);
  if (!removed.ok()) return impl_->log("cannot remove old bundles: " + removed.error().what);
  if (removed->bundles == 0) return;
  impl_->removed += removed->bundles;
  impl_->incidents->changed();
}

bool Server::stop() { return impl_->http->stop(std::chrono::seconds(5)); }

}  // namespace hindcast::server
