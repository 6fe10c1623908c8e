// A double of the kernel's perf events for Intel PT: what a program can see of them, without a CPU that has PT.
//
// It does what the kernel's perf core (kernel/events/core.c, ring_buffer.c) and its PT driver (arch/x86/events/intel/pt.c)
// do for AUX areas that are mapped read-only ("overwrite" or "snapshot" mode):
//  * The area starts zeroed. The hardware writes on from the head, round and round, and nobody is told.
//  * aux_head is written when the event stops, and is an offset in the ring: how often it went round is not told.
//  * Every stop leaves an AUX record of the whole ring's size, flagged OVERWRITE: this only names the mode.
//  * TRUNCATED also switches the event off, until somebody enables it again.
//  * ITRACE_START comes once, when the event first runs. Going on after a stop sends no PSB.
//  * Records that find the small ring full are counted, and the next that fits comes behind a LOST record.
//  * A CPU that goes offline takes its CPU-wide events out of service for good: ENABLE and DISABLE still return 0, and do
//    nothing, also when the CPU is back. Rings stay mapped. Events of a task only wait for their CPU.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "capture/perf_event.h"
#include "tests/support/pt_machine.h"

namespace hindcast::test {

/// One thread. Events that are not of the PT PMU go to `others`, or have rings in which nothing ever happens.
class PtKernel : public capture::PerfCalls {
 public:
  explicit PtKernel(const PtMachine& machine, capture::PerfCalls* others = nullptr);
  ~PtKernel() override;

  int open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) override;
  int map(const Fd& fd, size_t bytes, int prot, off_t offset, Mapping& out) override;
  int control(const Fd& fd, unsigned long request, unsigned long argument) override;

  // What the hardware and the rest of the machine do.

  /// The CPU makes these packets while `who` runs. Lost unless an event of that CPU, and for it, is running.
  void trace(CpuId cpu, ByteSpan packets, Pid who = Pid(1));
  bool tracing(CpuId cpu, Pid who = Pid(1)) const;
  /// The event is taken off its CPU and put back, as at a context switch: flags of its transaction are reported.
  void reschedule(CpuId cpu);
  /// The transaction that runs gets these flags (perf::AuxFlag). TRUNCATED ends it at once.
  void flag(CpuId cpu, uint64_t flags);
  /// Somebody else traces that CPU with PT, for everybody.
  void another_user(CpuId cpu) { taken_.insert(cpu); }
  void go_offline(CpuId cpu);
  void come_online(CpuId cpu);

  /// Stamps the records. CLOCK_MONOTONIC_RAW unless replaced.
  std::function<uint64_t()> clock;

  // What was asked of it.
  struct Opened {
    perf_event_attr attr;
    pid_t pid;
    int cpu;
    unsigned long flags;
  };
  const std::vector<Opened>& opened() const { return opened_; }  // PT only, granted ones
  uint64_t lost_packets() const { return lost_packets_; }        // bytes that trace() had no event for

 private:
  struct Event;
  Event* find(const Fd& fd);
  Event* running(CpuId cpu, Pid who) const;
  bool config_valid(uint64_t config) const;
  int check_open(const perf_event_attr& attr, pid_t pid, int cpu, unsigned long flags) const;
  int map_records(Event& e, size_t bytes);
  int map_aux(Event& e, size_t bytes, int prot, uint64_t offset);
  bool charge(Event& e, uint64_t pages);
  void start(Event& e);
  void stop(Event& e);
  void write_record(Event& e, uint32_t type, const std::vector<uint8_t>& body);

  const PtMachine machine_;
  capture::PerfCalls* others_;
  std::vector<std::unique_ptr<Event>> events_;
  std::vector<Opened> opened_;
  std::set<CpuId> taken_, offline_;
  uint64_t lost_packets_ = 0;
};

}  // namespace hindcast::test
