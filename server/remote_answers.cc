#include "server/remote_answers.h"

#include <nlohmann/json.hpp>

#include "transport/errc_name.h"
#include "transport/json_depth.h"
#include "transport/names.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxErrorText = 4096;

Error bad_answer(const std::string& found) {
  return {Errc::bad_input, "the server's answer is not one that this program knows", found,
          "use a hindcast and a hindcast-server of the same version"};
}

Result<Json> parse_object(std::string_view body) {
  if (body.size() > kMaxAnswerBytes)
    return Error{Errc::too_large,
                 "the server's answer is too large",
                 "more than " + std::to_string(kMaxAnswerBytes) + " bytes",
                 {}};
  if (transport::nested_deeper_than(body, kMaxAnswerDepth))
    return bad_answer("JSON nested deeper than " + std::to_string(kMaxAnswerDepth));
  Json j = Json::parse(body, nullptr, false);
  if (!j.is_object()) return bad_answer("no JSON object");
  return j;
}

/// Takes members of one object; the first that is missing or of another kind is the object's Error.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {
    if (!object.is_object()) wrong_ = "something else where an object belongs";
  }

  void take(const char* name, std::string& to) {
    if (const Json* v = find(name, "text", &Json::is_string)) to = v->get<std::string>();
  }
  void take(const char* name, bool& to) {
    if (const Json* v = find(name, "truth value", &Json::is_boolean)) to = v->get<bool>();
  }
  void take(const char* name, uint64_t& to) {
    if (const Json* v = find(name, "whole number", &Json::is_number_unsigned)) to = v->get<uint64_t>();
  }
  void take(const char* name, int64_t& to) {
    const Json* v = find(name, "whole number", &Json::is_number_integer);
    if (!v) return;
    if (v->is_number_unsigned() && v->get<uint64_t>() > INT64_MAX) return wrong(name, "number of 63 bits");
    to = v->get<int64_t>();
  }
  void take(const char* name, std::vector<std::string>& to) {
    for (const Json& item : list(name)) {
      if (!item.is_string()) return wrong(name, "list of texts");
      to.push_back(item.get<std::string>());
    }
  }
  void take(const char* name, std::map<std::string, std::string>& to) {
    for (const auto& [key, value] : object(name).items()) {
      if (!value.is_string()) return wrong(name, "object of texts");
      to[key] = value.get<std::string>();
    }
  }
  void take(const char* name, std::map<std::string, uint64_t>& to) {
    for (const auto& [key, value] : object(name).items()) {
      if (!value.is_number_unsigned()) return wrong(name, "object of whole numbers");
      to[key] = value.get<uint64_t>();
    }
  }
  const Json& list(const char* name) {
    const Json* v = find(name, "list", &Json::is_array);
    return v ? *v : kNone;
  }
  const Json& object(const char* name) {
    const Json* v = find(name, "object", &Json::is_object);
    return v ? *v : kNothing;
  }
  /// A text that becomes part of a path.
  void take_name(const char* name, std::string& to) {
    take(name, to);
    if (wrong_.empty() && !transport::is_name(to)) wrong(name, transport::kNameRule);
  }

  Result<void> done() const {
    if (wrong_.empty()) return {};
    return bad_answer(wrong_);
  }

 private:
  const Json* find(const char* name, const char* kind, bool (Json::*is)() const noexcept) {
    if (!wrong_.empty()) return nullptr;
    const auto it = object_.find(name);
    if (it != object_.end() && ((*it).*is)()) return &*it;
    wrong(name, kind);
    return nullptr;
  }
  void wrong(const char* name, const char* kind) {
    if (wrong_.empty()) wrong_ = "no '" + std::string(name) + "' that is a " + kind;
  }

  static const Json kNone, kNothing;
  const Json& object_;
  std::string wrong_;
};

const Json Members::kNone = Json::array();
const Json Members::kNothing = Json::object();

Result<RemoteSnapshot> read_snapshot(const Json& j) {
  RemoteSnapshot s;
  Members m(j);
  m.take_name("host", s.host);
  m.take("state", s.state);
  m.take("ordered_unix_ns", s.ordered_ns);
  m.take("frozen_unix_ns", s.frozen_ns);
  m.take("durable_unix_ns", s.durable_ns);
  m.take("committed_unix_ns", s.committed_ns);
  m.take("bytes", s.bytes);
  m.take("error", s.error);
  HC_TRY_VOID(m.done());
  return s;
}

