// Where the simulator's two files are: QEMU's user emulator and our plugin for it.
#pragma once

#include <string>

namespace hindcast::capture {

/// HINDCAST_QEMU when set, else qemu-x86_64 by PATH; empty when it is nowhere.
std::string find_qemu();

/// HINDCAST_SIM_PLUGIN when set, else hindcast-sim.so beside this program, in ../lib, or in ../lib/hindcast; empty when
/// it is nowhere.
std::string find_sim_plugin();

/// The first line that `program argument` prints on its standard output; empty when it cannot be run, prints nothing or
/// takes longer than five seconds.
std::string first_output_line(const std::string& program, const std::string& argument);

}  // namespace hindcast::capture
