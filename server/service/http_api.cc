// Handlers only say what belongs to HTTP; what they do is done by those whom they call.
#include "server/service/http_api.h"

#include <fcntl.h>
#include <httplib.h>

#include <atomic>
#include <charconv>
#include <future>

#include "server/service/http_body.h"
#include "server/service/http_workers.h"
#include "server/service/run_command.h"
#include "transport/names.h"
#include "transport/one_line.h"

namespace hindcast::server {
namespace {

using httplib::ContentReader;
using httplib::Request;
using httplib::Response;
using std::chrono::milliseconds;

// Waits, commands, uploads and downloads may take all workers but these, so that a webhook always finds one.
constexpr size_t kWaits = 12, kUploads = 4, kDownloads = 8, kFreeWorkers = 6;
constexpr size_t kListed = 100, kMostListed = 1000;

constexpr const char* kJson = "application/json";

void answer(Response& res, int status, std::string body) {
  res.status = status;
  res.set_content(std::move(body), kJson);
}

void answer(Response& res, const Error& error, int status = 0) {
  answer(res, status != 0 ? status : http_status_of(error.code), error_json(error));
}

Error busy(const std::string& with, size_t limit) {
  return {Errc::unavailable, "the server is busy", std::to_string(limit) + " " + with + " are under way",
          "try again a little later"};
}

}  // namespace

struct HttpApi::Impl {
  HttpConfig config;
  HttpParts parts;
  httplib::Server server;
  std::thread thread;
  std::promise<void> ended;
  std::future<void> has_ended = ended.get_future();
  std::string url;
  std::atomic<bool> stopping{false};
  Slots waits{kWaits}, uploads{kUploads}, downloads{kDownloads}, runs;
  struct {
    std::atomic<uint64_t> requests{0}, refused{0}, webhooks{0}, bad_webhooks{0}, new_alerts{0}, known_alerts{0},
        resolved_alerts{0}, uploads{0}, runs{0};
  } count;

  Impl(HttpConfig c, HttpParts p) : config(std::move(c)), parts(std::move(p)), runs(config.run_children) {}

  Result<void> start();
  void set_limits();
  void set_routes();
  bool may_not(const Request& req, Response& res);
  template <class F>
  httplib::Server::HandlerWithContentReader with_body(F handler);
  void status(Response& res);
  void snapshot(Response& res, Body sent);
  void list(const Request& req, Response& res);
  void one(const Request& req, Response& res);
  void bundle(const Request& req, Response& res);
  void upload(const Request& req, Response& res, Body sent);
  void webhook(Response& res, Body sent);
  void run(Response& res, Body sent);

  /// The incident, once it has come as far as asked for.
  void answer_when(Response& res, const std::string& id, SnapshotState state, milliseconds timeout) {
    const auto slot = waits.take();
    if (!slot) return answer(res, busy("waiting requests", kWaits));
    const auto found = parts.incidents.wait(id, state, Incidents::Clock::now() + timeout);
    if (!found.ok()) return answer(res, found.error());
    answer(res, 200, incident_json(*found));
  }

