// What a server answers: frames of a run give the same however they are cut, as a plain reader of the whole finds them;
// JSON gives values that keep their rules, or an Error. The first byte chooses.
#include <algorithm>
#include <string>

#include "server/remote_answers.h"
#include "server/remote_frames.h"
#include "tests/fuzz/fuzz_support.h"
#include "transport/names.h"

namespace {

using namespace hindcast;          // NOLINT
using namespace hindcast::server;  // NOLINT

struct Run {
  std::string out, err;
  bool bad = false;
  int code = -1;
  bool operator==(const Run&) const = default;
};

Run in_pieces(std::string_view stream, size_t piece) {
  Run r;
  RunFrames frames([&](std::string_view b) { return r.out += b, true; },
                   [&](std::string_view b) { return r.err += b, true; });
  for (size_t at = 0; at < stream.size() && !r.bad; at += piece) r.bad = !frames.take(stream.substr(at, piece)).ok();
  if (const auto code = frames.finish(); code.ok() && !r.bad) r.code = *code;
  return r;
}

/// The second opinion.
Run as_a_whole(std::string_view s) {
  Run r;
  while (!s.empty()) {
    if (r.code >= 0) return r.bad = true, r.code = -1, r;
    if (s.size() < 5) return r;
    uint32_t n = 0;
    for (size_t i = 0; i < 4; ++i) n |= uint32_t{static_cast<uint8_t>(s[1 + i])} << (8 * i);
    const auto kind = static_cast<uint8_t>(s[0]);
    r.bad = kind > 3 || n > RunFrames::kMaxFrameBytes || (kind == 0 && n) || (kind == 3 && n != 4);
    if (r.bad) return r;
    const std::string_view bytes = s.substr(5, n);
    if (kind == 1) r.out += bytes;
    if (kind == 2) r.err += bytes;
    if (bytes.size() < n) return r;
    if (kind == 3) {
      r.bad = bytes[1] || bytes[2] || bytes[3];
      if (r.bad) return r;
      r.code = static_cast<uint8_t>(bytes[0]);
    }
    s.remove_prefix(5 + n);
  }
  return r;
}

void check(const RemoteIncident& i) {
  MUST(transport::is_name(i.id));
  for (const RemoteSnapshot& h : i.hosts) MUST(transport::is_name(h.host));
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned random) {
  static constexpr std::string_view kIncident =
      "\1{\"incidents\":[{\"incident\":\"20261126T104501Z-3f2a9c0b\",\"created_unix_ns\":5,\"reason\":\"r\","
      "\"trigger\":\"alert\",\"alerts\":[{\"fingerprint\":\"f\",\"starts_at\":\"t\",\"labels\":{\"a\":\"b\"},"
      "\"annotations\":{}}],\"hosts\":[{\"host\":\"h\",\"state\":\"durable\",\"ordered_unix_ns\":1,\"frozen_unix_ns\":"
      "2,"
      "\"durable_unix_ns\":3,\"committed_unix_ns\":0,\"bytes\":77,\"error\":\"\"}]}]}";
  static constexpr char kFrames[] = "\0\0\0\0\0\0\1\3\0\0\0out\2\1\0\0\0e\3\4\0\0\0\5\0\0\0";
  static constexpr std::string_view kStatus =
      "\2{\"version\":\"0.1.0\",\"started_unix_ns\":9,\"transport\":\"t\",\"http\":\"h\",\"counters\":{\"w\":3},"
      "\"store\":{\"folder\":\"/"
      "s\",\"bytes\":1,\"limit_bytes\":2,\"incidents\":3,\"snapshots\":4},\"hosts\":[{\"host\":"
      "\"h\",\"connected\":true,\"program\":\"p\",\"state\":\"armed\",\"heard_ago_ms\":-1,\"spool_bytes\":5,"
      "\"spool_limit_bytes\":6,\"snapshots_waiting\":7,\"notes\":[\"n\"]}]}";
  const std::string_view seeds[] = {kIncident, {kFrames, sizeof kFrames - 1}, kStatus};
  return mutate_from_template(seeds[random / 7 % 3], data, size, max_size, random);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: {
      const Run whole = as_a_whole(body);
      for (const size_t piece : {size_t{1}, size_t{3}, std::max<size_t>(body.size(), 1)})
        MUST(in_pieces(body, piece) == whole);
      break;
    }
    case 1:
      if (const auto r = read_incidents_answer(body); r.ok()) {
        for (const RemoteIncident& i : *r) check(i);
      } else {
        MUST(!r.error().found.empty());
      }
      if (const auto r = read_incident_answer(body); r.ok()) check(*r);
      break;
    case 2:
      if (const auto r = read_status_answer(body); r.ok()) {
        for (const RemoteHost& h : r->hosts) MUST(transport::is_name(h.host));
      } else {
        MUST(!r.error().found.empty());
      }
      break;
    default: {
      const Error e = read_error_answer(500, body);
      MUST(!e.what.empty() && e.what.size() <= 4096 && e.found.size() <= 4096 && e.fix.size() <= 4096);
    }
  }
  return 0;
}
