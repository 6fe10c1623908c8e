// What Alertmanager posts to a webhook receiver, payload version 4, read without trusting it.
// Source: prometheus.io/docs/alerting/latest/configuration/#webhook_config.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hindcast/result.h"
#include "server/service/incident.h"

namespace hindcast::server {

inline constexpr size_t kMaxWebhookBytes = size_t{1} << 20;
inline constexpr size_t kMaxAlerts = 1000;       // of one payload
inline constexpr size_t kMaxLabels = 128;        // of one alert, and as many annotations
inline constexpr size_t kMaxLabelBytes = 16384;  // of one name or value
inline constexpr uint32_t kMaxJsonDepth = 16;

struct AlertBatch {
  std::vector<Alert> firing;  // each (fingerprint, starts_at) once, in the payload's order
  size_t resolved = 0;        // ignored: what is over freezes nothing
  uint64_t truncated = 0;     // alerts that Alertmanager left out of the payload (max_alerts)
  std::string reason;         // one line for people, at most 200 bytes: the alerts' name and summary
};

/// Errors: bad_input with every rule that is broken, up to a limit; version for another payload version; too_large.
Result<AlertBatch> read_webhook(std::string_view body);

}  // namespace hindcast::server
