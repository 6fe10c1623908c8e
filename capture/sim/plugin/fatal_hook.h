// SPDX-License-Identifier: MIT
// Learns of a signal that ends the process, at the last moment at which anything can be learned.
//
// For a signal whose default action is to end the program, QEMU resets the host's handler and sends itself the signal
// with kill() (linux-user/signal.c, dump_core_and_abort): no plugin callback comes. So QEMU's link to kill() is led to
// a function of ours, which tells the listener and goes on to kill().
#pragma once

namespace hindcast::sim {

/// Called on the thread that the signal came to. From then on nothing of the program runs in that thread.
using FatalSignalListener = void (*)(int signal);

/// False when QEMU has no such link; then a fatal signal looks like a kill from outside.
bool hook_fatal_signals(FatalSignalListener listener);

}  // namespace hindcast::sim
