// What libipt is known to make of streams that no CPU sends.
#pragma once

#include "tests/support/engine_duel.h"

namespace hindcast::test {

/// Why libipt, as it is, tells the smallest stream otherwise (the engines' README says more); nullptr: nobody knows.
const char* explanation(const Duel& smallest, DuelWorld& world);

}  // namespace hindcast::test
