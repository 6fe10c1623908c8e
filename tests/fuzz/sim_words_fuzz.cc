// A plugin that says anything: its words must never crash the daemon, and what is encoded must stay well-formed packets.
#include <intel-pt.h>

#include <cstdlib>
#include <cstring>

#include "capture/sim/thread_merge.h"

using namespace hindcast;
using namespace hindcast::sim;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8 || size > 8192) return 0;
  constexpr uint64_t kStart = uint64_t{1} << 40;
  static const uint8_t lengths[] = {1, 2, 3, 2};
  auto table = std::make_shared<BlockTable>();
  for (uint32_t i = 0; i < 9; ++i) {
    BlockInfo b;
    b.ip = 0x401000 + i * 8;
    b.lengths = lengths;
    b.bytes = 8;
    b.instructions = 4;
    b.kind = static_cast<Terminator>(i);
    b.target = i == 0 ? b.fall() : 0x401000 + (i * 3 % 9) * 8;
    table->add(i, b);
  }
  MergeConfig config;
  config.encoder.cpu = simulated_cpu(2600000000);
  config.encoder.pt.cyc = data[0] & 1;
  config.encoder.pt.noretcomp = data[0] & 2;
  config.encoder.pt.mtc_period = 9;
  config.encoder.pt.psb_period = 0;
  config.encoder.ring_bytes = 1 << 16;
  config.encoder.start_tsc = kStart;
  config.encoder.changing_clock = false;
  config.encoder.deferred_tips = data[0] & 4;
  config.encoder.ovf_per_kib = data[0] & 8 ? 1 : 0;
  config.cpus = {CpuId(0), CpuId(1)};
  ThreadMerge merge(config);
  // Words of three bytes' worth: mostly block ids, some special; times are kept near each other, as 64-bit chaos would
  // only fill the ring with MTCs.
  static uint32_t words[4096];
  uint64_t n = 0, t = kStart;
  for (size_t i = 1; i + 2 < size && n + 8 < 4096; i += 3) {
    if (data[i] < 200) {
      words[n++] = data[i] % 10;
      continue;
    }
    const auto type = static_cast<Word>(1 + data[i] % 8);
    words[n++] = special(type, data[i + 1] % 6);
    t += data[i + 2] * 16u;
    if (data[i] > 250) continue;  // cut short
    for (uint32_t k = 0; k < words_after(type); k += 2) {
      const uint64_t v = type == Word::signal && k == 2 ? 0x401000 + data[i + 1] % 80 : type == Word::lost ? 0 : t;
      words[n++] = static_cast<uint32_t>(v);
      words[n++] = static_cast<uint32_t>(v >> 32);
    }
  }
  std::atomic<uint64_t> written{n}, taken{0};
  WordRing ring;
  ring.words = words;
  ring.capacity = 4096;
  ring.written = &written;
  ring.taken = &taken;
  merge.add_thread(Pid(1), Tid(1), ring, table, kStart + 1);
  for (size_t i = 0; i < size % 16; ++i)
    merge.on_switch(CpuId(i & 1), Tid(static_cast<int32_t>(data[i % size] % 3)), kStart + i * 3000, data[i % size] & 4);
  merge.work(kStart + data[1] * 256u, kStart + (uint64_t{1} << 22));
  merge.finish(kStart + (uint64_t{1} << 23));
  if (merge.waiting_words() != 0 && merge.stats().bad_words == 0) abort();
  for (uint32_t c = 0; c < 2; ++c) {
    std::vector<uint8_t> bytes = merge.encoder(CpuId(c)).ring().contents();
    if (bytes.empty() || merge.encoder(CpuId(c)).ring().wrapped()) continue;
    pt_config pt;
    pt_config_init(&pt);
    pt.begin = bytes.data();
    pt.end = bytes.data() + bytes.size();
    pt_packet_decoder* d = pt_pkt_alloc_decoder(&pt);
    if (pt_pkt_sync_forward(d) < 0) abort();
    pt_packet p;
    int status;
    while ((status = pt_pkt_next(d, &p, sizeof p)) > 0) {
    }
    if (status != -pte_eos) abort();
    pt_pkt_free_decoder(d);
  }
  return 0;
}
