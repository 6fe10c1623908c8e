// Code bytes for a recording: files opened as their mmap records arrive, and copies of memory that no file
// backs.
#include "capture/code_bytes.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "capture/build_id.h"
#include "capture/proc_synth.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

constexpr size_t kMostUses = 10000;  // mappings remembered per file, for files whose path is ambiguous

/// "jit-4711.dump", the name by which perf finds such files, too.
bool names_a_jitdump(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  constexpr std::string_view kBegin = "jit-", kEnd = ".dump";
  if (!name.starts_with(kBegin) || !name.ends_with(kEnd) || name.size() <= kBegin.size() + kEnd.size()) return false;
  const std::string_view digits(name.data() + kBegin.size(), name.size() - kBegin.size() - kEnd.size());
  return std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// As "JiTD" in either byte order.
bool begins_as_jitdump(const Fd& fd) {
  char magic[4] = {};
  if (::pread(fd.get(), magic, sizeof magic, 0) != sizeof magic) return false;
  const std::string_view text(magic, sizeof magic);
  return text == "JiTD" || text == "DTiJ";
}

struct Candidate {
  Fd fd;
  struct stat st {};
  ElfIdentity identity;
};

/// An open regular file and what it is; an invalid fd when it cannot be opened or is something else.
Candidate open_candidate(const std::string& path) {
  Candidate c;
  // O_NONBLOCK: a path may name a FIFO by now, which must not stop us
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid() || ::fstat(fd.get(), &c.st) != 0 || !S_ISREG(c.st.st_mode)) return c;
  c.identity = read_elf_identity(fd);
  c.fd = std::move(fd);
  return c;
}

enum class Match : uint8_t { no, maybe, sure };

Match matches(const Candidate& c, const MapRecord& map) {
  if (!map.build_id.empty()) return c.identity.build_id == map.build_id ? Match::sure : Match::no;
  const bool same =
      c.st.st_ino == map.inode && ::major(c.st.st_dev) == map.device_major && ::minor(c.st.st_dev) == map.device_minor;
  // overlay and btrfs mounts report another device to stat than to the mapping
  return same ? Match::sure : Match::maybe;
}

/// Copies of memory, equal ones once.
struct MemoryImages {
  std::vector<CapturedImage> images;
  std::unordered_multimap<size_t, uint32_t> by_hash;

  /// Its index in images.
  uint32_t add(const std::string& path, std::vector<uint8_t> bytes) {
    const size_t hash = std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    const auto [first, last] = by_hash.equal_range(hash);
    for (auto it = first; it != last; ++it)
      if (images[it->second].info.path == path && images[it->second].memory == bytes) return it->second;
    CapturedImage image;
    // the vdso in memory is a whole ELF file, symbols included
    const auto identity = read_elf_identity([&](uint64_t offset, std::span<uint8_t> out) -> size_t {
      if (offset >= bytes.size()) return 0;
      const size_t n = std::min<uint64_t>(out.size(), bytes.size() - offset);
      std::memcpy(out.data(), bytes.data() + offset, n);
      return n;
    });
    image.info.kind = path == "[vdso]" && identity.is_elf ? ImageKind::elf : ImageKind::memory;
    image.info.build_id = to_hex(identity.build_id);
    image.info.path = path;
    image.info.bytes = bytes.size();
    image.memory = std::move(bytes);
    by_hash.emplace(hash, static_cast<uint32_t>(images.size()));
    images.push_back(std::move(image));
    return static_cast<uint32_t>(images.size() - 1);
  }
};

}  // namespace

CodeBytes::FileKey CodeBytes::key_of(const MapRecord& map) {
  FileKey k{map.path, map.build_id, 0, 0, 0};
  if (map.build_id.empty()) {
    k.device = uint64_t{map.device_major} << 32 | map.device_minor;
    k.inode = map.inode;
    k.generation = map.inode_generation;
  }
  return k;
}

