#include "capture/kernel_code.h"

#include <algorithm>
#include <ctime>

#include <sys/stat.h>

#include "capture/text_file.h"
#include "capture/words.h"

namespace hindcast::capture {

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kPage = 4096;
constexpr std::string_view kProgram = "bpf_prog_";
constexpr size_t kTaggedName = kProgram.size() + 16;  // "bpf_prog_" and the program's tag
constexpr std::string_view kDispatcher = "bpf_dispatcher_";
constexpr const char* kGap = "what it ran shows as gaps of cause image_missing";

uint64_t kernel_boot_time() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

std::string build_id_in(const std::string& path) {
  const auto notes = read_text_file(path, size_t{64} << 10);
  if (!notes) return {};
  return to_hex(find_build_id_note({reinterpret_cast<const uint8_t*>(notes->data()), notes->size()}).value_or(""));
}

/// Calls take(offset, length) for the parts of a copy that are memory: the kernel shows a page that is not there as zeros, and
/// no page of code is all zeros.
template <class Take>
void each_present(uint64_t address, ByteSpan bytes, Take&& take) {
  size_t begin = 0, at = 0;
  while (at < bytes.size()) {
    const size_t next = std::min<uint64_t>(bytes.size(), at + (kPage - (address + at) % kPage));
    const ByteSpan page = bytes.subspan(at, next - at);
    if (std::all_of(page.begin(), page.end(), [](uint8_t b) { return b == 0; })) {
      if (begin < at) take(begin, at - begin);
      begin = next;
    }
    at = next;
  }
  if (begin < at) take(begin, at - begin);
}

void add_image(CodeBytes::Collected& out, ImageKind kind, const std::string& path, const std::string& build_id,
               std::vector<uint8_t> bytes) {
  CapturedImage& image = out.images.emplace_back();
  image.info.id = static_cast<uint32_t>(out.images.size());
  image.info.kind = kind;
  image.info.path = path;
  image.info.build_id = build_id;
  image.info.bytes = bytes.size();
  image.memory = std::move(bytes);
}

/// Of the image that was added last.
void add_placement(CodeBytes::Collected& out, uint64_t address, uint64_t offset, uint64_t length, RecordTime from,
                   RecordTime to) {
  PlacementInfo p;
  p.address = address + offset;
  p.length = length;
  p.image_offset = offset;
  p.image = static_cast<uint32_t>(out.images.size());
  p.from = from;
  p.to = to;
  out.placements.push_back(p);
}

std::string some_names(const std::vector<std::string>& names) {
  constexpr size_t kFew = 5;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kFew; ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > kFew ? ", ..." : "");
}

}  // namespace

KernelCode::KernelCode(KernelCodeConfig config) : config_(std::move(config)) {}

void KernelCode::begin() {
  begun_ns_ = config_.boot_time ? config_.boot_time() : kernel_boot_time();
  if (const auto ids = programs().ids())
    for (const uint32_t id : *ids)
      if (auto program = programs().read(id); program && *program) keep(std::move(**program), {});
  if (const auto modules = read_modules(config_.proc)) see_modules(*modules, RecordTime(0));
}

/// Those that went first make room.
void KernelCode::make_room(size_t bytes) {
  for (auto it = kept_.begin(); it != kept_.end() && kept_bytes_ + bytes > config_.most_program_bytes;) {
    if (it->second.there) {
      ++it;
      continue;
    }
    for (const JitedFunction& f : it->second.code.functions) kept_bytes_ -= f.code.size();
    it = kept_.erase(it);  // ids grow: the oldest
    ++programs_dropped_;
  }
}

void KernelCode::keep(JitedProgram program, std::optional<RecordTime> loaded) {
  size_t bytes = 0;
  for (const JitedFunction& f : program.functions) bytes += f.code.size();
  if (const auto known = kept_.find(program.id); known != kept_.end()) {
    for (const JitedFunction& f : known->second.code.functions) kept_bytes_ -= f.code.size();
    if (!loaded) loaded = known->second.loaded;
    kept_.erase(known);
  }
  make_room(bytes);
  if (kept_bytes_ + bytes > config_.most_program_bytes) {
    ++programs_dropped_;
    return;
  }
  kept_bytes_ += bytes;
  const uint32_t id = program.id;
  kept_.emplace(id, Program{std::move(program), loaded});
}

