// The kernel's code for a recording in whose trace the kernel's execution is: its text, its modules, BPF programs and other
// code that it made at run time; and the names of all that.
//
// Memory is copied as it is when copy() runs. Text that the kernel patches meanwhile is told by TEXT_POKE records, which hold
// the bytes before and behind: they are for whoever reads the recording. What came or went while it was copied is left out.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "capture/code_bytes.h"
#include "capture/jited_programs.h"
#include "capture/kcore.h"
#include "capture/kernel_symbols.h"
#include "capture/ksymbol_log.h"

namespace hindcast::capture {

struct KernelCodeConfig {
  std::string proc = "/proc", sys = "/sys";
  JitedPrograms* programs = nullptr;                     // of the kernel when null
  std::function<Result<Kcore>()> open_core;              // proc/kcore when empty
  std::function<uint64_t()> boot_time;                   // CLOCK_BOOTTIME in ns; the kernel's when empty
  size_t most_early = 64;                                // programs copied a second because a record tells of them
  size_t most_program_bytes = size_t{64} << 20;          // of all BPF programs that are kept, those that went included
  static constexpr size_t kMostText = size_t{64} << 20;  // of the kernel
  static constexpr size_t kMostModules = size_t{64} << 20;  // of all modules
  static constexpr size_t kMostMade = size_t{16} << 20;     // of all else
};

/// Life: begin(), then records as they come; copy() and collect() in turn. One thread. Nothing that it cannot do is an error:
/// each is a note.
class KernelCode {
 public:
  explicit KernelCode(KernelCodeConfig config);

  /// When the sideband is on, and before anything is traced: what is there now was there before. Cost: BPF programs are
  /// copied, tens of microseconds each.
  void begin();
  /// A record as soon as it was read: a BPF program may soon be gone.
  void on_fresh_record(const perf::Record& record);
  /// Each record once more, in order of time.
  void on_record(const perf::Record& record, RecordTime time);
  /// Sees which modules there are; at most once a second, else it does nothing. now: of records.
  void look(RecordTime now);

  /// Copies what is there, while tracing may go on. Cost: 0.17 s of CPU for a /proc/kallsyms of 5 MB, and
  /// what a core file takes; at most 144 MiB of memory for it, and 128 for a moment while names are read.
  ///   now  the time of records when it begins, or earlier
  void copy(RecordTime now);
  /// What was copied last, with the times at which it was where: when all records that were made until the end of copy() have
  /// been shown to on_record(). Empty without a copy(). A second call gives nothing.
  ///   records_lost  the kernel dropped sideband records: what is known only by the absence of a record is not known
  CodeBytes::Collected collect(bool records_lost);

 private:
  struct Program {
    JitedProgram code;
    std::optional<RecordTime> loaded;  // by its record; none: it was there before
    bool there = true;
  };
  /// Memory that was copied, until the records say since when it was what it is.
  struct Piece {
    std::string path, build_id;
    uint64_t address = 0;
    std::vector<uint8_t> bytes;
    RecordTime from{0};
  };
  struct Taken {
    RecordTime begun{0};
    std::vector<Piece> text;  // of the kernel and of modules: no records tell of these
    std::vector<Piece> made;
    std::string symbols;                            // lines
    std::map<uint64_t, std::string> program_names;  // by address
    std::vector<std::string> notes;
  };
  struct SeenModule {
    KernelModule module;
    std::string identity;  // what tells it from one of the same name that was loaded later
    RecordTime since{0};
  };

  JitedPrograms& programs() const { return config_.programs ? *config_.programs : kernel_programs(); }
  void keep(JitedProgram program, std::optional<RecordTime> loaded);
  void make_room(size_t bytes);
  void copy_programs();
  void copy_memory();
  void copy_text(const Kcore& core, const KernelSymbols& symbols);
  void copy_modules(const Kcore& core, const KernelSymbols& symbols, const std::vector<KernelModule>& modules);
  void copy_made(const Kcore& core, const KernelSymbols& symbols);
  void see_modules(const std::vector<KernelModule>& modules, RecordTime now);
  std::string identity_of(const KernelModule& module) const;
  void place_programs(CodeBytes::Collected& out, bool records_lost);
  void place_made(CodeBytes::Collected& out, bool records_lost);
  void note(const std::string& text) { taken_->notes.push_back(text); }
  void missing(const std::string& what, const Error& error);

  const KernelCodeConfig config_;
  KsymbolLog log_;
  std::map<uint32_t, Program> kept_;  // by id
  size_t kept_bytes_ = 0;
  uint64_t programs_dropped_ = 0;
  bool programs_readable_ = true;
  uint64_t begun_ns_ = 0;
  std::map<std::string, SeenModule> modules_;
  std::set<std::string> modules_gone_;
  std::chrono::steady_clock::time_point next_look_, next_second_;
  size_t early_ = 0;  // in this second
  std::optional<Taken> taken_;
};

}  // namespace hindcast::capture