bool CodeBytes::wanted(const MapRecord& map) const {
  if (!names_a_file(map.path)) return false;
  return rule_ == CodeRule::any_elf || (map.prot & PROT_EXEC);
}

CodeBytes::File CodeBytes::open_file(const MapRecord& map) const {
  const std::string process = proc_ + "/" + std::to_string(map.pid.value());
  std::vector<std::string> paths{map.path};
  const std::string range = "/map_files/" + hex(map.start) + "-";
  paths.push_back(process + range + hex(map.start + map.length));
  paths.push_back(process + "/root" + map.path);
  Candidate best;
  Match best_match = Match::no;
  int first_errno = 0;
  bool saw_another = false;
  const auto consider = [&](const std::string& path, bool surely_mapped) {
    if (best_match == Match::sure) return;
    Candidate c = open_candidate(path);
    if (!c.fd.valid()) {
      if (!first_errno) first_errno = errno ? errno : ENOENT;
      return;
    }
    Match m = matches(c, map);
    saw_another |= m == Match::no;
    if (m == Match::maybe && surely_mapped) m = Match::sure;
    if (m > best_match) {
      best = std::move(c);
      best_match = m;
    }
  };
  consider(paths[0], false);
  consider(paths[1], true);
  if (best_match != Match::sure) {
    // the mapping may have been split or grown since: ask which one holds its first byte now
    if (const auto maps = read_maps(proc_, map.pid))
      for (const MapRecord& m : *maps)
        if (m.start <= map.start && map.start < m.start + m.length && m.path == map.path)
          consider(process + "/map_files/" + hex(m.start) + "-" + hex(m.start + m.length), true);
  }
  consider(paths[2], false);

  File f;
  if (best_match == Match::no) {
    const std::string id = map.build_id.empty() ? std::string() : ", build-id " + to_hex(map.build_id);
    f.note = "image missing: " + map.path + " (mapped by process " + std::to_string(map.pid.value()) + id +
             "): " + (saw_another ? "the path names another build by now" : std::strerror(first_errno));
    return f;
  }
  if (best_match == Match::maybe)
    f.note = "image uncertain: " + map.path + " has another inode than the mapping (overlay file system, or replaced)";
  f.fd = std::move(best.fd);
  f.is_elf = best.identity.is_elf;
  f.is_jitdump = !f.is_elf && names_a_jitdump(map.path);
  f.build_id = best.identity.build_id;
  f.bytes = static_cast<uint64_t>(best.st.st_size);
  return f;
}

CodeBytes::File& CodeBytes::file_of(const MapRecord& map) {
  const FileKey key = key_of(map);
  const auto it = files_.find(key);
  if (it != files_.end()) {
    // a failed open may succeed for another process that still maps the file
    if (!it->second.fd.valid()) {
      File again = open_file(map);
      again.used = it->second.used;
      again.uses = std::move(it->second.uses);
      it->second = std::move(again);
    }
    return it->second;
  }
  return files_.emplace(key, open_file(map)).first->second;
}

void CodeBytes::prefetch(const MapRecord& map) {
  if (wanted(map)) file_of(map);
}

void CodeBytes::add(const MapRecord& map, RecordTime time) {
  if (!wanted(map)) return;
  File& f = file_of(map);
  f.used = true;
  has_jitdump_ |= f.is_jitdump;
  if (f.uses.size() < kMostUses)
    f.uses.push_back({map.pid, map.start, map.length, map.file_offset, time});
  else
    dropped_uses_++;
}

void CodeBytes::Collected::append(Collected&& more) {
  const auto behind = static_cast<uint32_t>(images.size());
  for (CapturedImage& image : more.images) {
    image.info.id += behind;
    images.push_back(std::move(image));
  }
  for (PlacementInfo& p : more.placements) {
    p.image += behind;
    placements.push_back(p);
  }
  notes.insert(notes.end(), more.notes.begin(), more.notes.end());
}