void KernelCode::on_fresh_record(const perf::Record& record) {
  const auto event = read_bpf_event(record);
  if (!event) return;
  if (event->unloaded)
    if (const auto known = kept_.find(event->id); known != kept_.end()) known->second.there = false;
  if (!event->loaded) return;
  const auto wall = Clock::now();
  if (wall >= next_second_) {
    next_second_ = wall + std::chrono::seconds(1);
    early_ = 0;
  }
  if (early_ == config_.most_early) return;
  ++early_;
  const auto id = perf::read_sample_id(record, perf::kOurSampleType);
  if (!id || !id->time) return;
  if (auto program = programs().read(event->id); program && *program) keep(std::move(**program), *id->time);
}

void KernelCode::on_record(const perf::Record& record, RecordTime time) { log_.add(record, time); }

void KernelCode::look(RecordTime now) {
  const auto wall = Clock::now();
  if (wall < next_look_) return;
  next_look_ = wall + std::chrono::seconds(1);
  if (const auto modules = read_modules(config_.proc)) see_modules(*modules, now);
}

/// Each folder in /sys/module has an inode number of its own, which is not used again soon.
std::string KernelCode::identity_of(const KernelModule& module) const {
  const std::string folder = config_.sys + "/module/" + module.name;
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0) return {};
  return std::to_string(st.st_ino) + " " + build_id_in(folder + "/notes/.note.gnu.build-id");
}

void KernelCode::see_modules(const std::vector<KernelModule>& modules, RecordTime now) {
  std::map<std::string, SeenModule> seen;
  for (const KernelModule& m : modules) {
    if (!m.live || m.address == 0) continue;
    std::string identity = identity_of(m);
    const auto known = modules_.find(m.name);
    const bool same = known != modules_.end() && known->second.module == m && known->second.identity == identity;
    seen[m.name] = {m, std::move(identity), same ? known->second.since : now};
  }
  for (const auto& [name, module] : modules_) {
    const auto still = seen.find(name);
    const bool gone = still == seen.end() || still->second.since > module.since;
    if (gone && modules_gone_.size() < 256) modules_gone_.insert(name);
  }
  modules_ = std::move(seen);
}

void KernelCode::missing(const std::string& what, const Error& error) {
  Error e = error;
  e.what = "image missing: " + what + ": " + e.what + "; " + kGap;
  note(in_one_line(e, "it"));
}

void KernelCode::copy(RecordTime now) {
  taken_ = Taken{};
  taken_->begun = now;
  copy_programs();
  copy_memory();
}

void KernelCode::copy_programs() {
  const auto ids = programs().ids();
  programs_readable_ = ids.ok();
  if (!ids) return missing("BPF programs", ids.error());
  std::set<uint32_t> there;
  std::optional<Error> refused;
  for (const uint32_t id : *ids) {
    auto program = programs().read(id);
    if (!program) {
      if (!refused) refused = program.error();
      programs_readable_ &= program.error().code != Errc::permission;
    } else if (*program) {
      there.insert(id);
      keep(std::move(**program), {});
    }
  }
  for (auto& [id, program] : kept_) program.there = there.count(id) != 0;
  if (refused) missing("BPF programs", *refused);
}

/// Modules are read before and behind: where one came or went, its memory may be another's.
void KernelCode::copy_memory() {
  const auto before = read_modules(config_.proc);
  auto symbols = KernelSymbols::read(config_.proc);
  if (!symbols) {
    missing("the kernel's text, modules and names", symbols.error());
    return;
  }
  for (const KernelSymbols::Made& m : symbols->made())
    if (m.name.starts_with(kProgram)) taken_->program_names.emplace(m.address, m.name);
  if (!before && (before.error().code != Errc::unavailable || symbols->has_modules()))
    missing("modules", before.error());
  const auto core = config_.open_core ? config_.open_core() : Kcore::open(config_.proc, config_.sys);
  if (core) {
    copy_text(*core, *symbols);
    if (before) copy_modules(*core, *symbols, *before);
    copy_made(*core, *symbols);
  } else {
    missing("the kernel's text and modules", core.error());
  }
  taken_->symbols = symbols->take_lines();
}

