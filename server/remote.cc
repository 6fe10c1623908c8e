#include "server/remote.h"

#include <fcntl.h>
#include <httplib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "hindcast/fd.h"
#include "server/remote_address.h"
#include "server/remote_answers.h"
#include "server/remote_frames.h"
#include "transport/keys.h"
#include "transport/names.h"
#include "transport/token_file.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

constexpr size_t kPiece = size_t{256} << 10;

Result<void> check_name(const char* kind, const std::string& name) {
  if (transport::is_name(name)) return {};
  return Error{Errc::usage, "'" + name + "' is no name of " + kind, std::string("it has to be ") + transport::kNameRule,
               "list what there is:  hindcast ls --server URL"};
}

bool is_ok(int status) { return status == 200 || status == 201; }

/// A file that is gone unless it was given its name. It has none until then where the file system can do that, so not
/// even a kill leaves it behind.
class PartFile {
 public:
  static Result<PartFile> beside(const std::string& path) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    Fd unnamed(::open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (unnamed.valid()) return PartFile(std::move(unnamed), {});
    std::string name = part_name(path);
    Fd fd(::mkostemp(name.data(), O_CLOEXEC));
    if (!fd.valid()) return errno_error("cannot write", path);
    return PartFile(std::move(fd), std::move(name));
  }
  PartFile(PartFile&& o) noexcept : fd_(std::move(o.fd_)), name_(std::exchange(o.name_, {})) {}
  ~PartFile() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }

  Result<void> write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        return errno_error("cannot write", "the file that becomes the bundle", "free space, or write elsewhere");
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return {};
  }
  Result<void> rename_to(const std::string& path) {
    if (::fsync(fd_.get()) != 0) return errno_error("cannot write", path);
    if (name_.empty()) {
      // A link replaces nothing, a rename does: a free name first.
      std::string name = part_name(path);
      const Fd taken(::mkostemp(name.data(), O_CLOEXEC));
      if (!taken.valid() || ::unlink(name.c_str()) != 0 ||
          ::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd_.get())).c_str(), AT_FDCWD, name.c_str(),
                   AT_SYMLINK_FOLLOW) != 0)
        return errno_error("cannot write", path);
      name_ = std::move(name);
    }
    if (::rename(name_.c_str(), path.c_str()) != 0) return errno_error("cannot write", path);
    name_.clear();
    return {};
  }

 private:
  static std::string part_name(const std::string& path) { return path + ".part-XXXXXX"; }

  PartFile(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  Fd fd_;
  std::string name_;
};

}  // namespace

/// One request and what becomes of its answer.
struct Remote::Exchange {
  std::string method, path, body, type;
  std::chrono::milliseconds patience{30000};  // for the next bytes of the answer
  const Fd* file = nullptr;                   // sent as the body instead
  uint64_t file_bytes = 0;
  Progress sent;
  // Called with the body of a good answer piece by piece; false ends the exchange, `trouble` says why.
  std::function<bool(std::string_view piece, uint64_t total)> piece;
  Result<void> trouble;
};