  Result<Incident> find(const std::string& id) {
    HC_TRY(auto found, parts.catalog.incident(id));
    if (found) return std::move(*found);
    return Error{Errc::not_found, "no incident " + transport::one_line(id, 200), {}, "list them: GET /v1/incidents"};
  }
};

Result<void> HttpApi::Impl::start() {
  if (!config.address.loopback() && config.token.empty())
    return Error{Errc::usage, "cannot listen for HTTP on " + config.address.host + " without a token",
                 "others than this machine's users reach that address", "set http_token_file, or listen on 127.0.0.1"};
  set_limits();
  set_routes();
  const std::string host = config.address.host;
  const int port = config.address.port;
  const int bound = port == 0 ? server.bind_to_any_port(host) : server.bind_to_port(host, port) ? port : -1;
  if (bound < 0)
    return Error{Errc::io,
                 "cannot listen for HTTP on " + host + ":" + std::to_string(port),
                 {},
                 "is another server running, or the address none of this machine's?"};
  url = "http://" + (host.find(':') == host.npos ? host : "[" + host + "]") + ":" + std::to_string(bound);
  thread = std::thread([this] {
    server.listen_after_bind();
    ended.set_value();
  });
  // stop() does nothing to a server that does not run yet.
  while (!server.is_running())
    if (has_ended.wait_for(milliseconds(1)) == std::future_status::ready)
      return Error{Errc::io, "cannot listen for HTTP on " + url, {}, {}};
  return {};
}

void HttpApi::Impl::set_limits() {
  const size_t workers = kWaits + kUploads + kDownloads + config.run_children + kFreeWorkers;
  server.new_task_queue = [workers] { return new HttpWorkers(workers); };
  // httplib would set SO_REUSEPORT: a second server on the same port would get half of the requests.
  server.set_socket_options([](socket_t s) {
    const int yes = 1;
    ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_tcp_nodelay(true);
  server.set_keep_alive_max_count(1);  // so what is left of a body that was refused is never taken for a request
  server.set_read_timeout(10);
  server.set_write_timeout(config.run.limit.count());  // a pager at the other end may take its time
  server.set_payload_max_length(SIZE_MAX);             // each handler has a limit of its own
  server.set_exception_handler([](const Request&, Response& res, std::exception_ptr) {
    answer(res, {Errc::bad_input, "the request could not be handled", {}, {}}, 500);
  });
  server.set_error_handler([](const Request& req, Response& res) {
    if (!res.body.empty()) return;
    const int status = res.status;
    answer(
        res,
        status == 404
            ? Error{Errc::not_found, "nothing answers " + req.method + " " + transport::one_line(req.path, 200), {}, {}}
            : Error{Errc::bad_input, "not understood as HTTP (" + std::to_string(status) + ")", {}, {}},
        status);
  });
  server.set_pre_routing_handler([this](const Request& req, Response& res) {
    using Handled = httplib::Server::HandlerResponse;
    ++count.requests;
    if (req.method == "POST" || req.method == "PUT") return Handled::Unhandled;  // with_body() asks, too
    if (may_not(req, res)) return Handled::Handled;
    if (req.method != "GET" && req.method != "HEAD") {
      answer(res, {Errc::usage, "the server knows no method " + transport::one_line(req.method, 20), {}, {}}, 405);
      return Handled::Handled;
    }
    return Handled::Unhandled;
  });
}

bool HttpApi::Impl::may_not(const Request& req, Response& res) {
  const auto refusal =
      refuse({req.get_header_value("Authorization"), req.get_header_value("Host"), req.get_header_value("Origin")},
             config.token);
  if (!refusal) return false;
  ++count.refused;
  parts.log("HTTP request from " + req.remote_addr + " " + refusal->error.what);
  answer(res, refusal->error, refusal->status);
  return true;
}

template <class F>
httplib::Server::HandlerWithContentReader HttpApi::Impl::with_body(F handler) {
  return [this, handler](const Request& req, Response& res, const ContentReader& reader) {
    if (req.is_multipart_form_data())  // httplib reads those another way
      return answer(res, {Errc::bad_input, "the server takes no forms", {}, "send the body as it is"});
    Body body(reader);
    if (may_not(req, res)) {
      const int status = res.status;
      body.throw_away();  // may set another
      res.status = status;
      return;
    }
    handler(req, res, body);
  };
}

void HttpApi::Impl::set_routes() {
  server.Get("/v1/status", [this](const Request&, Response& res) { status(res); });
  server.Get("/v1/incidents", [this](const Request& req, Response& res) { list(req, res); });
  server.Get("/v1/incidents/([^/]+)", [this](const Request& req, Response& res) { one(req, res); });
  server.Get("/v1/incidents/([^/]+)/([^/]+)\\.hcb", [this](const Request& req, Response& res) { bundle(req, res); });
  server.Post("/v1/snapshots", with_body([this](const Request&, Response& res, Body body) { snapshot(res, body); }));
  server.Post("/v1/webhooks/alertmanager",
              with_body([this](const Request&, Response& res, Body body) { webhook(res, body); }));
  server.Post("/v1/run", with_body([this](const Request&, Response& res, Body body) { run(res, body); }));
  server.Put("/v1/bundles",
             with_body([this](const Request& req, Response& res, Body body) { upload(req, res, body); }));
  // With a reader, so that httplib does not read the body of a request to nowhere into memory.
  const auto nowhere = with_body([](const Request& req, Response& res, Body body) {
    body.throw_away();
    answer(res, {Errc::not_found, "nothing answers " + req.method + " " + transport::one_line(req.path, 200), {}, {}});
  });
  server.Post(".*", nowhere);
  server.Put(".*", nowhere);
}

void HttpApi::Impl::status(Response& res) {
  auto report = parts.status();
  if (!report.ok()) return answer(res, report.error());
  report->http = url;
  auto& c = report->counters;
  c["http_requests"] = count.requests;
  c["http_refused"] = count.refused;
  c["webhooks"] = count.webhooks;
  c["webhooks_refused"] = count.bad_webhooks;
  c["alerts_new"] = count.new_alerts;
  c["alerts_known"] = count.known_alerts;
  c["alerts_resolved"] = count.resolved_alerts;
  c["uploads"] = count.uploads;
  c["runs"] = count.runs;
  answer(res, 200, status_json(*report));
}

void HttpApi::Impl::snapshot(Response& res, Body sent) {
  const auto body = sent.text(kMaxRequestBytes);
  if (!body.ok()) return answer(res, body.error());
  const auto request = read_snapshot_request(*body);
  if (!request.ok()) return answer(res, request.error());
  const auto incident = parts.incidents.order(request->reason, request->hosts);
  if (!incident.ok()) return answer(res, incident.error());
  answer_when(res, incident->id, request->wait, request->timeout);
}

void HttpApi::Impl::list(const Request& req, Response& res) {
  size_t limit = kListed;
  if (req.has_param("limit")) {
    const std::string text = req.get_param_value("limit");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
    if (error != std::errc() || end != text.data() + text.size() || limit == 0 || limit > kMostListed)
      return answer(res, {Errc::bad_input,
                          "refused a request: limit '" + transport::one_line(text, 50) + "'",
                          "it may be 1 to " + std::to_string(kMostListed),
                          {}});
  }
  const auto all = parts.catalog.incidents(limit, req.get_param_value("before"));
  if (!all.ok()) return answer(res, all.error());
  answer(res, 200, incidents_json(*all));
}

void HttpApi::Impl::one(const Request& req, Response& res) {
  const std::string id = req.matches[1];
  if (!req.has_param("wait")) {
    const auto found = find(id);
    return found.ok() ? answer(res, 200, incident_json(*found)) : answer(res, found.error());
  }
  const auto state = wait_of(req.get_param_value("wait"));
  if (!state.ok()) return answer(res, state.error());
  const auto timeout =
      timeout_of(req.has_param("timeout_ms") ? req.get_param_value("timeout_ms") : std::string("30000"));
  if (!timeout.ok()) return answer(res, timeout.error());
  answer_when(res, id, *state, *timeout);
}

void HttpApi::Impl::bundle(const Request& req, Response& res) {
  const std::string id = req.matches[1], host = req.matches[2];
  const auto found = find(id);
  if (!found.ok()) return answer(res, found.error());
  const auto at = committed_host(*found, host);
  if (!at.ok()) return answer(res, at.error());
  auto slot = downloads.take();
  if (!slot) return answer(res, busy("downloads", kDownloads));
  auto file = open_read_only(parts.sink.path_of(*at, id));
  struct stat st {};
  if (!file.ok()) return answer(res, file.error());
  if (::fstat(file->get(), &st) != 0) return answer(res, errno_error("cannot stat", id));
  auto shared = std::make_shared<std::pair<Fd, Slots::Slot>>(std::move(*file), std::move(slot));
  res.set_content_provider(static_cast<size_t>(st.st_size), "application/octet-stream",
                           [shared](size_t offset, size_t length, httplib::DataSink& sink) {
                             std::vector<char> buffer(std::min<size_t>(length, size_t{256} << 10));
                             const ssize_t n =
                                 ::pread(shared->first.get(), buffer.data(), buffer.size(), static_cast<off_t>(offset));
                             return n > 0 && sink.write(buffer.data(), static_cast<size_t>(n));
                           });
}

void HttpApi::Impl::upload(const Request& req, Response& res, Body sent) {
  const auto reason = reason_of(req.has_param("reason") ? req.get_param_value("reason") : "uploaded");
  const auto slot = uploads.take();
  auto upload = !reason.ok() ? reason.error() : !slot ? busy("uploads", kUploads) : parts.uploads.begin();
  if (!upload.ok()) {
    sent.throw_away();
    return answer(res, upload.error());
  }
  Result<void> written;
  const bool whole = sent.read([&](const char* data, size_t n) {
    written = (*upload)->write({reinterpret_cast<const uint8_t*>(data), n});
    return written.ok() && !stopping;
  });
  if (!written.ok()) return answer(res, written.error(), written.error().code == Errc::io ? 507 : 0);
  if (!whole) return answer(res, {Errc::bad_input, "refused: the upload ends early", {}, "send it again"});
  const auto outcome = (*upload)->finish(*reason);
  if (!outcome.ok()) return answer(res, outcome.error());
  if (outcome->created) {
    ++count.uploads;
    parts.incidents.changed();
  }
  const auto found = find(outcome->incident);
  found.ok() ? answer(res, outcome->created ? 201 : 200, incident_json(*found)) : answer(res, found.error());
}

void HttpApi::Impl::webhook(Response& res, Body sent) {
  ++count.webhooks;
  const auto refused = [&](const Error& error) {
    ++count.bad_webhooks;
    parts.log("webhook: " + error.what + (error.found.empty() ? "" : ": " + error.found));
    answer(res, error, error.code == Errc::unavailable || error.code == Errc::io ? 0 : 400);
  };
  const auto body = sent.text(kMaxWebhookBytes);
  if (!body.ok()) return refused(body.error());
  const auto batch = read_webhook(*body);
  if (!batch.ok()) return refused(batch.error());
  const auto outcome = parts.incidents.alert(*batch);
  if (!outcome.ok()) return refused(outcome.error());
  count.new_alerts += outcome->new_alerts;
  count.known_alerts += batch->firing.size() - outcome->new_alerts;
  count.resolved_alerts += batch->resolved;
  answer(res, outcome->created ? 202 : 200, webhook_json(*outcome));
}

void HttpApi::Impl::run(Response& res, Body sent) {
  const auto body = sent.text(kMaxRequestBytes);
  if (!body.ok()) return answer(res, body.error());
  const auto request = read_run_request(*body);
  if (!request.ok()) return answer(res, request.error());
  const auto found = find(request->incident);
  if (!found.ok()) return answer(res, found.error());
  const auto host = committed_host(*found, request->host);
  if (!host.ok()) return answer(res, host.error());
  auto slot = runs.take();
  if (!slot) return answer(res, busy("commands", config.run_children));
  std::vector<std::string> argv{config.program, request->command, *host + "/" + request->incident + ".hcb"};
  argv.insert(argv.end(), request->options.begin(), request->options.end());
  auto started = RunCommand::start(argv, config.run);
  if (!started.ok()) return answer(res, started.error());
  ++count.runs;
  // Gone, child and all, when httplib lets go of the answer: its end, or the client's.
  auto shared =
      std::make_shared<std::pair<std::unique_ptr<RunCommand>, Slots::Slot>>(std::move(*started), std::move(slot));
  res.set_chunked_content_provider("application/x-hindcast-run", [this, shared](size_t, httplib::DataSink& sink) {
    RunCommand& command = *shared->first;
    if (stopping || !sink.is_writable()) return false;
    const RunFrame frame = command.next(milliseconds(500));
    const std::string bytes = frame_bytes(frame);
    if (!sink.write(bytes.data(), bytes.size())) return false;
    if (command.done()) sink.done();
    return true;
  });
}

HttpApi::HttpApi(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpApi::~HttpApi() { HC_CHECK(stop(std::chrono::hours(1))); }

Result<std::unique_ptr<HttpApi>> HttpApi::start(HttpConfig config, HttpParts parts) {
  std::unique_ptr<HttpApi> api(new HttpApi(std::make_unique<Impl>(std::move(config), std::move(parts))));
  HC_TRY_VOID(api->impl_->start());
  return api;
}

std::string HttpApi::url() const { return impl_->url; }

bool HttpApi::stop(milliseconds patience) {
  if (!impl_->thread.joinable()) return true;
  impl_->stopping = true;
  impl_->parts.incidents.stop();
  impl_->server.stop();
  if (impl_->has_ended.wait_for(patience) != std::future_status::ready) return false;
  impl_->thread.join();
  return true;
}

}  // namespace hindcast::server
