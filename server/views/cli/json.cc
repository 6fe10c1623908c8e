#include "server/views/cli/json.h"

#include "server/views/cli/words.h"

namespace hindcast::server::cli {

void json_line(Output& out, const Json& object) {
  out.line(object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Json json_time(const TscInterval& t) {
  return Json::array({t.earliest == Tsc::min() ? Json() : Json(t.earliest.value()),
                      t.latest == Tsc::max() ? Json() : Json(t.latest.value())});
}

std::string json_address(uint64_t v) { return hex_text(v); }

Json json_cpu(CpuId cpu) { return cpu == kNoCpu ? Json() : Json(cpu.value()); }

Json json_scale(const TimeScale& scale) {
  return {{"origin_tsc", scale.origin.value()}, {"ns_per_tick", scale.known() ? Json(scale.ns_per_tick) : Json()}};
}

Json json_place(const Place& place) {
  Json lines = Json::array();
  for (const SourceLocation& l : place.lines)
    lines.push_back(
        {{"function", l.function}, {"file", l.file}, {"line", l.line}, {"column", l.column}, {"inlined", l.inlined}});
  return {{"function", place.function.empty() ? Json() : Json(place.function)},
          {"offset", place.function.empty() ? Json() : Json(place.function_offset)},
          {"module", place.module},
          {"module_offset", json_address(place.module_offset)},
          {"lines", std::move(lines)}};
}

Json json_gap(const Event& gap) {
  return {{"type", "gap"},
          {"cause", to_string(gap.cause)},
          {"bytes", gap.count},
          {"ip", gap.ip ? Json(json_address(gap.ip)) : Json()},
          {"tsc", json_time(gap.time)},
          {"offset", gap.offset}};
}

Json json_damage(const std::vector<DamageRow>& damage) {
  Json list = Json::array();
  for (const DamageRow& d : damage)
    list.push_back({{"what", d.what}, {"stream", d.stream}, {"offset", d.offset}, {"bytes", d.bytes}});
  return list;
}

Json json_counts(const FlowCounts& counts) {
  Json gaps = Json::array();
  for (const auto& g : counts.gaps)
    gaps.push_back({{"cause", to_string(g.cause)}, {"count", g.gaps}, {"bytes", g.bytes}});
  return {{"instructions", counts.instructions}, {"blocks", counts.blocks}, {"gaps", std::move(gaps)}};
}

}  // namespace hindcast::server::cli