void KernelCode::copy_text(const Kcore& core, const KernelSymbols& symbols) {
  const auto range = symbols.kernel_text();
  if (!range)
    return missing("the kernel's text",
                   {Errc::bad_input, "/proc/kallsyms does not say where it is", "no _stext, _etext", {}});
  const uint64_t bytes = range->end - range->begin;
  if (bytes > KernelCodeConfig::kMostText)
    return missing("the kernel's text", {Errc::too_large, "it is larger than the limit", human_bytes(bytes), {}});
  auto copied = core.read(range->begin, bytes);
  if (!copied) return missing("the kernel's text", copied.error());
  taken_->text.push_back({"[kernel.kallsyms]", build_id_in(config_.sys + "/kernel/notes"), range->begin,
                          std::move(*copied), RecordTime(0)});
}

void KernelCode::copy_modules(const Kcore& core, const KernelSymbols& symbols,
                              const std::vector<KernelModule>& modules) {
  see_modules(modules, taken_->begun);
  std::vector<Piece> pieces;
  std::vector<std::string> unread;
  uint64_t total = 0;
  for (const KernelModule& m : modules) {
    const auto range = m.live && m.address != 0 ? symbols.text_of(m) : std::nullopt;
    const uint64_t bytes = range ? range->end - range->begin : 0;
    if (bytes == 0 || total + bytes > KernelCodeConfig::kMostModules) {
      unread.push_back(m.name);
      continue;
    }
    auto copied = core.read(range->begin, bytes);
    if (!copied) {
      unread.push_back(m.name);
      continue;
    }
    total += bytes;
    const SeenModule& seen = modules_.at(m.name);
    const size_t space = seen.identity.find(' ');
    pieces.push_back({"[" + m.name + "]", space == std::string::npos ? "" : seen.identity.substr(space + 1),
                      range->begin, std::move(*copied), seen.since});
  }
  const auto behind = read_modules(config_.proc);
  std::vector<std::string> moved;
  for (Piece& p : pieces) {
    const auto named = [&](const KernelModule& m) { return "[" + m.name + "]" == p.path; };
    const auto was = std::find_if(modules.begin(), modules.end(), named);
    const bool same = behind && std::find(behind->begin(), behind->end(), *was) != behind->end() &&
                      identity_of(*was) == modules_.at(was->name).identity;
    if (same)
      taken_->text.push_back(std::move(p));
    else
      moved.push_back(was->name);
  }
  const auto say = [this](const std::vector<std::string>& names, const std::string& why) {
    if (!names.empty())
      note("image missing: " + std::to_string(names.size()) + " kernel modules (" + some_names(names) + "): " + why +
           "; " + kGap);
  };
  say(unread, "being loaded or removed, without symbols, beyond the limit, or not in the kernel's core file");
  say(moved, "they came or went while they were copied");
}

/// Not programs, whose code bpf(2) tells better; where it does not, those of which a record told the length.
void KernelCode::copy_made(const Kcore& core, const KernelSymbols& symbols) {
  std::map<uint64_t, std::pair<std::string, uint64_t>> ranges;
  for (const KernelSymbols::Made& m : symbols.made())
    if (!m.name.starts_with(kProgram)) ranges[m.address] = {m.name, m.most};
  for (const auto& [address, symbol] : log_.there())
    if (!programs_readable_ || !symbol.name.starts_with(kProgram)) ranges[address] = {symbol.name, symbol.length};
  uint64_t total = 0;
  std::vector<std::string> unread, changing;
  for (const auto& [address, what] : ranges) {
    if (what.first.starts_with(kDispatcher)) {
      changing.push_back(what.first);
      continue;
    }
    if (total + what.second > KernelCodeConfig::kMostMade) {
      unread.push_back(what.first);
      continue;
    }
    auto copied = core.read(address, what.second);
    if (!copied) {
      unread.push_back(what.first);
      continue;
    }
    total += what.second;
    taken_->made.push_back({what.first, {}, address, std::move(*copied), RecordTime(0)});
  }
  if (!unread.empty())
    note("image missing: code that the kernel made (" + some_names(unread) +
         "): beyond the limit, or not in the kernel's core file; " + kGap);
  if (!changing.empty())
    note("image missing: " + some_names(changing) + ": the kernel changes it and no record says when; " + kGap);
}

