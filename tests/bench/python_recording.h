// A long stream to measure with: python3 under the simulated source with TSC, MTC and CYC, a PSB every 16 KiB.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/support/run_program.h"

namespace hindcast::test {

/// Records a bundle in which so many CPUs have each a full ring, MiB large; its path, or an empty one after saying why. With
/// HINDCAST_BENCH_KEEP=FOLDER it is kept there, and taken from there the next time.
inline std::string python_recording(const TempFolder& folder, const std::string& name, int cpus, int ring_mib) {
  const char* kept = std::getenv("HINDCAST_BENCH_KEEP");
  const std::string path = (kept ? std::string(kept) : folder.path()) + "/" + name + ".hcb";
  if (::access(path.c_str(), R_OK) == 0) return path;
  // Somewhat more than 256 MiB of trace in 40 rounds.
  const std::string python = "import json,re\nfor n in range(" + std::to_string(1 + ring_mib * 40 / 256) +
                             "):\n"
                             "  d=[{str(i):[j*1.5 for j in range(20)]} for i in range(1500)]\n  s=json.dumps(d)\n"
                             "  x=json.loads(s)\n"
                             "  print(len(re.findall('1.5',s)),sum(len(k) for e in x for k in e))";
  std::string all;
  for (int cpu = 0; cpu < cpus; ++cpu) all += "taskset -c " + std::to_string(cpu) + " python3 -c \"$0\" & ";
  const Ran ran = run_program({std::string(HC_BIN_DIR) + "/hindcast", "record", "--source", "simulated", "--pt",
                               "tsc,mtc,cyc,noretcomp,psb_period=3", "--ring", std::to_string(ring_mib) + "MiB", "-o",
                               path, "--", "/bin/sh", "-c", all + "wait", python});
  if (ran.code == 0) return path;
  std::fprintf(stderr, "%s\n", ran.err.c_str());
  return {};
}

}  // namespace hindcast::test
