// The packet layer against the references of the corpus of real traces.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "decode/packet_reader.h"
#include "tests/support/corpus.h"
#include "tests/support/sha256.h"

namespace hindcast::decode {
namespace {

/// The corpus' name for a kind; MODE is counted as one, besides mode_exec and mode_tsx.
std::string corpus_key(Kind kind) {
  switch (kind) {
    case Kind::tnt:
      return "tnt8";
    case Kind::tnt_long:
      return "tnt64";
    case Kind::mode_exec:
    case Kind::mode_tsx:
      return "mode";
    case Kind::trace_stop:
      return "stop";
    default:
      break;
  }
  std::string key;
  for (char c : to_string(kind)) key += c == '.' ? '_' : static_cast<char>(std::tolower(c));
  return key;
}

struct Totals {
  std::map<std::string, uint64_t> packets;
  std::map<std::string, std::map<std::string, uint64_t>> ip_forms;
  uint64_t tnt_bits = 0, ips = 0, mode_exec = 0, mode_tsx = 0, first_psb = 0, resyncs = 0, truncated = 0;
  test::Sha256 tnt_hash, ip_hash;
};

/// As the corpus README defines them: from the first PSB to the end of the file.
void count_packets(ByteSpan trace, Totals& t) {
  PacketReader reader(trace);
  ASSERT_TRUE(reader.resync());
  t.first_psb = reader.offset();
  LastIp last_ip;
  Packet p;
  for (Step step; (step = reader.next(p)) != Step::end;) {
    if (step == Step::truncated) {
      ++t.truncated;
      break;
    }
    if (step == Step::bad) {
      ++t.resyncs;
      if (!reader.resync()) break;
      continue;
    }
    ++t.packets[corpus_key(p.kind)];
    t.mode_exec += p.kind == Kind::mode_exec;
    t.mode_tsx += p.kind == Kind::mode_tsx;
    const uint64_t ip = expand_ip(last_ip, p);
    if (is_ip(p.kind)) ++t.ip_forms[corpus_key(p.kind)][std::to_string(p.detail)];
    if (p.has_ip()) {
      ++t.ips;
      t.ip_hash.update_u64(ip);
    }
    if (is_tnt(p.kind)) {
      t.tnt_bits += p.detail;
      for (int bit = p.detail - 1; bit >= 0; --bit) {
        const uint8_t c = (p.payload >> bit) & 1 ? '1' : '0';
        t.tnt_hash.update({&c, 1});
      }
    }
  }
}

TEST(PacketCorpus, CountsBitsAndAddressesOfEveryTraceEqualTheReference) {
  HC_REQUIRE_CORPUS();
  const auto names = test::corpus_names();
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const test::CorpusTrace want = test::corpus_trace(name);
    const std::vector<uint8_t> trace = test::file_bytes(want.trace);
    ASSERT_EQ(trace.size(), want.trace_bytes);
    ASSERT_EQ(test::sha256_hex(trace), want.trace_sha256);
    Totals got;
    count_packets(trace, got);
    EXPECT_EQ(got.first_psb, want.first_psb_offset);
    EXPECT_EQ(got.packets, want.packets);
    EXPECT_EQ(got.mode_exec, want.mode_exec);
    EXPECT_EQ(got.mode_tsx, want.mode_tsx);
    EXPECT_EQ(got.tnt_bits, want.tnt_bits);
    EXPECT_EQ(got.tnt_hash.hex(), want.tnt_sha256);
    EXPECT_EQ(got.ips, want.ip_packets_with_payload);
    EXPECT_EQ(got.ip_hash.hex(), want.ip_sha256);
    EXPECT_EQ(got.resyncs, 0u);
    for (const auto& [kind, forms] : want.expected.at("ip_compression_counts").items())
      for (const auto& [form, count] : forms.items())
        EXPECT_EQ(got.ip_forms[kind][form], count.get<uint64_t>()) << kind << " with IPBytes " << form;
  }
}

}  // namespace
}  // namespace hindcast::decode
