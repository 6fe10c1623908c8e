// Import: traces recorded by other tools become a bundle, so that everything else reads one format.
//
//   raw     PT bytes alone, with code from a page cache (kAFL: one file of page addresses, one of pages) or from ELF files
//           at given addresses
//   lldb    a folder with trace.json as LLDB's "trace save" writes it, per thread or per CPU
//   pevent  PT bytes and perf records per CPU, as libipt's perf-read-* scripts take them out of a perf.data
//   perf    a perf.data file, of Linux perf or of `hindcast export`
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/pt_config.h"
#include "hindcast/result.h"

namespace hindcast::server {

enum class ImportFormat : uint8_t { automatic, raw, lldb, pevent, perf_data };

/// An ELF file of the person who imports; its path is trusted, its bytes are not.
struct ElfInput {
  std::string path;
  /// Where the page of its lowest PT_LOAD segment was mapped. Nothing: where it was linked to for an EXEC file; a DYN file
  /// is then placed by mmap records alone, and without such records that is an error.
  std::optional<uint64_t> load_address;
  /// Its name in mmap records; empty: the record whose file name is the same but for folders.
  std::string mapped_as;
};

/// What the formats do not say is left at its default by those who do not know it; what is given here wins over the trace.
struct ImportRequest {
  /// The trace file, or a folder in which the files are found by name; a perf.data file is known by its first bytes:
  ///   perf.data                                   perf
  ///   trace.json                                  lldb
  ///   trace.pt, page_cache.addr, page_cache.dump  raw
  ///   *.bin with *.pevent                         pevent: primary*.pevent or *-cpu*.pevent belong to the PT files, both in
  ///                                               order of name; other *.pevent files belong to no CPU
  std::string input;
  ImportFormat format = ImportFormat::automatic;

  std::vector<ElfInput> elfs;  // raw and pevent
  std::string page_addresses;  // raw: both or none
  std::string page_bytes;
  std::vector<std::string> more_pt;          // pevent: PT files of further CPUs
  std::vector<std::string> sideband;         // pevent: one for each PT file, in the same order
  std::vector<std::string> shared_sideband;  // pevent: records without a CPU
  uint64_t sample_type = 0x10086;            // pevent: TID|TIME|CPU|IDENTIFIER, what perf records by default
  /// perf: perf's build-id cache (it holds .build-id/); empty: the folder "buildid" beside the file.
  std::string build_id_folder;
  /// pevent and perf: files that mmap records name are looked up in this folder, never outside; empty: the folder of the PT
  /// file, or of perf.data. "/" means the files of this machine, taken where their build-ids agree.
  std::string image_root;

  PtCpu cpu;                    // family, tsc_ctc_num, ctc_hz, nominal_ratio: 0 for not given
  std::optional<PtOptions> pt;  // nothing: what the packets show
};

/// Reads everything into memory (at most 4 GiB per file), then writes out_path as BundleWriter does.
/// Errors say which file and which rule: bad_input, not_found, too_large, unsupported, usage, io.
Result<void> import_to_bundle(const ImportRequest& request, const std::string& out_path);

/// For command lines. "6/85/4": family, model and stepping in decimal; "2,308" or "2,308,25000000": EAX, EBX and
/// ECX of CPUID leaf 15H; "PATH", "PATH@0x400000", "PATH@0x400000=/name/in/records", "PATH=/name/in/records".
Result<void> parse_cpu_model(std::string_view text, PtCpu& cpu);
Result<void> parse_cpuid_15h(std::string_view text, PtCpu& cpu);
Result<ElfInput> parse_elf_input(std::string_view text);

}  // namespace hindcast::server
