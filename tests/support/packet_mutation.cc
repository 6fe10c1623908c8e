#include "tests/support/packet_mutation.h"

#include <algorithm>
#include <utility>

#include "decode/packet_reader.h"
#include "tests/fuzz/packet_stream.h"

namespace hindcast::test {
namespace {

uint64_t some_ip(Random& random, std::span<const uint64_t> ips) {
  if (ips.empty() || one_in(random, 16)) return random() >> below(random, 64);
  const uint64_t ip = ips[below(random, ips.size())];
  return one_in(random, 8) ? ip + below(random, 16) : ip;
}

PtBytes head(Random& random, std::span<const uint64_t> ips) {
  PtBytes t;
  t.psb();
  if (one_in(random, 2)) t.tsc(below(random, 100000));
  if (!one_in(random, 16)) t.mode_exec(one_in(random, 8) ? 2 : 1);
  if (one_in(random, 2)) t.fup(some_ip(random, ips));
  if (!one_in(random, 32)) t.psbend();
  return t;
}

void append_any(Random& random, std::span<const uint64_t> ips, PtBytes& t) {
  constexpr int kForms[] = {0, 1, 2, 3, 3, 3, 3, 4, 6};
  const int form = kForms[below(random, std::size(kForms))];
  switch (below(random, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      t.le(2 + below(random, 254), 1);  // a short TNT mostly
      break;
    case 4:
    case 5:
      t.tip(some_ip(random, ips), form);
      break;
    case 6:
    case 7:
      t.tip_pge(some_ip(random, ips), form);
      break;
    case 8:
      t.tip_pgd(some_ip(random, ips), form);
      break;
    case 9:
      t.fup(some_ip(random, ips), form);
      break;
    case 10:
      t.fup(some_ip(random, ips), form).tip_pgd();
      break;
    case 11:
      t.fup(some_ip(random, ips), form).tip(some_ip(random, ips), form);
      break;
    case 12:
      t.psb().mode_exec().fup(some_ip(random, ips)).psbend();
      break;
    default: {
      uint8_t any[24];
      for (uint8_t& b : any) b = static_cast<uint8_t>(random());
      FuzzInput in(any, sizeof any);
      append_packet(in, t);
      break;
    }
  }
}

}  // namespace

Packets packets_of(ByteSpan bytes) {
  Packets all;
  decode::PacketReader reader(bytes);
  decode::Packet p;
  for (uint64_t at = 0; at < bytes.size(); at = reader.offset()) {
    if (reader.next(p) != decode::Step::ok && !reader.resync()) {
      all.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at), bytes.end());
      break;
    }
    all.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at),
                     bytes.begin() + static_cast<ptrdiff_t>(reader.offset()));
  }
  return all;
}

std::vector<uint8_t> joined(const Packets& packets) {
  std::vector<uint8_t> bytes;
  for (const auto& p : packets) bytes.insert(bytes.end(), p.begin(), p.end());
  return bytes;
}

std::vector<uint8_t> random_packet(Random& random, std::span<const uint64_t> ips) {
  PtBytes t;
  append_any(random, ips, t);
  return t.bytes();
}

std::vector<uint8_t> random_bytes(Random& random, std::span<const uint64_t> ips, size_t most) {
  PtBytes t = head(random, ips);
  if (one_in(random, 2)) t.tip_pge(some_ip(random, ips));
  for (size_t n = below(random, most); n > 0; --n) {
    // A second PSB is too rare to come by chance.
    if (one_in(random, 64))
      t.psb();
    else
      t.le(random(), 1);
  }
  return t.bytes();
}

std::vector<uint8_t> random_packets(Random& random, std::span<const uint64_t> ips, size_t most) {
  PtBytes t = head(random, ips);
  for (size_t n = below(random, most); n > 0; --n) append_any(random, ips, t);
  return t.bytes();
}

void mutate(Packets& packets, Random& random, std::span<const uint64_t> ips) {
  for (size_t n = 1 + below(random, 4); n > 0 && !packets.empty(); --n) {
    const size_t at = below(random, packets.size());
    const auto where = packets.begin() + static_cast<ptrdiff_t>(at);
    switch (below(random, 6)) {
      case 0:
        packets.erase(where,
                      where + static_cast<ptrdiff_t>(1 + below(random, std::min<size_t>(4, packets.size() - at))));
        break;
      case 1: {
        const std::vector<uint8_t> again = *where;
        packets.insert(where, again);
        break;
      }
      case 2:
        std::swap(packets[at], packets[below(random, packets.size())]);
        break;
      case 3:
        packets.insert(where, random_packet(random, ips));
        break;
      case 4:
        *where = random_packet(random, ips);
        break;
      default:
        (*where)[below(random, where->size())] ^= static_cast<uint8_t>(1u << below(random, 8));
        break;
    }
  }
}

}  // namespace hindcast::test