Result<RemoteAlert> read_alert(const Json& j) {
  RemoteAlert a;
  Members m(j);
  m.take("fingerprint", a.fingerprint);
  m.take("starts_at", a.starts_at);
  m.take("labels", a.labels);
  m.take("annotations", a.annotations);
  HC_TRY_VOID(m.done());
  return a;
}

Result<RemoteIncident> read_incident(const Json& j) {
  RemoteIncident i;
  Members m(j);
  m.take_name("incident", i.id);
  m.take("created_unix_ns", i.created_ns);
  m.take("reason", i.reason);
  m.take("trigger", i.trigger);
  for (const Json& alert : m.list("alerts")) {
    HC_TRY(RemoteAlert a, read_alert(alert));
    i.alerts.push_back(std::move(a));
  }
  for (const Json& host : m.list("hosts")) {
    HC_TRY(RemoteSnapshot s, read_snapshot(host));
    i.hosts.push_back(std::move(s));
  }
  HC_TRY_VOID(m.done());
  return i;
}

Result<RemoteHost> read_host(const Json& j) {
  RemoteHost h;
  Members m(j);
  m.take_name("host", h.host);
  m.take("connected", h.connected);
  m.take("program", h.program);
  m.take("state", h.state);
  m.take("heard_ago_ms", h.heard_ago_ms);
  m.take("spool_bytes", h.spool_bytes);
  m.take("spool_limit_bytes", h.spool_limit_bytes);
  m.take("snapshots_waiting", h.snapshots_waiting);
  m.take("notes", h.notes);
  HC_TRY_VOID(m.done());
  return h;
}

/// What an HTTP status means, for an answer that names no code of ours.
Errc code_of(int status) {
  return status == 401 || status == 403 ? Errc::permission : status == 404 ? Errc::not_found : Errc::io;
}

}  // namespace

Result<RemoteIncident> read_incident_answer(std::string_view body) {
  HC_TRY(const Json j, parse_object(body));
  return read_incident(j);
}

Result<std::vector<RemoteIncident>> read_incidents_answer(std::string_view body) {
  HC_TRY(const Json j, parse_object(body));
  Members m(j);
  std::vector<RemoteIncident> all;
  for (const Json& incident : m.list("incidents")) {
    HC_TRY(RemoteIncident i, read_incident(incident));
    all.push_back(std::move(i));
  }
  HC_TRY_VOID(m.done());
  return all;
}

Result<RemoteStatus> read_status_answer(std::string_view body) {
  HC_TRY(const Json j, parse_object(body));
  RemoteStatus s;
  Members m(j);
  m.take("version", s.version);
  m.take("started_unix_ns", s.started_ns);
  m.take("transport", s.transport);
  m.take("http", s.http);
  m.take("counters", s.counters);
  Members store(m.object("store"));
  HC_TRY_VOID(m.done());
  store.take("folder", s.folder);
  store.take("bytes", s.store_bytes);
  store.take("limit_bytes", s.store_limit_bytes);
  store.take("incidents", s.incidents);
  store.take("snapshots", s.snapshots);
  HC_TRY_VOID(store.done());
  for (const Json& host : m.list("hosts")) {
    HC_TRY(RemoteHost h, read_host(host));
    s.hosts.push_back(std::move(h));
  }
  HC_TRY_VOID(m.done());
  return s;
}

Error read_error_answer(int status, std::string_view body) {
  const auto j = parse_object(body.substr(0, kMaxErrorText * 4));
  if (j.ok() && j->contains("error") && (*j)["error"].is_object()) {
    const Json& e = (*j)["error"];
    const auto text = [&](const char* name) {
      const auto it = e.find(name);
      return it != e.end() && it->is_string() ? it->get<std::string>().substr(0, kMaxErrorText) : std::string();
    };
    if (!text("what").empty())
      return {transport::errc_of(text("code")).value_or(code_of(status)), text("what"), text("found"), text("fix")};
  }
  return {code_of(status), "what answers there is no hindcast-server of this version",
          "HTTP status " + std::to_string(status),
          "name the address that hindcast-server prints at its start (http http://...)"};
}

}  // namespace hindcast::server
