#include "server/place_finder.h"

#include <algorithm>

#include "hindcast/fd.h"

namespace hindcast::server {
namespace {

constexpr size_t kMaxDebugFile = size_t{4} << 30;

/// The bytes of a debug file; nothing when it is not there or not readable: names are a help, not a promise.
std::optional<std::vector<uint8_t>> read_debug_file(const std::string& path) {
  auto map = map_file(path);
  if (!map.ok() || map->bytes().size() > kMaxDebugFile) return std::nullopt;
  const ByteSpan b = map->bytes();
  return std::vector<uint8_t>(b.begin(), b.end());
}

}  // namespace

void PlaceFinder::add_debug_file(decode::ElfSymbols& symbols, const std::string& image_path) {
  std::vector<std::string> candidates;
  for (const std::string& dir : debug_dirs_) {
    const std::string& id = symbols.build_id();
    if (id.size() > 2) candidates.push_back(dir + "/.build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug");
    const std::string& link = symbols.debug_link();
    // The link names a file, never a path: it comes from the bundle and must not lead elsewhere.
    if (link.empty() || link.find('/') != std::string::npos) continue;
    const size_t slash = image_path.rfind('/');
    if (slash != std::string::npos && image_path.find("..") == std::string::npos)
      candidates.push_back(dir + image_path.substr(0, slash + 1) + link);
    candidates.push_back(dir + "/" + link);
  }
  for (const std::string& path : candidates)
    if (auto bytes = read_debug_file(path); bytes && symbols.add_debug_file(std::move(*bytes)).ok()) return;
}

decode::ElfSymbols* PlaceFinder::symbols_of(uint32_t image) {
  const auto [it, fresh] = symbols_.try_emplace(image);
  if (!fresh) return it->second.get();
  const auto bytes = source_.image(image);
  if (!bytes.ok()) return nullptr;
  auto opened = decode::ElfSymbols::open({bytes->bytes.begin(), bytes->bytes.end()});
  if (!opened.ok()) return nullptr;
  it->second = std::move(opened).value();
  if (!it->second->has_dwarf()) {
    const auto& images = trace_.info().images;
    const auto info = std::find_if(images.begin(), images.end(), [&](const ImageInfo& i) { return i.id == image; });
    add_debug_file(*it->second, info == images.end() ? std::string() : info->path);
  }
  return it->second.get();
}

const decode::Kallsyms& PlaceFinder::kernel_names() {
  if (kernel_names_) return *kernel_names_;
  kernel_names_.emplace();
  for (const ImageInfo& i : trace_.info().images) {
    if (i.kind != ImageKind::kallsyms) continue;
    if (const auto bytes = source_.image(i.id); bytes.ok())
      kernel_names_ =
          decode::Kallsyms::parse({reinterpret_cast<const char*>(bytes->bytes.data()), bytes->bytes.size()});
  }
  return *kernel_names_;
}

/// where: null for an address of which no bytes were recorded. kallsyms is as it was at the freeze: a name is only taken where
/// its module is the one whose code was there.
void PlaceFinder::name_kernel_code(Place& place, const decode::CodeLocation* where) {
  constexpr std::string_view kKernel = "[kernel.kallsyms]";
  const auto symbol = kernel_names().find(place.ip);
  if (where && !where->path.starts_with('[')) {  // made at run time: it has one name, and its image bears it
    place.function = where->path;
    place.function_offset = where->image_offset;
    place.module = symbol && symbol->name == where->path && !symbol->module.empty()
                       ? "[" + std::string(symbol->module) + "]"
                       : "[bpf]";
    return;
  }
  if (!symbol || (!where && !symbol->module.empty())) return;
  const std::string module = symbol->module.empty() ? std::string(kKernel) : "[" + std::string(symbol->module) + "]";
  if (where ? where->path != module : !kernel_names().in_kernel_text(place.ip)) return;
  if (!where) place.module = module;
  place.function = symbol->name;
  place.function_offset = place.ip - symbol->begin;
}

ImageKind PlaceFinder::kind_of(uint32_t image) const {
  for (const ImageInfo& i : trace_.info().images)
    if (i.id == image) return i.kind;
  return ImageKind::elf;
}

/// As its jitdump or its perf map says.
void PlaceFinder::name_by_process(Place& place, Pid pid, const std::optional<decode::CodeLocation>& where) const {
  const auto function = trace_.made_function(pid, where, Ip(place.ip));
  if (!function) return;
  place.function = function->name;
  place.function_offset = function->offset;
  if (!function->file.empty()) place.lines.push_back({function->name, function->file, function->line, 0, false});
}

std::shared_ptr<const Place> PlaceFinder::find(Pid pid, Interval<RecordTime> time, Ip ip) {
  const auto where = trace_.locate(pid, time, ip);
  Key key{where ? where->image : 0, where ? where->image_offset : 0, ip.value(), kNoPid};
  // The bytes of several processes may be one image, but each names its own.
  const bool in_kernel = ip.value() >> 63 != 0;
  if (key.image != 0 && !in_kernel && kind_of(key.image) == ImageKind::memory) key.pid = pid;
  // Without an image the path is not part of the key: such places are made afresh.
  if (key.image != 0)
    if (const auto it = places_.find(key); it != places_.end()) return it->second;

  auto place = std::make_shared<Place>();
  place->ip = ip.value();
  if (!where) {
    place->module = "?";
    place->module_offset = ip.value();
    if (in_kernel)
      name_kernel_code(*place, nullptr);
    else
      name_by_process(*place, pid, where);
    return place;
  }
  place->module = where->path.empty() ? "?" : where->path;
  place->module_offset = where->image_offset;
  if (key.image == 0) {
    if (place->module.starts_with('/') && !place->module.starts_with("//")) return place;  // a file without its bytes
    if (!in_kernel) name_by_process(*place, pid, where);
    return place;
  }
  const ImageKind kind = kind_of(key.image);
  if (in_kernel) {
    name_kernel_code(*place, &*where);
  } else if (kind == ImageKind::memory || kind == ImageKind::jitdump) {
    name_by_process(*place, pid, where);
  } else if (decode::ElfSymbols* symbols = symbols_of(key.image)) {
    if (const auto address = symbols->address_of_offset(where->image_offset)) {
      place->module_offset = *address;
      if (auto function = symbols->function_at(*address)) {
        place->function = std::move(function->name);
        place->function_offset = *address - function->begin;
      }
      for (decode::SourceFrame& f : symbols->frames_at(*address))
        place->lines.push_back({std::move(f.function), std::move(f.file), f.line, f.column, f.inlined});
    }
  }
  if (places_.size() >= kMaxPlaces) places_.clear();
  places_.emplace(key, place);
  return place;
}

}  // namespace hindcast::server
