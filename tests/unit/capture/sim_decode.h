// libipt as the second opinion on what the simulator encodes.
#pragma once

#include <intel-pt.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "hindcast/bytes.h"
#include "hindcast/pt_config.h"
#include "hindcast/result.h"

namespace hindcast::sim {

/// One stretch of instructions that libipt found between two changes of the tracing state.
struct Stretch {
  std::vector<uint64_t> ips;
  uint64_t tsc = 0;        // libipt's estimate at its begin
  std::string begin, end;  // the events around it
};

struct Decoded {
  std::vector<Stretch> stretches;
  std::vector<std::string> errors;
  uint64_t overflows = 0, enabled = 0, disabled = 0, async_disabled = 0, instructions = 0;
  std::vector<uint64_t> all() const {
    std::vector<uint64_t> v;
    for (const Stretch& s : stretches) v.insert(v.end(), s.ips.begin(), s.ips.end());
    return v;
  }
};

using ReadMemory = std::function<int(uint8_t*, size_t, uint64_t)>;

inline pt_config ipt_config(std::vector<uint8_t>& bytes, const PtCpu& cpu, const PtOptions& pt) {
  pt_config c;
  pt_config_init(&c);
  c.begin = bytes.data();
  c.end = bytes.data() + bytes.size();
  c.cpu = {pcv_intel, cpu.family, cpu.model, cpu.stepping};
  pt_cpu_errata(&c.errata, &c.cpu);
  c.cpuid_0x15_eax = cpu.tsc_ctc_den;
  c.cpuid_0x15_ebx = cpu.tsc_ctc_num;
  c.mtc_freq = pt.mtc_period;
  c.nom_freq = cpu.nominal_ratio;
  return c;
}

inline int ipt_read(uint8_t* buffer, size_t size, const pt_asid*, uint64_t ip, void* context) {
  return (*static_cast<const ReadMemory*>(context))(buffer, size, ip);
}

namespace detail {

template <class Decoder>
struct Api;
template <>
struct Api<pt_insn_decoder> {
  static pt_insn_decoder* alloc(const pt_config* c) { return pt_insn_alloc_decoder(c); }
  static void free(pt_insn_decoder* d) { pt_insn_free_decoder(d); }
  static pt_image* image(pt_insn_decoder* d) { return pt_insn_get_image(d); }
  static int sync(pt_insn_decoder* d) { return pt_insn_sync_forward(d); }
  static int event(pt_insn_decoder* d, pt_event* e) { return pt_insn_event(d, e, sizeof *e); }
  static void time(pt_insn_decoder* d, uint64_t* t) { pt_insn_time(d, t, nullptr, nullptr); }
  static void offset(pt_insn_decoder* d, uint64_t* o) { pt_insn_get_offset(d, o); }
  static int next(pt_insn_decoder* d, std::vector<uint64_t>& out, const ReadMemory&) {
    pt_insn insn;
    const int status = pt_insn_next(d, &insn, sizeof insn);
    if (insn.iclass != ptic_error && (status >= 0 || insn.iclass != 0)) out.push_back(insn.ip);
    return status;
  }
};
template <>
struct Api<pt_block_decoder> {
  static pt_block_decoder* alloc(const pt_config* c) { return pt_blk_alloc_decoder(c); }
  static void free(pt_block_decoder* d) { pt_blk_free_decoder(d); }
  static pt_image* image(pt_block_decoder* d) { return pt_blk_get_image(d); }
  static int sync(pt_block_decoder* d) { return pt_blk_sync_forward(d); }
  static int event(pt_block_decoder* d, pt_event* e) { return pt_blk_event(d, e, sizeof *e); }
  static void time(pt_block_decoder* d, uint64_t* t) { pt_blk_time(d, t, nullptr, nullptr); }
  static void offset(pt_block_decoder* d, uint64_t* o) { pt_blk_get_offset(d, o); }
  static int next(pt_block_decoder* d, std::vector<uint64_t>& out, const ReadMemory&) {
    pt_block block;
    std::memset(&block, 0, sizeof block);
    const int status = pt_blk_next(d, &block, sizeof block);
    for (unsigned i = 0; i < block.ninsn; ++i)
      out.push_back(i == 0 ? block.ip : i + 1 == block.ninsn ? block.end_ip : 0);
    return status;
  }
};

}  // namespace detail

/// Decodes all of a CPU's trace. With pt_block_decoder only the first and last IP of each block are known; the rest are 0.
template <class Decoder = pt_insn_decoder>
Decoded ipt_decode(std::vector<uint8_t> bytes, const PtCpu& cpu, const PtOptions& pt, const ReadMemory& read) {
  using A = detail::Api<Decoder>;
  Decoded out;
  if (bytes.empty()) return out;
  pt_config config = ipt_config(bytes, cpu, pt);
  Decoder* d = A::alloc(&config);
  HC_CHECK(d != nullptr);
  HC_CHECK(pt_image_set_callback(A::image(d), ipt_read, const_cast<ReadMemory*>(&read)) == 0);
  out.stretches.emplace_back();
  const auto cut = [&](const char* why) {
    out.stretches.back().end = why;
    out.stretches.emplace_back();
    out.stretches.back().begin = why;
    A::time(d, &out.stretches.back().tsc);
  };
  int status = A::sync(d);
  while (status >= 0) {
    for (;;) {
      while (status >= 0 && (status & pts_event_pending)) {
        pt_event e;
        status = A::event(d, &e);
        if (status < 0) break;
        if (e.status_update) continue;
        switch (e.type) {
          case ptev_enabled:
            ++out.enabled;
            cut("enabled");
            break;
          case ptev_disabled:
            ++out.disabled;
            cut("disabled");
            break;
          case ptev_async_disabled:
            ++out.async_disabled;
            cut("async_disabled");
            break;
          case ptev_overflow:
            ++out.overflows;
            cut("overflow");
            break;
          default:
            break;
        }
      }
      if (status < 0 || (status & pts_eos)) break;
      const size_t before = out.stretches.back().ips.size();
      status = A::next(d, out.stretches.back().ips, read);
      out.instructions += out.stretches.back().ips.size() - before;
      if (status < 0) break;
    }
    if (status < 0 && status != -pte_eos) {
      uint64_t offset = 0;
      A::offset(d, &offset);
      out.errors.push_back(std::string(pt_errstr(pt_errcode(status))) + " at offset " + std::to_string(offset));
      cut("error");
      status = A::sync(d);
      continue;
    }
    break;
  }
  A::free(d);
  return out;
}

}  // namespace hindcast::sim
