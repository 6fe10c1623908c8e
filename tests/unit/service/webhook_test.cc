// Payloads as Alertmanager writes them, and everything that is not one.
#include "server/service/webhook.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/unit/service/must.h"

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

std::string golden(const std::string& name) {
  std::ifstream in(std::string(HC_SOURCE_DIR) + "/tests/golden/webhook/" + name);
  return {std::istreambuf_iterator<char>(in), {}};
}

Json alert(const std::string& fingerprint, const std::string& status = "firing") {
  return {{"status", status},
          {"labels", {{"alertname", "A"}}},
          {"annotations", Json::object()},
          {"startsAt", "2026-11-26T10:45:01Z"},
          {"fingerprint", fingerprint}};
}

Json payload(const std::vector<Json>& alerts) { return {{"version", "4"}, {"alerts", alerts}}; }

TEST(Webhook, ReadsWhatAlertmanagerSends) {
  const AlertBatch batch = must(read_webhook(golden("firing.json")));
  ASSERT_EQ(batch.firing.size(), 2u);
  EXPECT_EQ(batch.resolved, 1u);
  EXPECT_EQ(batch.truncated, 0u);
  EXPECT_EQ(batch.reason, "alert HighLatency (2 alerts): p99 above 1 s");
  EXPECT_EQ(batch.firing[0].fingerprint, "5ef1a4c0b8c1d2e3");
  EXPECT_EQ(batch.firing[0].starts_at, "2026-11-26T10:45:01.337Z");
  EXPECT_EQ(batch.firing[0].labels,
            (Labels{{"alertname", "HighLatency"}, {"instance", "web-1:9100"}, {"job", "shop"}, {"severity", "page"}}));
  EXPECT_EQ(batch.firing[0].annotations.at("summary"), "p99 above 1 s");
  EXPECT_EQ(batch.firing[1].starts_at, "2026-11-26T10:45:31.337Z");
}

TEST(Webhook, WhatIsResolvedFiresNothing) {
  const AlertBatch batch = must(read_webhook(golden("resolved.json")));
  EXPECT_TRUE(batch.firing.empty());
  EXPECT_EQ(batch.resolved, 1u);
  EXPECT_EQ(batch.reason, "");
}

TEST(Webhook, OnlyFiringAlertsAreTakenWhateverTheMix) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    std::vector<Json> alerts;
    std::vector<std::string> expected;
    size_t resolved = 0;
    for (unsigned i = random() % 20; i > 0; --i) {
      const bool firing = random() % 2;
      const std::string fingerprint = "f" + std::to_string(random() % 30);
      alerts.push_back(alert(fingerprint, firing ? "firing" : "resolved"));
      resolved += !firing;
      if (firing && std::count(expected.begin(), expected.end(), fingerprint) == 0) expected.push_back(fingerprint);
    }
    Json p = payload(alerts);
    p["status"] = random() % 2 ? "firing" : "resolved";  // that of the group says nothing of its alerts
    const AlertBatch batch = must(read_webhook(p.dump()));
    std::vector<std::string> got;
    for (const Alert& a : batch.firing) got.push_back(a.fingerprint);
    EXPECT_EQ(got, expected) << "seed " << seed;
    EXPECT_EQ(batch.resolved, resolved) << "seed " << seed;
  }
}

TEST(Webhook, TheReasonNamesWhatTheFiringAlertsShare) {
  auto a = alert("f1"), b = alert("f2");
  EXPECT_EQ(must(read_webhook(payload({a}).dump())).reason, "alert A");
  b["labels"]["alertname"] = "B";
  EXPECT_EQ(must(read_webhook(payload({a, b}).dump())).reason, "alert A and others (2 alerts)");
  a["annotations"]["summary"] = "broken\r\n\x1b[31mred" + std::string(500, 'x');
  const std::string reason = must(read_webhook(payload({a}).dump())).reason;
  EXPECT_EQ(reason.size(), 200u);
  EXPECT_EQ(reason.substr(0, 30), "alert A: broken   [31mredxxxxx");
}

TEST(Webhook, AnotherVersionIsSaidToBeOne) {
  Json p = payload({alert("f1")});
  for (const Json& version : {Json("3"), Json("5"), Json(4), Json(nullptr), Json("4 ")}) {
    p["version"] = version;
    const auto r = read_webhook(p.dump());
    ASSERT_FALSE(r.ok()) << version;
    EXPECT_EQ(r.error().code, Errc::version);
  }
}