void KernelCode::place_programs(CodeBytes::Collected& out, bool records_lost) {
  std::vector<std::string> unknown;
  std::set<const Ksymbol*> placed;
  for (const auto& [id, program] : kept_) {
    const RecordTime begin = program.there ? taken_->begun : program.loaded ? *program.loaded : RecordTime(0);
    const RecordTime end = program.there ? RecordTime::max() : begin;
    for (const JitedFunction& f : program.code.functions) {
      const std::string tagged = f.name.substr(0, kTaggedName);
      const Ksymbol* symbol = log_.find(f.address, tagged, begin, end);
      if (f.code.empty() || (!symbol && !program.there)) continue;  // until when it was there is not known
      RecordTime from = symbol ? symbol->from : RecordTime(0);
      if (from == RecordTime(0) && program.code.loaded_ns >= begun_ns_) {  // the record of its symbol was lost
        if (!program.loaded) {
          unknown.push_back(f.name);
          continue;
        }
        from = *program.loaded;
      }
      std::string name = f.name;
      if (symbol)
        name = symbol->name;
      else if (const auto known = taken_->program_names.find(f.address);
               known != taken_->program_names.end() && known->second.starts_with(tagged))
        name = known->second;
      placed.insert(symbol);
      add_image(out, ImageKind::memory, name, {}, f.code);
      add_placement(out, f.address, 0, f.code.size(), from, symbol ? symbol->to : RecordTime::max());
    }
  }
  if (!unknown.empty())
    out.notes.push_back("image missing: BPF programs (" + some_names(unknown) +
                        "): the record that says since when they are there " +
                        (records_lost ? "was lost; " : "is not there; ") + kGap);
  std::vector<std::string> gone;
  for (const Ksymbol& s : log_.gone())
    if (s.name.starts_with(kProgram) && placed.count(&s) == 0) gone.push_back(s.name);
  if (!gone.empty())
    out.notes.push_back("image missing: " + std::to_string(gone.size()) + " functions of BPF programs (" +
                        some_names(gone) + ") went before they were copied; " + kGap);
  if (programs_dropped_ || log_.dropped())
    out.notes.push_back("image missing: " + std::to_string(programs_dropped_) + " BPF programs and " +
                        std::to_string(log_.dropped()) +
                        " names of code that the kernel made were more than is kept (" +
                        human_bytes(config_.most_program_bytes) + "); " + kGap);
}

void KernelCode::place_made(CodeBytes::Collected& out, bool records_lost) {
  std::vector<std::string> changed, unknown;
  for (Piece& p : taken_->made) {
    if (log_.changed_since(taken_->begun, p.address, p.bytes.size())) {
      changed.push_back(p.path);
      continue;
    }
    const Ksymbol* symbol = log_.find(p.address, p.path, taken_->begun, RecordTime::max());
    if (!symbol && records_lost) {
      unknown.push_back(p.path);
      continue;
    }
    std::vector<std::pair<size_t, size_t>> parts;
    each_present(p.address, p.bytes, [&parts](size_t at, size_t length) { parts.emplace_back(at, length); });
    if (parts.empty()) continue;
    add_image(out, ImageKind::memory, p.path, {}, std::move(p.bytes));
    for (const auto& [at, length] : parts)
      add_placement(out, p.address, at, length, symbol ? symbol->from : RecordTime(0), RecordTime::max());
  }
  if (!changed.empty())
    out.notes.push_back("image missing: " + some_names(changed) + " came or went while it was copied; " + kGap);
  if (!unknown.empty())
    out.notes.push_back("image missing: " + some_names(unknown) +
                        ": since when it is there is not known, as records were lost; " + kGap);
}

CodeBytes::Collected KernelCode::collect(bool records_lost) {
  CodeBytes::Collected out;
  if (!taken_) return out;
  out.notes = std::move(taken_->notes);
  for (Piece& p : taken_->text) {
    std::vector<std::pair<size_t, size_t>> parts;
    each_present(p.address, p.bytes, [&parts](size_t at, size_t length) { parts.emplace_back(at, length); });
    if (parts.empty()) {
      out.notes.push_back("image missing: " + p.path + ": the kernel's core file shows zeros there; " + kGap);
      continue;
    }
    add_image(out, ImageKind::memory, p.path, p.build_id, std::move(p.bytes));
    for (const auto& [at, length] : parts) add_placement(out, p.address, at, length, p.from, RecordTime::max());
  }
  place_programs(out, records_lost);
  place_made(out, records_lost);
  if (!taken_->symbols.empty())
    add_image(out, ImageKind::kallsyms, "/proc/kallsyms", {}, {taken_->symbols.begin(), taken_->symbols.end()});
  if (!modules_gone_.empty())
    out.notes.push_back("image missing: kernel modules were removed or replaced (" +
                        some_names({modules_gone_.begin(), modules_gone_.end()}) + "): " + kGap);
  taken_.reset();
  return out;
}

}  // namespace hindcast::capture
