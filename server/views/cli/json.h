// Values as JSON, the same way in every command (server/README.md lists the fields).
#pragma once

#include <nlohmann/json.hpp>

#include "server/query.h"
#include "server/views/cli/output.h"

namespace hindcast::server::cli {

using Json = nlohmann::ordered_json;

/// One object on one line; bytes that are no UTF-8 are replaced.
void json_line(Output& out, const Json& object);

/// [earliest, latest] in TSC ticks, null for a side without a bound.
Json json_time(const TscInterval& t);
/// "0x..." : addresses exceed what JSON readers keep exact.
std::string json_address(uint64_t v);
/// null for kNoCpu.
Json json_cpu(CpuId cpu);
/// {"origin_tsc":..., "ns_per_tick":...}: ns since the start = (tsc - origin_tsc) * ns_per_tick; null when unknown.
Json json_scale(const TimeScale& scale);
Json json_place(const Place& place);
Json json_gap(const Event& gap);
/// [{"what":..., "stream":..., "offset":..., "bytes":...}]
Json json_damage(const std::vector<DamageRow>& damage);
/// {"instructions":..., "blocks":..., "gaps":[{"cause":..., "count":..., "bytes":...}]}
Json json_counts(const FlowCounts& counts);

}  // namespace hindcast::server::cli