TEST(Webhook, WhatIsMalformedIsRefusedWithTheReason) {
  const auto with = [](const char* name, const Json& value) {
    Json a = alert("f1");
    a[name] = value;
    return payload({a}).dump();
  };
  const auto without = [](const char* name) {
    Json a = alert("f1");
    a.erase(name);
    return payload({a}).dump();
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"\xff\xfe", "not JSON"},
      {"[]", "no object"},
      {"4", "no object"},
      {"{}", "no 'version'"},
      {R"({"version":"4"})", "no array 'alerts'"},
      {R"({"version":"4","alerts":{}})", "no array 'alerts'"},
      {R"({"version":"4","alerts":[1]})", "alert 0 is no object"},
      {R"({"version":"4","alerts":[],"truncatedAlerts":-1})", "truncatedAlerts"},
      {with("status", "pending"), "neither firing nor resolved"},
      {with("status", 1), "no text 'status'"},
      {without("status"), "no text 'status'"},
      {without("fingerprint"), "no text 'fingerprint'"},
      {with("fingerprint", ""), "empty fingerprint"},
      {with("fingerprint", "../../x"), "fingerprint"},
      {with("startsAt", "yesterday"), "RFC 3339"},
      {with("startsAt", ""), "empty fingerprint or startsAt"},
      {without("startsAt"), "no text 'startsAt'"},
      {with("labels", "x"), "'labels' that is no object"},
      {with("labels", {{"a", 1}}), "'labels' that is no text"},
      {with("annotations", {{"a", std::string(kMaxLabelBytes + 1, 'x')}}), "more than 16384 bytes"},
      {with("labels", std::string(20, '[')), "'labels' that is no object"},
      {"{\"version\":\"4\",\"alerts\":" + std::string(17, '[') + std::string(17, ']') + "}", "nested deeper"},
  };
  for (const auto& [body, words] : cases) {
    const auto r = read_webhook(body);
    ASSERT_FALSE(r.ok()) << body;
    EXPECT_EQ(r.error().code, Errc::bad_input) << body;
    EXPECT_NE(r.error().found.find(words), std::string::npos) << body << "\n" << r.error().text();
  }
}

TEST(Webhook, AllThatIsWrongIsSaidUpToALimit) {
  std::vector<Json> alerts(3, Json{{"status", "firing"}});
  const auto r = read_webhook(payload(alerts).dump());
  ASSERT_FALSE(r.ok());
  for (const char* words : {"alert 0 has no text 'startsAt'", "alert 2 has no text 'fingerprint'"})
    EXPECT_NE(r.error().found.find(words), std::string::npos) << r.error().found;
  const auto many = read_webhook(payload(std::vector<Json>(100, Json{{"status", "firing"}})).dump());
  EXPECT_LT(many.error().found.size(), 1000u);
}

TEST(Webhook, LimitsHold) {
  std::vector<Json> alerts;
  for (size_t i = 0; i < kMaxAlerts; ++i) alerts.push_back(alert("f" + std::to_string(i)));
  EXPECT_EQ(must(read_webhook(payload(alerts).dump())).firing.size(), kMaxAlerts);
  alerts.push_back(alert("more"));
  EXPECT_EQ(read_webhook(payload(alerts).dump()).error().code, Errc::too_large);
  EXPECT_EQ(read_webhook(std::string(kMaxWebhookBytes + 1, ' ')).error().code, Errc::too_large);
  Json a = alert("f1");
  for (size_t i = 0; i < kMaxLabels; ++i) a["labels"]["l" + std::to_string(i)] = "v";
  const auto r = read_webhook(payload({a}).dump());  // and alertname
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().found.find("129 labels, more than 128"), std::string::npos) << r.error().text();
}

TEST(Webhook, NullMapsAndUnknownMembersAreNoTrouble) {
  Json a = alert("f1");
  a["annotations"] = nullptr;
  a["silenceURL"] = "http://x";
  Json p = payload({a});
  p["truncatedAlerts"] = 7;
  p["somethingNew"] = {1, 2, 3};
  const AlertBatch batch = must(read_webhook(p.dump()));
  EXPECT_EQ(batch.firing.size(), 1u);
  EXPECT_EQ(batch.truncated, 7u);
}

}  // namespace
}  // namespace hindcast::server
