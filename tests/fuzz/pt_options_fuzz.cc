// PT option texts: what parses prints to a text that parses to the same and prints the same; what does not says why.
#include <algorithm>

#include "hindcast/pt_config.h"
#include "tests/fuzz/fuzz_support.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static constexpr std::string_view kTemplate =
      "tsc,mtc=0,cyc,cyc_thresh=3,noretcomp,psb_period=0xf,ptw,fup_on_ptw,pwr_evt,event,notnt";
  return hindcast::mutate_from_template(kTemplate, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto r = hindcast::parse_pt_options(text);
  if (!r.ok()) {
    MUST(r.error().code == hindcast::Errc::usage);
    const std::string words = r.error().text();
    MUST(std::all_of(words.begin(), words.end(), [](char c) { return c == '\n' || (c >= 0x20 && c < 0x7f); }));
    return 0;
  }
  const std::string canonical = hindcast::to_text(*r);
  const auto again = hindcast::parse_pt_options(canonical);
  MUST(again.ok() && *again == *r && hindcast::to_text(*again) == canonical);
  // Items may come in any order: contradictions do not depend on it.
  const size_t comma = text.find(',');
  if (comma != text.npos) {
    const std::string turned = std::string(text.substr(comma + 1)) + "," + std::string(text.substr(0, comma));
    const auto other = hindcast::parse_pt_options(turned);
    MUST(other.ok() && *other == *r);
  }
  return 0;
}
