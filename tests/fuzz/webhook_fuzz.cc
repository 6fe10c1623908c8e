// Webhook bodies: what is taken keeps the rules that the catalog relies on; what is not says why in plain words.
#include <algorithm>
#include <set>

#include "server/service/moment.h"
#include "server/service/webhook.h"
#include "tests/fuzz/fuzz_support.h"
#include "transport/names.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static constexpr std::string_view kTemplate =
      R"({"version":"4","alerts":[{"status":"firing","labels":{"alertname":"A","x":"y"},"annotations":{"summary":"s"},)"
      R"("startsAt":"2026-11-26T10:45:01.337+01:00","fingerprint":"5ef1a4c0b8c1d2e3"},{"status":"resolved","labels":{},)"
      R"("annotations":null,"startsAt":"2026-11-26T10:45:01Z","fingerprint":"f2"}],"truncatedAlerts":0})";
  return hindcast::mutate_from_template(kTemplate, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;          // NOLINT
  using namespace hindcast::server;  // NOLINT
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto r = read_webhook(body);
  if (!r.ok()) {
    MUST(r.error().code == Errc::bad_input || r.error().code == Errc::version || r.error().code == Errc::too_large);
    MUST(!r.error().found.empty() && r.error().found.size() < 4096);
    return 0;
  }
  MUST(r->firing.size() + r->resolved <= kMaxAlerts);
  MUST(r->reason.empty() == r->firing.empty() && r->reason.size() <= 200);
  MUST(std::none_of(r->reason.begin(), r->reason.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
  std::set<std::pair<std::string, std::string>> seen;
  for (const Alert& a : r->firing) {
    MUST(transport::is_name(a.fingerprint));
    MUST(same_moment_utc(a.starts_at) == a.starts_at);
    MUST(a.labels.size() <= kMaxLabels && a.annotations.size() <= kMaxLabels);
    MUST(seen.emplace(a.fingerprint, a.starts_at).second);
  }
  return 0;
}