CodeBytes::Collected CodeBytes::collect(const CodeWatch& watch, const PerfMaps& maps, std::vector<MemoryCopy> copies) {
  Collected out;
  std::map<std::string, int> images_by_path;
  for (const auto& [key, f] : files_)
    if (f.used && f.fd.valid()) images_by_path[key.path]++;
  uint32_t next_id = 1;
  for (auto& [key, f] : files_) {
    if (!f.used) continue;
    const bool executable_rule = rule_ == CodeRule::executable;
    if (f.fd.valid() && !f.is_elf && !f.is_jitdump && !executable_rule) continue;  // a data file that the program maps
    if (!f.is_elf && key.path.starts_with("/memfd:")) continue;  // it changes as memory does, and is watched as such
    if (!f.note.empty()) notes_.insert(f.note);
    if (!f.fd.valid()) continue;
    CapturedImage image;
    image.info.id = next_id++;
    image.info.kind = f.is_elf ? ImageKind::elf : ImageKind::memory;
    image.info.build_id = to_hex(f.build_id);
    image.info.path = key.path;
    image.info.bytes = f.bytes;
    if (f.is_jitdump) {
      if (!begins_as_jitdump(f.fd)) {
        out.notes.push_back("image missing: " + key.path + " is named like a jitdump and does not begin as one");
        --next_id;
        continue;
      }
      // The process has gone on writing since.
      struct stat st {};
      if (::fstat(f.fd.get(), &st) == 0) image.info.bytes = static_cast<uint64_t>(st.st_size);
      if (image.info.bytes > kMostJitdump) {
        out.notes.push_back("image cut short: " + key.path + " has more than " + std::to_string(kMostJitdump >> 20) +
                            " MiB: code that it told of last is not known");
        image.info.bytes = kMostJitdump;
      }
      image.info.kind = ImageKind::jitdump;
      if (!f.uses.empty()) image.info.pid = f.uses.front().pid;
    }
    image.file = Fd(::fcntl(f.fd.get(), F_DUPFD_CLOEXEC, 3));
    if (!image.file.valid()) {
      out.notes.push_back("image missing: " + key.path + ": no descriptor for it: " + std::strerror(errno));
      --next_id;
      continue;
    }
    // MMAP2 records place ELF files by path and build-id; where that does not single one out, say it
    if (!f.is_jitdump && (!f.is_elf || (images_by_path[key.path] > 1 && key.build_id.empty())))
      for (const Use& u : f.uses)
        out.placements.push_back({u.pid, u.address, u.length, u.offset, image.info.id, u.time, RecordTime::max()});
    out.images.push_back(std::move(image));
  }
  for (PerfMaps::Map& map : maps.collect(out.notes)) {
    CapturedImage& image = out.images.emplace_back();
    image.info.id = next_id++;
    image.info.kind = ImageKind::perf_map;
    image.info.path = map.path;
    image.info.bytes = map.bytes;
    image.info.pid = map.pid;
    image.file = std::move(map.file);
  }
  for (MemoryCopy& copy : watch.versions()) copies.push_back(std::move(copy));
  MemoryImages memory;
  for (MemoryCopy& copy : copies) {
    const uint32_t image = next_id + memory.add(copy.path, std::move(copy.bytes));
    for (PlacementInfo p : copy.placements) {
      p.image = image;
      out.placements.push_back(p);
    }
  }
  for (CapturedImage& image : memory.images) {
    image.info.id = next_id++;
    out.images.push_back(std::move(image));
  }
  out.unknown = watch.unknown();
  notes_.insert(watch.notes().begin(), watch.notes().end());
  if (dropped_uses_)
    notes_.insert(std::to_string(dropped_uses_) + " mappings beyond " + std::to_string(kMostUses) +
                  " of one file were not remembered one by one");
  out.notes.insert(out.notes.end(), notes_.begin(), notes_.end());
  return out;
}

}  // namespace hindcast::capture