Result<void> Remote::exchange(Exchange& e) const {
  httplib::Client client(host_, port_);
  client.set_connection_timeout(10);
  client.set_read_timeout(e.patience);
  client.set_write_timeout(60);
  client.set_decompress(false);
  httplib::Request request;
  request.method = e.method;
  request.path = e.path;
  request.headers = {{"Accept-Encoding", "identity"}, {"Connection", "close"}};
  if (!token_.empty()) request.headers.emplace("Authorization", "Bearer " + token_);
  if (!e.type.empty()) request.headers.emplace("Content-Type", e.type);
  request.body = e.body;
  bool file_failed = false;
  if (e.file) {
    request.content_length_ = e.file_bytes;
    request.content_provider_ = [&](size_t offset, size_t length, httplib::DataSink& sink) {
      std::string buffer(std::min(length, kPiece), '\0');
      const ssize_t n = ::pread(e.file->get(), buffer.data(), buffer.size(), static_cast<off_t>(offset));
      file_failed = n <= 0;
      if (file_failed) return false;
      e.sent(offset + static_cast<size_t>(n), e.file_bytes);
      return sink.write(buffer.data(), static_cast<size_t>(n));
    };
  }
  int status = 0;
  std::string refused;  // the body of an answer that is not a good one
  request.response_handler = [&](const httplib::Response& response) {
    status = response.status;
    return true;
  };
  request.content_receiver = [&](const char* data, size_t n, uint64_t, uint64_t total) {
    if (is_ok(status)) return e.piece({data, n}, total);
    refused.append(data, std::min(n, kPiece - std::min(kPiece, refused.size())));
    return refused.size() < kPiece;
  };
  const auto result = client.send(request);
  if (status != 0 && !is_ok(status)) {
    Error error = read_error_answer(status, refused);
    if (status == 404) error.fix = "list what there is:  hindcast ls --server " + url_;  // the server's is for programs
    return error;
  }
  if (!e.trouble.ok()) return std::move(e.trouble).error();
  if (result) return {};
  if (file_failed)
    return Error{Errc::io, "cannot read the file to send", "it became shorter, or its disk failed", "send it again"};
  switch (result.error()) {
    case httplib::Error::Connection:
      return Error{Errc::unavailable, "nothing listens at " + url_, "the connection was refused, or no such host",
                   "start hindcast-server, or name its address with --server (it prints it at its start)"};
    case httplib::Error::ConnectionTimeout:
      return Error{Errc::unavailable, "no answer from " + url_, "no connection within 10 s",
                   "is the host up, and may this machine reach its port?"};
    case httplib::Error::Write:
      return Error{Errc::io, "the server at " + url_ + " took only a part of the request",
                   "it closed the connection: refused, full, or stopped", "hindcast status --server " + url_};
    case httplib::Error::Read:
      return Error{Errc::io, "the answer of " + url_ + " did not come, or ended early",
                   "what answers there was stopped, or is no hindcast-server", "hindcast doctor --server " + url_};
    default:
      return Error{Errc::io, "no answer from " + url_, httplib::to_string(result.error()),
                   "hindcast doctor --server " + url_};
  }
}

