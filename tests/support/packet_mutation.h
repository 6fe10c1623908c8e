// PT streams that no CPU made: random ones, and real ones with a few packets changed.
#pragma once

#include <cstdint>
#include <vector>

#include "hindcast/bytes.h"
#include "tests/support/random_program.h"

namespace hindcast::test {

using Packets = std::vector<std::vector<uint8_t>>;

/// One element a packet; what cannot be read as packets is one element up to the next PSB.
Packets packets_of(ByteSpan bytes);
std::vector<uint8_t> joined(const Packets& packets);

/// A packet of any kind, with addresses that are among `ips` mostly.
std::vector<uint8_t> random_packet(Random& random, std::span<const uint64_t> ips);
/// Up to `most` bytes behind a PSB+, which may turn tracing on.
std::vector<uint8_t> random_bytes(Random& random, std::span<const uint64_t> ips, size_t most);
/// Up to `most` packets behind a PSB+.
std::vector<uint8_t> random_packets(Random& random, std::span<const uint64_t> ips, size_t most);

/// Removes, doubles, swaps, adds or replaces a few packets, or flips a few bits.
void mutate(Packets& packets, Random& random, std::span<const uint64_t> ips);

}  // namespace hindcast::test
