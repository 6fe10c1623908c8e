// Configuration files of hindcast-server: any text gives settings within their limits, or an error that names the text.
#include "server/service/server_config.h"
#include "tests/fuzz/fuzz_support.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static constexpr std::string_view kTemplate =
      "[listen]\nendpoint = \"tcp://127.0.0.1:7411\"\nhttp = \"[::1]:7412\"\nhttp_token_file = \"t\"\n[keys]\n"
      "key_file = \"k\"\nallow_file = \"a\"\n[store]\nfolder = \"f\"\nlimit = \"5 GiB\"\nkeep_bytes = \"4 GiB\"\n"
      "keep_age = \"30 d\"\n[run]\nchildren = 4\nseconds = 600\n";
  return hindcast::mutate_from_template(kTemplate, data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hindcast;          // NOLINT
  using namespace hindcast::server;  // NOLINT
  const auto r = parse_server_config(std::string(reinterpret_cast<const char*>(data), size), "the text");
  if (!r.ok()) {
    MUST(r.error().code == Errc::bad_input && r.error().what.find("the text") != std::string::npos);
    MUST(!r.error().found.empty());
    return 0;
  }
  MUST(!r->key_file.empty() && !r->allow_file.empty() && !r->folder.empty());
  MUST(r->http.loopback() || !r->http_token_file.empty());
  MUST(r->http.port >= 0 && r->http.port <= 65535);
  MUST(r->run_children >= 1 && r->run_children <= 64 && r->run_limit.count() >= 1);
  MUST(r->endpoint.starts_with("tcp://") && r->keep.age.count() >= 0);
  return 0;
}
