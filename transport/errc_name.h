// Error codes by name, for what leaves the process as text.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "hindcast/result.h"

namespace hindcast::transport {

inline constexpr std::array<std::pair<Errc, std::string_view>, 10> kErrcNames{{{Errc::bad_input, "bad_input"},
                                                                               {Errc::too_large, "too_large"},
                                                                               {Errc::not_found, "not_found"},
                                                                               {Errc::unsupported, "unsupported"},
                                                                               {Errc::permission, "permission"},
                                                                               {Errc::unavailable, "unavailable"},
                                                                               {Errc::io, "io"},
                                                                               {Errc::usage, "usage"},
                                                                               {Errc::version, "version"},
                                                                               {Errc::corrupt, "corrupt"}}};

/// "bad_input", "not_found", ...
constexpr std::string_view name_of(Errc code) {
  for (const auto& [errc, name] : kErrcNames)
    if (errc == code) return name;
  return "io";
}
/// None for a name that is nobody's.
constexpr std::optional<Errc> errc_of(std::string_view text) {
  for (const auto& [errc, name] : kErrcNames)
    if (name == text) return errc;
  return std::nullopt;
}

}  // namespace hindcast::transport
