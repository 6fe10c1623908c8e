// RFC 3339 times, as Prometheus and Alertmanager write them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hindcast::server {

/// The same moment in UTC in the one spelling that Go uses: "2026-11-26T10:45:01.5Z", no trailing zeros, 9 digits at most.
/// Nothing for a text that is no RFC 3339 time, has more digits, or lies outside the years 0 to 9999 in UTC.
std::optional<std::string> same_moment_utc(std::string_view text);

}  // namespace hindcast::server
