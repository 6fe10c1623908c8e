// `hindcastd --doctor`: each ability that capture can use, whether it is there, and what to do when it is not.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "capture/jited_programs.h"
#include "capture/perf_event.h"
#include "capture/pt_caps.h"

namespace hindcast::capture {

enum class AbilityState : uint8_t { ok, degraded, missing };

struct Ability {
  std::string name;  // "perf events", "CAP_PERFMON", ...
  AbilityState state = AbilityState::missing;
  std::string found;        // the value here
  std::string needed;       // the value that would do
  std::string consequence;  // what does not work without it; empty when all is well
  std::string fix;          // a command or setting; empty when there is none
};

/// What the doctor looks at. Everything can be replaced by tests.
struct DoctorConfig {
  MachineRoots roots;
  PerfCalls* calls = nullptr;         // of the kernel when null
  JitedPrograms* programs = nullptr;  // of the kernel when null
  std::string qemu;                   // path of qemu-x86_64; empty: not found
  std::string plugin;                 // path of the simulator's plugin; empty: not found
  std::function<std::string(const std::string& program)> version_of;  // first line of PROGRAM --version, or empty
};
/// The real machine.
DoctorConfig this_machine();

struct Diagnosis {
  std::vector<Ability> abilities;
  bool perf_source = false;       // can record with real PT
  bool simulated_source = false;  // can record with simulated PT
  bool can_record() const { return perf_source || simulated_source; }
};

/// Tries each ability on its own; needs no privilege to run, only to find more.
Diagnosis diagnose(const DoctorConfig& config);

/// For a person: one block per ability. For a program: one JSON object.
std::string to_text(const Diagnosis& diagnosis);
std::string to_json(const Diagnosis& diagnosis);

/// "7.2.22" from "qemu-x86_64 version 7.2.22 (Debian ...)"; empty when there is none.
std::string version_in(const std::string& line);

}  // namespace hindcast::capture
