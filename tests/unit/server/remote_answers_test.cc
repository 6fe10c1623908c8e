#include "server/remote_answers.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace hindcast::server {
namespace {

using Json = nlohmann::json;

Json host() {
  return {{"host", "web-1"},      {"state", "durable"},     {"ordered_unix_ns", 1}, {"frozen_unix_ns", 2},
          {"durable_unix_ns", 3}, {"committed_unix_ns", 0}, {"bytes", 77},          {"error", "disk full"}};
}
Json incident() {
  return {{"incident", "20261126T104501Z-3f2a9c0b"},
          {"created_unix_ns", 5},
          {"reason", "why"},
          {"trigger", "alert"},
          {"alerts",
           {{{"fingerprint", "f"}, {"starts_at", "t"}, {"labels", {{"a", "b"}}}, {"annotations", Json::object()}}}},
          {"hosts", {host()}},
          {"something_newer", {{"x", 1}}}};
}
Json status() {
  return {{"version", "0.1.0"},
          {"started_unix_ns", 9},
          {"transport", "tcp://127.0.0.1:7411"},
          {"http", "http://127.0.0.1:7412"},
          {"counters", {{"webhooks", 3}}},
          {"store", {{"folder", "/s"}, {"bytes", 1}, {"limit_bytes", 2}, {"incidents", 3}, {"snapshots", 4}}},
          {"hosts",
           {{{"host", "web-1"},
             {"connected", true},
             {"program", "hindcastd"},
             {"state", "armed"},
             {"heard_ago_ms", -1},
             {"spool_bytes", 5},
             {"spool_limit_bytes", 6},
             {"snapshots_waiting", 7},
             {"notes", {"n"}}}}}};
}

TEST(RemoteAnswers, AnIncidentIsReadWhole) {
  const auto i = read_incident_answer(incident().dump());
  ASSERT_TRUE(i.ok()) << i.error().text();
  EXPECT_EQ(i->id, "20261126T104501Z-3f2a9c0b");
  EXPECT_EQ(i->created_ns, 5u);
  EXPECT_EQ(i->reason, "why");
  EXPECT_EQ(i->trigger, "alert");
  ASSERT_EQ(i->alerts.size(), 1u);
  EXPECT_EQ(i->alerts[0].labels.at("a"), "b");
  ASSERT_EQ(i->hosts.size(), 1u);
  const RemoteSnapshot& h = i->hosts[0];
  EXPECT_EQ(h.host + " " + h.state + " " + h.error, "web-1 durable disk full");
  EXPECT_EQ(h.ordered_ns * 1000 + h.frozen_ns * 100 + h.durable_ns * 10 + h.committed_ns, 1230u);
  EXPECT_EQ(h.bytes, 77u);
  const auto all = read_incidents_answer(Json{{"incidents", {incident(), incident()}}}.dump());
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->size(), 2u);
}

TEST(RemoteAnswers, AStatusIsReadWhole) {
  const auto s = read_status_answer(status().dump());
  ASSERT_TRUE(s.ok()) << s.error().text();
  EXPECT_EQ(s->counters.at("webhooks"), 3u);
  EXPECT_EQ(s->store_bytes * 1000 + s->store_limit_bytes * 100 + s->incidents * 10 + s->snapshots, 1234u);
  ASSERT_EQ(s->hosts.size(), 1u);
  EXPECT_TRUE(s->hosts[0].connected);
  EXPECT_EQ(s->hosts[0].heard_ago_ms, -1);
  EXPECT_EQ(s->hosts[0].snapshots_waiting, 7u);
  EXPECT_EQ(s->hosts[0].notes, std::vector<std::string>{"n"});
}

/// Every member that is missing or of another kind makes the answer an Error that names it.
template <class Read>
void each_member_is_needed(const Json& whole, const Json::json_pointer& object, Read read) {
  for (const auto& [name, value] : whole.at(object).items()) {
    if (name == "something_newer") continue;
    for (const bool remove : {true, false}) {
      Json changed = whole;
      if (remove)
        changed.at(object).erase(name);
      else
        changed.at(object)[name] = value.is_number() ? Json("text") : Json(-1.5);
      const auto r = read(changed.dump());
      ASSERT_FALSE(r.ok()) << name;
      EXPECT_EQ(r.error().code, Errc::bad_input);
      EXPECT_NE(r.error().found.find("'" + name + "'"), std::string::npos) << r.error().text();
    }
  }
}

TEST(RemoteAnswers, EachMemberIsNeededAndHasItsKind) {
  using Pointer = Json::json_pointer;
  for (const char* object : {"", "/hosts/0", "/alerts/0"})
    each_member_is_needed(incident(), Pointer(object), read_incident_answer);
  for (const char* object : {"", "/store", "/hosts/0"})
    each_member_is_needed(status(), Pointer(object), read_status_answer);
}

TEST(RemoteAnswers, WhatBecomesAPathIsAName) {
  for (const char* bad : {"../x", "", "a/b", ".hidden", "a\nb"}) {
    Json j = incident();
    j["incident"] = bad;
    EXPECT_FALSE(read_incident_answer(j.dump()).ok()) << bad;
    j = incident();
    j["hosts"][0]["host"] = bad;
    EXPECT_FALSE(read_incident_answer(j.dump()).ok()) << bad;
  }
}

TEST(RemoteAnswers, WhatIsNoAnswerIsRefused) {
  EXPECT_EQ(read_incident_answer("").error().code, Errc::bad_input);
  EXPECT_EQ(read_incident_answer("[]").error().code, Errc::bad_input);
  EXPECT_EQ(read_incident_answer("{\"incident\":").error().code, Errc::bad_input);
  const std::string deep = "{\"incident\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_NE(read_incident_answer(deep).error().found.find("nested deeper"), std::string::npos);
  EXPECT_EQ(read_incident_answer(std::string(kMaxAnswerBytes + 1, ' ')).error().code, Errc::too_large);
}

TEST(RemoteAnswers, TheServersOwnErrorIsPassedOn) {
  const Error e = read_error_answer(
      503, R"({"error":{"code":"unavailable","what":"no host is connected","found":"h","fix":"start it"}})");
  EXPECT_EQ(e.code, Errc::unavailable);
  EXPECT_EQ(e.what + "|" + e.found + "|" + e.fix, "no host is connected|h|start it");
  EXPECT_EQ(read_error_answer(404, "<html>").code, Errc::not_found);
  EXPECT_EQ(read_error_answer(401, "").code, Errc::permission);
  EXPECT_EQ(read_error_answer(500, R"({"error":"x"})").code, Errc::io);
  EXPECT_NE(read_error_answer(500, "").found.find("500"), std::string::npos);
  const std::string long_text = Json{{"error", {{"code", "io"}, {"what", std::string(100000, 'x')}}}}.dump();
  EXPECT_LT(read_error_answer(500, long_text).what.size(), 5000u);
}

}  // namespace
}  // namespace hindcast::server
