#include "server/service/webhook.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "server/service/moment.h"
#include "transport/json_depth.h"
#include "transport/names.h"
#include "transport/one_line.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

constexpr size_t kReasonBytes = 200;

/// Every complaint about a payload, the first few in words.
class Complaints {
 public:
  void operator()(const std::string& s) {
    constexpr size_t kMost = 8;
    if (++count_ <= kMost) text_ += (text_.empty() ? "" : "; ") + s;
    if (count_ == kMost + 1) text_ += "; and more";
  }
  bool none() const { return count_ == 0; }
  const std::string& text() const { return text_; }

 private:
  size_t count_ = 0;
  std::string text_;
};

const Json* member(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it == object.end() ? nullptr : &*it;
}

/// A member that must be a text; "" with a complaint when it is none.
std::string text_of(const Json& object, const char* name, const std::string& where, Complaints& complain) {
  const Json* j = member(object, name);
  if (j && j->is_string()) return j->get<std::string>();
  complain(where + " has no text '" + name + "'");
  return {};
}

Labels labels_of(const Json& object, const char* name, const std::string& where, Complaints& complain) {
  Labels labels;
  const Json* j = member(object, name);
  if (!j || j->is_null()) return labels;  // Go writes an empty map as null
  if (!j->is_object()) {
    complain(where + " has '" + name + "' that is no object");
    return labels;
  }
  if (j->size() > kMaxLabels) {
    complain(where + " has " + std::to_string(j->size()) + " " + name + ", more than " + std::to_string(kMaxLabels));
    return labels;
  }
  for (const auto& [key, value] : j->items()) {
    if (!value.is_string())
      complain(where + " has a value in '" + name + "' that is no text");
    else if (key.size() > kMaxLabelBytes || value.get_ref<const std::string&>().size() > kMaxLabelBytes)
      complain(where + " has a name or value in '" + name + "' of more than " + std::to_string(kMaxLabelBytes) +
               " bytes");
    else
      labels[key] = value.get<std::string>();
  }
  return labels;
}

std::string value_of(const Labels& labels, const char* name) {
  const auto it = labels.find(name);
  return it == labels.end() ? std::string() : it->second;
}

/// What all firing alerts agree on: Alertmanager's common labels are those of resolved ones, too.
std::string reason_of(const std::vector<Alert>& firing) {
  if (firing.empty()) return {};
  const auto common = [&](const Labels Alert::*labels, const char* name) {
    const std::string first = value_of(firing[0].*labels, name);
    const bool all =
        std::all_of(firing.begin(), firing.end(), [&](const Alert& a) { return value_of(a.*labels, name) == first; });
    return all ? first : std::string();
  };
  const std::string name = common(&Alert::labels, "alertname"), summary = common(&Alert::annotations, "summary");
  std::string s = "alert " + (name.empty() ? value_of(firing[0].labels, "alertname") + " and others" : name);
  if (firing.size() > 1) s += " (" + std::to_string(firing.size()) + " alerts)";
  if (!summary.empty()) s += ": " + summary;
  return transport::one_line(s, kReasonBytes);
}

}  // namespace

Result<AlertBatch> read_webhook(std::string_view body) {
  const auto refuse = [](std::string found) {
    return Error{Errc::bad_input, "refused a webhook: its body is no Alertmanager payload", std::move(found),
                 "point a webhook_config of Alertmanager here, and nothing else"};
  };
  const auto too_large = [](const std::string& found) {
    return Error{Errc::too_large, "refused a webhook: its body is too large", found,
                 "set max_alerts in Alertmanager's webhook_config, or group alerts by more labels"};
  };
  if (body.size() > kMaxWebhookBytes)
    return too_large(std::to_string(body.size()) + " bytes; at most " + std::to_string(kMaxWebhookBytes));
  if (transport::nested_deeper_than(body, kMaxJsonDepth))
    return refuse("JSON nested deeper than " + std::to_string(kMaxJsonDepth));
  const Json j = Json::parse(body, nullptr, false);
  if (j.is_discarded()) return refuse("not JSON in UTF-8");
  if (!j.is_object()) return refuse("JSON that is no object");

  const Json* version = member(j, "version");
  if (!version) return refuse("no 'version'");
  if (*version != "4")
    return Error{Errc::version, "refused a webhook: another version of the payload",
                 "version " + transport::one_line(version->dump(-1, ' ', true, Json::error_handler_t::replace), 40) +
                     "; this server reads \"4\"",
                 "use an Alertmanager whose webhooks have version 4 (0.6 or later)"};
  const Json* alerts = member(j, "alerts");
  if (!alerts || !alerts->is_array()) return refuse("no array 'alerts'");
  if (alerts->size() > kMaxAlerts)
    return too_large(std::to_string(alerts->size()) + " alerts; at most " + std::to_string(kMaxAlerts));

  Complaints complain;
  AlertBatch batch;
  if (const Json* left_out = member(j, "truncatedAlerts")) {
    if (left_out->is_number_unsigned())
      batch.truncated = left_out->get<uint64_t>();
    else
      complain("'truncatedAlerts' is no count");
  }
  std::set<std::pair<std::string, std::string>> seen;
  for (size_t i = 0; i < alerts->size(); ++i) {
    const Json& a = (*alerts)[i];
    const std::string where = "alert " + std::to_string(i);
    if (!a.is_object()) {
      complain(where + " is no object");
      continue;
    }
    const std::string status = text_of(a, "status", where, complain);
    const std::string starts_at = text_of(a, "startsAt", where, complain);
    Alert alert;
    alert.fingerprint = text_of(a, "fingerprint", where, complain);
    alert.labels = labels_of(a, "labels", where, complain);
    alert.annotations = labels_of(a, "annotations", where, complain);
    if (!alert.fingerprint.empty() && !transport::is_name(alert.fingerprint))
      complain(where + " has a fingerprint that is not " + transport::kNameRule);
    const auto moment = same_moment_utc(starts_at);
    if (!moment && !starts_at.empty()) complain(where + " has a startsAt that is no RFC 3339 time");
    if (!status.empty() && status != "firing" && status != "resolved")
      complain(where + " is neither firing nor resolved");
    if (!moment || alert.fingerprint.empty()) {
      if (complain.none()) complain(where + " has an empty fingerprint or startsAt");
      continue;
    }
    alert.starts_at = *moment;
    if (status == "resolved")
      ++batch.resolved;
    else if (seen.emplace(alert.fingerprint, alert.starts_at).second)
      batch.firing.push_back(std::move(alert));
  }
  if (!complain.none()) return refuse(complain.text());
  batch.reason = reason_of(batch.firing);
  return batch;
}

}  // namespace hindcast::server
