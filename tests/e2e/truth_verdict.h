// What `hindcast verify --truth` says of a bundle, summed up.
#pragma once

#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "tests/e2e/recording.h"

namespace hindcast::test {

struct Verdict {
  int status = -1;
  std::string text;
  uint64_t threads = 0, decoded = 0, truth = 0, gaps = 0, not_decoded = 0, different = 0, timed = 0, misplaced = 0;
  std::map<std::string, uint64_t> gap_causes;  // over all CPU streams
};

inline Verdict verify_with_truth(const std::string& bundle, const std::string& truth) {
  const Ran f = run_program({bin("hindcast"), "verify", bundle, "--truth", truth, "--json"});
  Verdict v;
  v.status = f.code;
  v.text = f.err;
  for (const nlohmann::json& j : f.objects()) {
    if (j["type"] == "stream")
      for (const nlohmann::json& g : j["gaps"])
        v.gap_causes[g["cause"].get<std::string>()] += g["count"].get<uint64_t>();
    if (j["type"] != "thread") continue;
    ++v.threads;
    v.decoded += j["decoded"].get<uint64_t>();
    v.truth += j["truth"].get<uint64_t>();
    v.gaps += j["gaps"].get<uint64_t>();
    v.not_decoded += j["not_decoded"].get<uint64_t>();
    v.timed += j["timed"].get<uint64_t>();
    v.misplaced += j["misplaced"].get<uint64_t>();
    // A foreign thread to which a guess gave a stretch that then decoded to nothing claims nothing.
    const bool claims = j["decoded"].get<uint64_t>() > 0 || j["truth"].get<uint64_t>() > 0;
    if (claims && !j["equal"].get<bool>()) {
      ++v.different;
      v.text += j.dump(1) + "\n";
    }
  }
  return v;
}

}  // namespace hindcast::test
