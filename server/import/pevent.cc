// perf records to CPU numbers, clock and the list of images.
#include "server/import/pevent.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "hindcast/bundle_format.h"
#include "hindcast/perf_record.h"
#include "server/import/elf_placement.h"

namespace hindcast::server {
namespace {

constexpr uint32_t kFirstToolRecord = 64;  // from here on written by perf itself, without a trailer
constexpr uint32_t kProtExec = 4;
constexpr size_t kMaxMappedFiles = 65536;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

struct Seen {
  std::optional<CpuId> cpu;  // the one that all trailers agree on
  bool several_cpus = false;
  std::optional<TscConversion> clock;
  std::map<std::string, std::string> files;  // mapped executable: name to build-id (hex, may be empty)
};

Result<TscConversion> read_time_conv(const perf::Record& record) {
  ByteReader r(record.body);
  const uint64_t shift = r.u64(), mult = r.u64(), zero = r.u64();
  if (r.failed() || shift > bundle::kMaxTimeShift || mult == 0 || mult > UINT32_MAX)
    return Error{Errc::bad_input,
                 "cannot import the sideband: its TIME_CONV record is impossible",
                 "shift " + std::to_string(shift) + ", mult " + std::to_string(mult),
                 {}};
  TscConversion c;
  c.known = true;
  c.shift = static_cast<uint16_t>(shift);
  c.mult = static_cast<uint32_t>(mult);
  c.zero = zero;
  return c;
}

/// The name that an MMAP or MMAP2 record maps executable, with its build-id; nothing for other mappings.
std::optional<std::pair<std::string, std::string>> executable_file(const perf::Record& record) {
  ByteReader r(record.body);
  r.skip(8 + 3 * 8);  // pid, tid; addr, len, pgoff
  std::string build_id;
  if (record.type == perf::kMmap2) {
    if (record.misc & perf::kMiscMmapBuildId) {
      const uint8_t size = r.u8();
      r.skip(3);
      const ByteSpan bytes = r.take(20);
      static constexpr char kDigits[] = "0123456789abcdef";
      for (size_t i = 0; i < std::min<size_t>(size, bytes.size()); ++i) {
        build_id += kDigits[bytes[i] >> 4];
        build_id += kDigits[bytes[i] & 15];
      }
    } else {
      r.skip(4 + 4 + 8 + 8);  // maj, min, ino, ino_generation
    }
    const uint32_t prot = r.u32();
    r.skip(4);  // flags
    if (!(prot & kProtExec)) return std::nullopt;
  } else if (record.misc & perf::kMiscMmapData) {
    return std::nullopt;
  }
  const std::string_view name = r.c_string(bundle::kMaxTextBytes);
  if (r.failed() || name.empty()) return std::nullopt;
  return std::pair{std::string(name), std::move(build_id)};
}

Result<void> look_through(ByteSpan records, uint64_t sample_type, Seen& seen) {
  perf::RecordReader reader(records);
  perf::Record record;
  while (reader.next(record)) {
    if (record.type == perf::kTimeConv) {
      HC_TRY(const TscConversion clock, read_time_conv(record));
      seen.clock = clock;
    }
    if (record.type >= kFirstToolRecord || record.type == perf::kSample) continue;
    const auto id = perf::read_sample_id(record, sample_type);
    if (!id)
      return Error{Errc::bad_input, "cannot import the sideband: a record is too short for its sample_id",
                   "record of type " + std::to_string(record.type) + " at byte " + std::to_string(record.offset),
                   "give the sample_type that it was recorded with"};
    // Records that perf wrote for processes that ran before have an all-zero trailer, which names no CPU.
    if ((sample_type & perf::kSampleCpu) && id->time && id->time->value() != 0) {
      if (seen.cpu && *seen.cpu != id->cpu) seen.several_cpus = true;
      seen.cpu = id->cpu;
    }
    if (record.type == perf::kMmap || record.type == perf::kMmap2)
      if (const auto file = executable_file(record); file && seen.files.size() < kMaxMappedFiles)
        seen.files.insert(*file);
  }
  if (reader.malformed())
    return Error{Errc::bad_input, "cannot import the sideband: its records cannot be walked",
                 "the record at byte " + std::to_string(reader.offset()) + " of " + std::to_string(records.size()) +
                     " is cut or has an impossible size",
                 "the file must hold whole perf records and nothing else"};
  return {};
}

/// Gives each mapped file its image: one that is already there, or the file of image_root.
void find_images(const Seen& seen, const InputFolder& image_root, Imported& out) {
  for (const auto& file : seen.files) {
    const std::string &name = file.first, &build_id = file.second;  // clang 14 captures no structured bindings
    const auto note = [&](const std::string& why) {
      if (out.info.notes.size() < bundle::kMaxNotes)
        out.info.notes.push_back("no code for " + shown(name) + ": " + why);
    };
    const auto matches = [&](auto same) {
      return std::any_of(out.info.images.begin(), out.info.images.end(), [&](ImageInfo& image) {
        if (!same(image.path)) return false;
        if (!build_id.empty() && !image.build_id.empty() && image.build_id != build_id) return false;
        image.path = name;  // as the records call it
        return true;
      });
    };
    if (matches([&](const std::string& path) { return path == name; })) continue;
    if (matches([&](const std::string& path) { return base_name(path) == base_name(name); })) continue;
    if (name[0] != '/' || name.starts_with("//")) {
      note("it is not a file");
      continue;
    }
    auto bytes = image_root.read(name.substr(1), kMaxElfBytes);
    if (!bytes.ok()) {
      note(bytes.error().code == Errc::not_found ? "it is not among the files given" : bytes.error().what);
      continue;
    }
    auto layout = read_elf_layout(*bytes);
    if (!layout.ok()) {
      note(layout.error().what);
      continue;
    }
    if (!build_id.empty() && !layout->build_id.empty() && build_id != layout->build_id) {
      note("the file found has build-id " + layout->build_id + ", the one that ran had " + build_id);
      continue;
    }
    out.add_image(ImageKind::elf, name, layout->build_id, std::move(*bytes));
  }
}

}  // namespace

Result<void> add_pevent(std::vector<PeventCpu> cpus, std::vector<std::vector<uint8_t>> shared, uint64_t sample_type,
                        const InputFolder& image_root, Imported& out) {
  Seen all;
  std::set<CpuId> taken;
  uint32_t place = 0;
  for (PeventCpu& c : cpus) {
    Seen seen;
    HC_TRY_VOID(look_through(c.records, sample_type, seen));
    if (seen.several_cpus)
      return Error{Errc::bad_input,
                   "cannot import the sideband: one file holds the records of several CPUs",
                   {},
                   "split the perf.data by CPU: one sideband file for each PT file"};
    const CpuId cpu = seen.cpu.value_or(CpuId(place));
    if (!seen.cpu)
      out.info.notes.push_back("no record says which CPU trace " + std::to_string(place + 1) + " is of; it is called " +
                               std::to_string(place));
    if (cpu == kNoCpu || !taken.insert(cpu).second)
      return Error{Errc::bad_input, "cannot import two traces of one CPU", "CPU " + std::to_string(cpu.value()), {}};
    ++place;
    StreamInfo pt;
    pt.kind = StreamKind::pt;
    pt.cpu = cpu;
    out.add_stream(pt, std::move(c.pt));
    if (!c.records.empty()) {
      StreamInfo sideband;
      sideband.kind = StreamKind::sideband;
      sideband.cpu = cpu;
      sideband.sample_type = sample_type;
      out.add_stream(sideband, std::move(c.records));
    }
    if (seen.clock) all.clock = seen.clock;
    all.files.merge(seen.files);
  }
  for (auto& records : shared) {
    HC_TRY_VOID(look_through(records, sample_type, all));
    StreamInfo sideband;
    sideband.kind = StreamKind::sideband;
    sideband.sample_type = sample_type;
    out.add_stream(sideband, std::move(records));
  }
  if (all.clock) out.info.clock = *all.clock;
  find_images(all, image_root, out);
  return {};
}

}  // namespace hindcast::server
