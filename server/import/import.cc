// Finds out what the input is, lets its importer read it, writes the bundle.
#include "server/import/import.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <limits>

#include "hindcast/fd.h"
#include "server/import/input_files.h"
#include "server/import/lldb_bundle.h"
#include "server/import/observed_options.h"
#include "server/import/perf_data.h"
#include "server/import/pevent.h"
#include "server/import/raw_pt.h"
#include "transport/bundle_writer.h"

namespace hindcast::server {
namespace {

bool is_folder(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

bool is_regular(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}
std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Error usage(const std::string& what, const std::string& fix) { return Error{Errc::usage, what, {}, fix}; }

bool begins_as_perf_data(const std::string& path) {
  uint8_t start[8];
  const auto fd = open_read_only(path);
  return fd.ok() && ::pread(fd->get(), start, sizeof start, 0) == sizeof start && is_perf_data(start);
}

/// Replaces a folder by the files in it, and `automatic` by a format.
Result<ImportRequest> resolved(ImportRequest r) {
  if (!is_folder(r.input)) {
    if (r.format == ImportFormat::automatic)
      r.format = is_regular(r.input) && begins_as_perf_data(r.input) ? ImportFormat::perf_data
                 : base_name(r.input).ends_with(".json")             ? ImportFormat::lldb
                 : r.sideband.empty() && r.shared_sideband.empty()   ? ImportFormat::raw
                                                                     : ImportFormat::pevent;
    return r;
  }
  const std::string folder = r.input;
  HC_TRY(const auto names, DiskFolder(folder).list());
  const auto has = [&](const char* name) { return std::binary_search(names.begin(), names.end(), name); };
  const auto path = [&](const std::string& name) { return folder + "/" + name; };
  std::vector<std::string> pt, own, shared;
  for (const std::string& name : names) {
    if (name.ends_with(".bin")) pt.push_back(path(name));
    if (!name.ends_with(".pevent")) continue;
    const bool of_a_cpu = name.starts_with("primary") || name.find("-cpu") != name.npos;
    (of_a_cpu ? own : shared).push_back(path(name));
  }
  const bool automatic = r.format == ImportFormat::automatic;
  if ((automatic || r.format == ImportFormat::lldb) && has("trace.json")) {
    r.format = ImportFormat::lldb;
    r.input = path("trace.json");
  } else if ((automatic || r.format == ImportFormat::pevent) && !pt.empty() && !(own.empty() && shared.empty())) {
    r.format = ImportFormat::pevent;
    r.input = pt.front();
    r.more_pt.assign(pt.begin() + 1, pt.end());
    if (r.sideband.empty()) r.sideband = own;
    if (r.shared_sideband.empty()) r.shared_sideband = shared;
    if (r.image_root.empty()) r.image_root = folder;
  } else if ((automatic || r.format == ImportFormat::raw) && has("trace.pt")) {
    r.format = ImportFormat::raw;
    r.input = path("trace.pt");
    if (r.page_addresses.empty() && r.page_bytes.empty() && has("page_cache.addr") && has("page_cache.dump")) {
      r.page_addresses = path("page_cache.addr");
      r.page_bytes = path("page_cache.dump");
    }
  } else if ((automatic || r.format == ImportFormat::perf_data) && has("perf.data")) {
    r.format = ImportFormat::perf_data;
    r.input = path("perf.data");
  } else {
    return Error{Errc::not_found, "cannot import " + folder + ": it holds no trace that is known by its file names",
                 "neither trace.json, nor trace.pt, nor *.bin with *.pevent, nor perf.data",
                 "name the trace file itself and give its format"};
  }
  return r;
}

Result<Imported> import_raw(const ImportRequest& r) {
  if (!r.sideband.empty() || !r.shared_sideband.empty() || !r.more_pt.empty())
    return usage("a raw import is one PT file without sideband", "import it as pevent");
  if (r.page_addresses.empty() != r.page_bytes.empty())
    return usage("a page cache is two files: addresses and pages", "give both or none");
  Imported out;
  out.info.source = "import:raw";
  HC_TRY(auto pt, read_input_file(r.input));
  StreamInfo stream;
  stream.kind = StreamKind::pt;
  out.add_stream(stream, std::move(pt));
  if (!r.page_addresses.empty()) {
    HC_TRY(const auto addresses, read_input_file(r.page_addresses));
    HC_TRY(const auto pages, read_input_file(r.page_bytes));
    HC_TRY_VOID(add_page_cache(addresses, pages, out));
  }
  for (const ElfInput& elf : r.elfs) {
    HC_TRY(auto bytes, read_input_file(elf.path, kMaxElfBytes));
    HC_TRY_VOID(add_elf(elf, std::move(bytes), /*by_records=*/false, out));
  }
  if (out.info.images.empty()) out.info.notes.push_back("no code was given: packets can be read, but not what ran");
  return out;
}

Result<Imported> import_lldb(const ImportRequest& r) {
  if (!r.elfs.empty() || !r.page_addresses.empty() || !r.page_bytes.empty() || !r.sideband.empty() ||
      !r.shared_sideband.empty() || !r.more_pt.empty())
    return usage("an LLDB trace bundle names its own files", "give only its trace.json or its folder");
  HC_TRY(const auto text, read_input_file(r.input, kMaxJsonBytes));
  return read_lldb_bundle({reinterpret_cast<const char*>(text.data()), text.size()}, DiskFolder(folder_of(r.input)));
}

Result<Imported> import_pevent(const ImportRequest& r) {
  if (!r.page_addresses.empty() || !r.page_bytes.empty())
    return usage("a page cache belongs to a raw import", "leave it out, or import as raw");
  const size_t traces = 1 + r.more_pt.size();
  if (r.sideband.size() > traces || (traces > 1 && r.sideband.size() != traces))
    return usage("there are " + std::to_string(traces) + " PT files and " + std::to_string(r.sideband.size()) +
                     " sideband files of CPUs",
                 "give one sideband file for each PT file, in the same order");
  Imported out;
  out.info.source = "import:pevent";
  for (const ElfInput& elf : r.elfs) {
    HC_TRY(auto bytes, read_input_file(elf.path, kMaxElfBytes));
    HC_TRY_VOID(add_elf(elf, std::move(bytes), /*by_records=*/true, out));
  }
  std::vector<PeventCpu> cpus;
  for (size_t i = 0; i < traces; ++i) {
    PeventCpu cpu;
    HC_TRY(cpu.pt, read_input_file(i == 0 ? r.input : r.more_pt[i - 1]));
    if (i < r.sideband.size()) {
      HC_TRY(cpu.records, read_input_file(r.sideband[i]));
    }
    cpus.push_back(std::move(cpu));
  }
  std::vector<std::vector<uint8_t>> shared;
  for (const std::string& path : r.shared_sideband) {
    HC_TRY(auto records, read_input_file(path));
    shared.push_back(std::move(records));
  }
  const DiskFolder root(r.image_root.empty() ? folder_of(r.input) : r.image_root);
  HC_TRY_VOID(add_pevent(std::move(cpus), std::move(shared), r.sample_type, root, out));
  return out;
}

Result<Imported> import_perf_data(const ImportRequest& r) {
  if (!r.elfs.empty() || !r.page_addresses.empty() || !r.page_bytes.empty() || !r.sideband.empty() ||
      !r.shared_sideband.empty() || !r.more_pt.empty())
    return usage("a perf.data file holds its own trace and records",
                 "give only the file; its code is looked up with --buildid-dir and --image-root");
  HC_TRY(const auto bytes, read_input_file(r.input));
  const std::string folder = folder_of(r.input);
  return read_perf_data(bytes, DiskFolder(r.build_id_folder.empty() ? folder + "/buildid" : r.build_id_folder),
                        DiskFolder(r.image_root.empty() ? folder : r.image_root));
}

/// What the request knows of the CPU and its options wins; the rest is what the packets show.
void complete(const ImportRequest& r, Imported& out) {
  PtCpu& cpu = out.info.cpu;
  if (r.cpu.family) {
    cpu.intel = r.cpu.intel;
    cpu.family = r.cpu.family;
    cpu.model = r.cpu.model;
    cpu.stepping = r.cpu.stepping;
  }
  if (r.cpu.tsc_ctc_num) {
    cpu.tsc_ctc_num = r.cpu.tsc_ctc_num;
    cpu.tsc_ctc_den = r.cpu.tsc_ctc_den;
  }
  if (r.cpu.ctc_hz) cpu.ctc_hz = r.cpu.ctc_hz;
  if (r.cpu.nominal_ratio) cpu.nominal_ratio = r.cpu.nominal_ratio;

  ObservedPt seen;
  for (size_t i = 0; i < out.streams.size(); ++i)
    if (out.info.streams[i].kind == StreamKind::pt) seen.add(observe_pt(out.streams[i]));
  if (r.pt) out.info.pt = *r.pt;
  if (!r.pt && !out.options_known) out.info.pt = seen.options();
  if (seen.kernel_ip) out.info.user_only = false;
  auto& notes = out.info.notes;
  if (!seen.psb) notes.push_back("no PSB in any trace: nothing of it can be decoded");
  if (!r.pt && !out.options_known && seen.mtc)
    notes.push_back("the trace does not say its MTC period; " + std::to_string(out.info.pt.mtc_period) + " is assumed");
  if (out.info.pt.mtc && (cpu.tsc_ctc_num == 0 || cpu.tsc_ctc_den == 0))
    notes.push_back("CPUID 15H of the traced CPU is not known: MTC packets give no time");
  if (out.info.pt.cyc && cpu.nominal_ratio == 0)
    notes.push_back("the nominal ratio of the traced CPU is not known: CYC packets give no time");
  if (cpu.family == 0) notes.push_back("the CPU model is not known: it is taken for an Intel core with erratum BDM70");
}

Result<void> write(const Imported& out, const std::string& out_path) {
  HC_TRY(auto writer, transport::BundleWriter::create(out_path));
  HC_TRY_VOID(writer.begin_snapshot(out.info));
  for (size_t i = 0; i < out.images.size(); ++i) HC_TRY_VOID(writer.append_image(out.info.images[i].id, out.images[i]));
  for (const bool pt : {false, true})
    for (size_t i = 0; i < out.streams.size(); ++i)
      if ((out.info.streams[i].kind == StreamKind::pt) == pt)
        HC_TRY_VOID(writer.append_stream(out.info.streams[i].id, out.streams[i]));
  HC_TRY_VOID(writer.end_snapshot(out.info));
  return writer.finish();
}

template <class T>
bool take_number(std::string_view& text, char end, T& out, int base = 10) {
  uint64_t v = 0;
  const auto [stop, ec] = std::from_chars(text.data(), text.data() + text.size(), v, base);
  if (ec != std::errc{} || v > static_cast<uint64_t>(std::numeric_limits<T>::max())) return false;
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  if (end != '\0') {
    if (text.empty() || text.front() != end) return false;
    text.remove_prefix(1);
  }
  out = static_cast<T>(v);
  return true;
}

}  // namespace

Result<void> import_to_bundle(const ImportRequest& request, const std::string& out_path) {
  HC_TRY(const ImportRequest r, resolved(request));
  auto imported = r.format == ImportFormat::lldb        ? import_lldb(r)
                  : r.format == ImportFormat::pevent    ? import_pevent(r)
                  : r.format == ImportFormat::perf_data ? import_perf_data(r)
                                                        : import_raw(r);
  if (!imported.ok()) return std::move(imported).error();
  if (imported->info.host.empty()) imported->info.host = base_name(request.input);
  imported->info.created_unix_ns = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  complete(r, *imported);
  return write(*imported, out_path);
}

Result<void> parse_cpu_model(std::string_view text, PtCpu& cpu) {
  std::string_view rest = text;
  PtCpu c = cpu;
  if (!take_number(rest, '/', c.family) || !take_number(rest, '/', c.model) || !take_number(rest, '\0', c.stepping) ||
      !rest.empty() || c.family == 0)
    return usage("\"" + std::string(text) + "\" is not a CPU model", "write family/model/stepping, like 6/85/4");
  cpu = c;
  return {};
}

Result<void> parse_cpuid_15h(std::string_view text, PtCpu& cpu) {
  std::string_view rest = text;
  PtCpu c = cpu;
  bool ok = take_number(rest, ',', c.tsc_ctc_den) && take_number(rest, '\0', c.tsc_ctc_num);
  if (ok && !rest.empty()) {
    ok = rest.front() == ',';
    rest.remove_prefix(1);
    ok = ok && take_number(rest, '\0', c.ctc_hz) && rest.empty();
  }
  if (!ok || c.tsc_ctc_den == 0 || c.tsc_ctc_num == 0)
    return usage("\"" + std::string(text) + "\" is not CPUID leaf 15H",
                 "write EAX,EBX or EAX,EBX,ECX in decimal, like 2,308; EAX and EBX are not 0");
  cpu = c;
  return {};
}

Result<ElfInput> parse_elf_input(std::string_view text) {
  ElfInput out;
  const size_t equals = text.rfind('=');
  if (equals != text.npos) {
    out.mapped_as = text.substr(equals + 1);
    text = text.substr(0, equals);
  }
  const size_t at = text.rfind('@');
  if (at != text.npos && text.substr(at + 1).starts_with("0x")) {
    std::string_view digits = text.substr(at + 3);
    uint64_t address = 0;
    if (!take_number(digits, '\0', address, 16) || !digits.empty())
      return usage("\"" + std::string(text) + "\" does not end in an address", "write PATH@0x400000");
    out.load_address = address;
    text = text.substr(0, at);
  }
  out.path = text;
  if (out.path.empty()) return usage("an ELF file without a path", "write PATH or PATH@0x400000");
  return out;
}

}  // namespace hindcast::server
