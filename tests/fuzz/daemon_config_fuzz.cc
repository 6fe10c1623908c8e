// Configuration files of hindcastd: any text gives settings within their limits, or an error that names the text.
#include "capture/daemon_config.h"
#include "tests/fuzz/fuzz_support.h"
#include "transport/names.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static constexpr std::string_view kTemplate =
      "host = \"h\"\n[server]\nendpoint = \"tcp://127.0.0.1:7411\"\npublic_key_file = \"s\"\nkey_file = \"k\"\n"
      "bytes_per_second = \"5 MiB\"\n[spool]\nfolder = \"f\"\nlimit = \"4 GiB\"\n[trace]\nsource = \"simulated\"\n"
      "pt = \"tsc,mtc\"\nring = \"64 KiB\"\nsideband_ring = \"4 MiB\"\nsim = \"seed=1\"\ntruth = \"t\"\n[window]\n"
      "command = [\"a\", \"b\"]\n[freeze]\ncooldown = \"1 s\"\nlate = \"60 s\"\n";
  return hindcast::mutate_from_template(kTemplate, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;           // NOLINT
  using namespace hindcast::capture;  // NOLINT
  const auto r = parse_daemon_config(std::string(reinterpret_cast<const char*>(data), size), "the text", "/etc");
  if (!r.ok()) {
    MUST(r.error().code == Errc::bad_input && r.error().what.find("the text") != std::string::npos);
    MUST(!r.error().found.empty());
    return 0;
  }
  MUST(!r->key_file.empty() && !r->server_key_file.empty() && !r->spool.folder.empty());
  MUST(r->key_file[0] == '/' && r->server_key_file[0] == '/' && r->spool.folder[0] == '/');
  MUST(r->sender.endpoint.starts_with("tcp://") && transport::is_name(r->sender.host));
  for (const uint64_t ring : {r->window.ring_bytes, uint64_t{r->window.sideband_ring_bytes}})
    MUST(ring >= 4096 && (ring & (ring - 1)) == 0);
  MUST(r->cooldown.count() >= 0 && r->late.count() >= 0);
  return 0;
}
