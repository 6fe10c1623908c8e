// Code bytes for a recording: every file that the recorded processes map is opened the moment its record
// arrives, so that programs which end or are deleted still decode.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "capture/code_watch.h"
#include "capture/perf_maps.h"
#include "capture/record_builder.h"
#include "hindcast/cut.h"
#include "hindcast/fd.h"

namespace hindcast::capture {

/// One image to be stored: an open file or bytes in memory.
struct CapturedImage {
  ImageInfo info;               // id is set; bytes is the size when it was opened
  Fd file;                      // valid: the whole file is the image
  std::vector<uint8_t> memory;  // else these bytes
};

/// Which mappings may hold code.
enum class CodeRule : uint8_t {
  executable,  // those with PROT_EXEC
  any_elf,     // any mapping of an ELF file: the simulator maps guest code readable only
};

/// Keeps one descriptor per distinct file. Not thread-safe. Nothing is ever dropped without a note.
class CodeBytes {
 public:
  explicit CodeBytes(CodeRule rule, std::string proc = "/proc") : rule_(rule), proc_(std::move(proc)) {}

  /// Opens the file now if it is new; it becomes an image only when add() names it. Cheap for files seen
  /// before.
  void prefetch(const MapRecord& map);
  /// A mapping that is kept in the recording.
  void add(const MapRecord& map, RecordTime time);

  /// A process has mapped a jit-PID.dump.
  bool has_jitdump() const { return has_jitdump_; }
  static constexpr uint64_t kMostJitdump = uint64_t{1} << 30;  // bytes; what is beyond is left out, with a note

  struct Collected {
    std::vector<CapturedImage> images;
    std::vector<PlacementInfo> placements;
    std::vector<UnknownCode> unknown;
    std::vector<std::string> notes;
    /// Takes over what another one holds, with new numbers.
    void append(Collected&& more);
  };
  /// Everything so far, numbered from 1, with descriptors of its own, and what the others know. A copy: the window goes on.
  Collected collect(const CodeWatch& watch, const PerfMaps& maps, std::vector<MemoryCopy> copies);

 private:
  /// A file as a record identifies it: the same path may name different files over time.
  struct FileKey {
    std::string path;
    std::string build_id;
    uint64_t device = 0, inode = 0, generation = 0;
    auto operator<=>(const FileKey&) const = default;
  };
  struct Use {
    Pid pid;
    uint64_t address, length, offset;
    RecordTime time;
  };
  struct File {
    Fd fd;
    bool is_elf = false;
    bool is_jitdump = false;  // by its name; it begins as one when it is collected
    bool used = false;
    std::string build_id;  // raw bytes, from the file itself
    uint64_t bytes = 0;
    std::vector<Use> uses;
    std::string note;  // why there is no descriptor, or what is doubtful about it
  };
  static FileKey key_of(const MapRecord& map);
  bool wanted(const MapRecord& map) const;
  File& file_of(const MapRecord& map);
  File open_file(const MapRecord& map) const;

  CodeRule rule_;
  std::string proc_;
  std::map<FileKey, File> files_;
  bool has_jitdump_ = false;
  std::set<std::string> notes_;
  uint64_t dropped_uses_ = 0;
};

}  // namespace hindcast::capture
