// /proc/PID/maps: no line, however odd, makes a mapping that is impossible; what is accepted survives as a record.
#include <cstdlib>
#include <string_view>

#include "capture/proc_synth.h"
#include "capture/record_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;
  using namespace hindcast::capture;
  const auto map = parse_maps_line({reinterpret_cast<const char*>(data), size}, Pid(1));
  if (!map) return 0;
  if (map->length == 0 || map->start + map->length < map->start) std::abort();
  SidebandState state;
  state.add_map(*map);
  const std::vector<uint8_t> records = state.to_records(RecordTime(1));
  perf::RecordReader reader(records);
  perf::Record record;
  while (reader.next(record)) {
    const auto again = read_map_record(record, perf::kOurSampleType);
    // a NUL ends the path of a record; everything else must come back
    if (again && map->path.find('\0') == std::string::npos && !(*again == *map)) std::abort();
  }
  if (reader.malformed()) std::abort();
  return 0;
}
