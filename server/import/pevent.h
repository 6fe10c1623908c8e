// PT bytes with perf records as sideband, in the files that libipt calls "pevent".
#pragma once

#include <string>
#include <vector>

#include "server/import/import.h"
#include "server/import/imported.h"
#include "server/import/input_files.h"

namespace hindcast::server {

/// One CPU's PT and its own records.
struct PeventCpu {
  std::vector<uint8_t> pt;
  std::vector<uint8_t> records;
};

/// Records are in the perf.data on-disk encoding (perf_record.h) and are stored as they are.
///   CPU numbers   from the records' sample_id trailers; a PT file whose records name no CPU gets its place in the list
///   clock         from a TIME_CONV record
///   images        files that MMAP and MMAP2 records map executable: first those of `elfs` (already in out) by mapped_as,
///                 then by base name, then files of image_root under the recorded name. Records place them.
///                 What is not found is named in a note.
/// Errors: bad_input for records that cannot be walked or carry no trailer as sample_type says; those of InputFolder.
Result<void> add_pevent(std::vector<PeventCpu> cpus, std::vector<std::vector<uint8_t>> shared, uint64_t sample_type,
                        const InputFolder& image_root, Imported& out);

}  // namespace hindcast::server
