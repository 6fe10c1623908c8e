// trace.json from a stranger.
//
// Opinions: what is accepted can be written (it keeps the bundle's rules), holds exactly the folder's bytes, and does not
// depend on the white space of the text.
#include <nlohmann/json.hpp>

#include "server/import/lldb_bundle.h"
#include "tests/fuzz/fuzz_support.h"
#include "tests/unit/server/import_support.h"
#include "transport/manifest.h"
#include "transport/snapshot_rules.h"

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

namespace {

const std::string kTemplate =
    R"({"type":"intel-pt","cpuInfo":{"vendor":"GenuineIntel","family":6,"model":85,"stepping":4},)"
    R"("cpus":[{"id":1,"iptTrace":"t","contextSwitchTrace":"s"}],"cores":[{"coreId":"0x2","traceBuffer":"t"}],)"
    R"("processes":[{"pid":5,"threads":[{"tid":6,"iptTrace":"t"},{"tid":7,"traceBuffer":"t"}],)"
    R"("modules":[{"file":"m","systemPath":"/m","loadAddress":"0x500000","uuid":"AB-CD"},{"file":"l","loadAddress":4096}]}],)"
    R"("kernel":{"file":"m","loadAddress":0},)"
    R"("tscPerfZeroConversion":{"timeMult":7,"timeShift":31,"timeZero":"18433473881008870804"}})";

const MemoryFolder& folder() {
  static const MemoryFolder f = [] {
    MemoryFolder m;
    m.files["t"] = {1, 2, 3, 4};
    m.files["s"] = std::vector<uint8_t>(64, 15);
    m.files["m"] = SmallElf().bytes();
    SmallElf lib;
    lib.type = ET_DYN;
    lib.loads = {{0x1000, 0, 0x200, 0x200}, {0x3010, 0x300, 0x10, 0x5000}};
    m.files["l"] = lib.bytes();
    return m;
  }();
  return f;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  return mutate_from_template(kTemplate, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto r = read_lldb_bundle(text, folder());
  if (!r.ok()) {
    MUST(!r.error().what.empty());
    return 0;
  }
  MUST(transport::broken_rules(r->info).empty() || r->info.root_pids.size() > 65536);
  MUST(r->streams.size() == r->info.streams.size() && r->images.size() == r->info.images.size());
  for (size_t i = 0; i < r->streams.size(); ++i) {
    const StreamInfo& s = r->info.streams[i];
    MUST(s.bytes == r->streams[i].size());
    if (s.kind == StreamKind::pt) MUST(r->streams[i] == folder().files.at("t") || s.bytes != 4);
    if (s.kind != StreamKind::sideband || s.cpu != kNoCpu) continue;
    perf::RecordReader reader(r->streams[i]);
    perf::Record record;
    while (reader.next(record)) MUST(perf::read_sample_id(record, s.sample_type).has_value());
    MUST(!reader.malformed());
  }
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto again = read_lldb_bundle(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace), folder());
  MUST(again.ok() && transport::manifest_text(again->info) == transport::manifest_text(r->info));
  return 0;
}
