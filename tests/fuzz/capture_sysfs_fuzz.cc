// The small text formats of sysfs: PMU fields and CPU lists.
#include <bit>
#include <cstdlib>
#include <string_view>

#include "capture/pt_caps.h"
#include "capture/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;
  using namespace hindcast::capture;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto field = parse_pmu_field(text)) {
    if (field->mask == 0) std::abort();
    const int bits = std::popcount(field->mask);
    const uint64_t all = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    if (field->place(all) != field->mask || field->place(0) != uint64_t{0}) std::abort();
    if (bits < 64 && field->place(all + 1)) std::abort();
  }
  const auto cpus = parse_cpu_list(text);
  if (cpus.ok() && (cpus->empty() || cpus->size() > 65536)) std::abort();
  return 0;
}