namespace {

template <class Exchange>
void post(Exchange& e, const std::string& path, const Json& j) {
  e.method = "POST";
  e.path = path;
  e.type = "application/json";
  e.body = j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Collects an answer of limited size.
template <class Exchange>
void collect(Exchange& e, std::string& body) {
  e.piece = [&e, &body](std::string_view piece, uint64_t) {
    if (piece.size() > kMaxAnswerBytes - body.size()) {
      e.trouble = Error{Errc::too_large, "the server's answer is too large",
                        "more than " + std::to_string(kMaxAnswerBytes) + " bytes", "is this a hindcast-server?"};
      return false;
    }
    body += piece;
    return true;
  };
}

}  // namespace

Result<Remote> Remote::at(const RemoteAddress& address) {
  Remote r;
  HC_TRY(const HostPort to, parse_server_url(address.url));
  r.url_ = address.url.ends_with('/') ? address.url.substr(0, address.url.size() - 1) : address.url;
  r.host_ = to.host;
  r.port_ = to.port;
  r.token_ = address.token;
  if (!address.token_file.empty()) {
    HC_TRY(r.token_, transport::read_token_file(address.token_file));
  } else if (!r.token_.empty()) {
    HC_TRY_VOID(transport::check_token(r.token_, "HINDCAST_TOKEN"));
  }
  return r;
}

Result<std::string> Remote::get(const std::string& path) const {
  Exchange e;
  e.method = "GET";
  e.path = path;
  std::string body;
  collect(e, body);
  HC_TRY_VOID(exchange(e));
  return body;
}

Result<RemoteStatus> Remote::status() const {
  HC_TRY(const std::string body, get("/v1/status"));
  return read_status_answer(body);
}

Result<std::vector<RemoteIncident>> Remote::incidents(size_t most, const std::string& before) const {
  HC_TRY(const std::string body, get("/v1/incidents?limit=" + std::to_string(most) +
                                     (before.empty() ? "" : "&before=" + percent_encoded(before))));
  return read_incidents_answer(body);
}

Result<RemoteIncident> Remote::incident(const std::string& id) const {
  HC_TRY_VOID(check_name("an incident", id));
  HC_TRY(const std::string body, get("/v1/incidents/" + id));
  return read_incident_answer(body);
}

Result<RemoteIncident> Remote::snapshot(const SnapshotOrder& order) const {
  Json j{{"reason", order.reason}, {"wait", order.wait}, {"timeout_ms", order.timeout.count()}};
  if (!order.hosts.empty()) j["hosts"] = order.hosts;
  Exchange e;
  post(e, "/v1/snapshots", j);
  e.patience = order.timeout + std::chrono::seconds(30);
  std::string body;
  collect(e, body);
  HC_TRY_VOID(exchange(e));
  return read_incident_answer(body);
}

Result<int> Remote::run(const std::string& command, const std::string& incident, const std::string& host,
                        const std::vector<std::string>& options, const Bytes& out, const Bytes& err) const {
  HC_TRY_VOID(check_name("an incident", incident));
  if (!host.empty()) HC_TRY_VOID(check_name("a host", host));
  Json j{{"command", command}, {"incident", incident}, {"options", options}};
  if (!host.empty()) j["host"] = host;
  RunFrames frames(out, err);
  Exchange e;
  post(e, "/v1/run", j);
  e.patience = std::chrono::seconds(60);  // it sends a sign of life twice a second
  e.piece = [&](std::string_view piece, uint64_t) {
    e.trouble = frames.take(piece);
    return e.trouble.ok();
  };
  HC_TRY_VOID(exchange(e));
  return frames.finish();
}

Result<void> Remote::fetch(const std::string& incident, const std::string& host, const std::string& path,
                           const Progress& progress) const {
  HC_TRY_VOID(check_name("an incident", incident));
  HC_TRY_VOID(check_name("a host", host));
  HC_TRY(PartFile part, PartFile::beside(path));
  uint64_t done = 0, whole = 0;
  Exchange e;
  e.method = "GET";
  e.path = "/v1/incidents/" + incident + "/" + host + ".hcb";
  e.piece = [&](std::string_view piece, uint64_t total) {
    e.trouble = part.write(piece);
    done += piece.size();
    whole = total;
    progress(done, total);
    return e.trouble.ok();
  };
  HC_TRY_VOID(exchange(e));
  // An answer without a length could have ended early, and nobody would know.
  if (done == 0 || done != whole)
    return Error{
        Errc::io, "the bundle from " + url_ + " is not whole",
        std::to_string(done) + " bytes, and " + (whole ? std::to_string(whole) + " announced" : "no length announced"),
        "ask again"};
  return part.rename_to(path);
}

Result<RemoteIncident> Remote::upload(const std::string& path, const std::string& reason,
                                      const Progress& progress) const {
  HC_TRY(const Fd file, open_read_only(path));
  struct stat st {};
  if (::fstat(file.get(), &st) != 0) return errno_error("cannot stat", path);
  // A server that refuses does so before it has read the body, and the answer to that would be lost in the sending.
  HC_TRY_VOID(status());
  Exchange e;
  e.method = "PUT";
  e.path = "/v1/bundles?reason=" + percent_encoded(reason);
  e.type = "application/octet-stream";
  e.patience = std::chrono::minutes(10);  // it decodes nothing, but checks every byte before it answers
  e.file = &file;
  e.file_bytes = static_cast<uint64_t>(st.st_size);
  e.sent = progress;
  std::string body;
  collect(e, body);
  HC_TRY_VOID(exchange(e));
  return read_incident_answer(body);
}

Result<std::string> make_key_files(const std::string& path) {
  const transport::KeyPair keys = transport::make_key_pair();
  HC_TRY_VOID(transport::write_key_files(path, keys));
  return keys.public_key;
}

}  // namespace hindcast::server
