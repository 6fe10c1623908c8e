// hindcast import: traces of other tools become bundles.
#include <CLI/CLI.hpp>
#include <filesystem>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"

namespace hindcast::server::cli {
namespace {

struct ImportFlags {
  std::string format = "auto", cpu, cpuid15, pt;
  uint32_t nominal_ratio = 0;
  std::vector<std::string> elfs, sideband, shared_sideband, more_pt;
  std::string page_addresses, page_bytes, image_root, build_id_folder;
  uint64_t sample_type = 0;
};

/// All that is wrong with the flags, at once.
Result<ImportRequest> to_request(const Request& request, const ImportFlags& flags) {
  ImportRequest r;
  std::string problems;
  const auto note = [&](const Error& e) {
    problems += (problems.empty() ? "" : "; ") + e.what + (e.found.empty() ? "" : " (" + e.found + ")");
  };
  r.input = request.file;
  r.format = flags.format == "raw"      ? ImportFormat::raw
             : flags.format == "lldb"   ? ImportFormat::lldb
             : flags.format == "pevent" ? ImportFormat::pevent
             : flags.format == "perf"   ? ImportFormat::perf_data
                                        : ImportFormat::automatic;
  if (!flags.cpu.empty())
    if (const auto v = parse_cpu_model(flags.cpu, r.cpu); !v.ok()) note(v.error());
  if (!flags.cpuid15.empty())
    if (const auto v = parse_cpuid_15h(flags.cpuid15, r.cpu); !v.ok()) note(v.error());
  if (flags.nominal_ratio > 255)
    note({Errc::usage, "--nominal-ratio is at most 255", {}, {}});
  else
    r.cpu.nominal_ratio = static_cast<uint8_t>(flags.nominal_ratio);
  if (!flags.pt.empty()) {
    const auto v = parse_pt_options(flags.pt);
    if (v.ok())
      r.pt = *v;
    else
      note(v.error());
  }
  for (const std::string& text : flags.elfs) {
    auto v = parse_elf_input(text);
    if (v.ok())
      r.elfs.push_back(std::move(v).value());
    else
      note(v.error());
  }
  r.page_addresses = flags.page_addresses;
  r.page_bytes = flags.page_bytes;
  r.more_pt = flags.more_pt;
  r.sideband = flags.sideband;
  r.shared_sideband = flags.shared_sideband;
  r.image_root = flags.image_root;
  r.build_id_folder = flags.build_id_folder;
  if (flags.sample_type) r.sample_type = flags.sample_type;
  if (!problems.empty()) return Error{Errc::usage, problems, {}, "hindcast import --help"};
  return r;
}

/// "trace.hcb" for "some/trace.pt" and "some/trace/".
std::string default_output(const std::string& input) {
  std::filesystem::path p(input);
  if (p.filename().empty()) p = p.parent_path();
  std::string stem = p.stem().string();
  if (stem.empty() || stem == "." || stem == "..") stem = "import";
  return stem + ".hcb";
}

int import_trace(const Request& request, const ImportFlags& flags) {
  const auto r = to_request(request, flags);
  if (!r.ok()) return fail(r.error());
  const std::string output = request.output.empty() ? default_output(request.file) : request.output;
  std::error_code ignored;
  if (request.output.empty() && std::filesystem::exists(output, ignored))
    return fail({Errc::usage, output + " exists already", {}, "name the bundle to write with -o FILE"});
  ProgressBar bar("importing");
  const auto done = import_to_bundle(*r, output);
  bar.clear();
  if (!done.ok()) return fail(done.error());
  if (request.json) {
    Output out;
    json_line(out, {{"type", "imported"}, {"path", output}});
    const auto written = out.finish();
    if (!written.ok()) return fail(written.error());
  } else {
    say("wrote " + output + "; look at it:  hindcast ls " + output);
  }
  if (request.remote()) return send_written(request, output, "import of " + request.file);
  return kDone;
}

}  // namespace

void add_import(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App* sub = app.add_subcommand("import", "turn a trace that another tool recorded into a bundle");
  sub->add_option("PATH", request.file, "PT file, or a folder in which the files are found by their names")
      ->required()
      ->type_name("");
  sub->add_option("-o,--output", request.output, "bundle to write; default: PATH's name with .hcb, here")
      ->type_name("FILE");
  sub->add_option("--format", flags->format,
                  "raw (PT bytes with a page cache or ELF files), lldb (trace.json), pevent (PT and perf records per "
                  "CPU), perf (perf.data)")
      ->check(CLI::IsMember({"auto", "raw", "lldb", "pevent", "perf"}))
      ->option_text("auto|raw|lldb|pevent|perf");
  sub->add_option("--cpu", flags->cpu, "CPU model that recorded it, as in 6/85/4: errata depend on it")
      ->type_name("F/M/S");
  sub->add_option("--cpuid-15h", flags->cpuid15, "EAX,EBX[,ECX] of CPUID leaf 15H: without it MTC packets give no time")
      ->type_name("A,B[,C]");
  sub->add_option("--nominal-ratio", flags->nominal_ratio, "max non-turbo ratio of that CPU")->type_name("N");
  sub->add_option("--pt", flags->pt, "PT options it was recorded with; default: what the packets show")
      ->type_name("LIST");
  sub->add_option("--elf", flags->elfs, "ELF file with code: PATH[@0xADDRESS][=NAME-IN-RECORDS]")->type_name("ELF");
  sub->add_option("--pages", flags->page_bytes, "raw: file of 4 KiB code pages")->type_name("FILE");
  sub->add_option("--page-addresses", flags->page_addresses, "raw: file with the pages' addresses")->type_name("FILE");
  sub->add_option("--more-pt", flags->more_pt, "pevent: PT files of further CPUs")->type_name("FILE");
  sub->add_option("--sideband", flags->sideband, "pevent: perf records of each PT file, in the same order")
      ->type_name("FILE");
  sub->add_option("--shared-sideband", flags->shared_sideband, "pevent: perf records that belong to no CPU")
      ->type_name("FILE");
  sub->add_option("--sample-type", flags->sample_type, "pevent: sample_type of the records; default 0x10086")
      ->type_name("N");
  sub->add_option("--image-root", flags->image_root,
                  "pevent, perf: files that records name are looked up here; / for this machine's")
      ->type_name("DIR");
  sub->add_option("--buildid-dir", flags->build_id_folder,
                  "perf: build-id cache with the code, such as ~/.debug; default: buildid beside the file")
      ->type_name("DIR");
  add_server(*sub, request, "give the bundle to this hindcast-server, too, as in http://127.0.0.1:7412");
  sub->add_flag("--json", request.json, "say what was written in JSON");
  sub->footer(
      "Examples:\n"
      "  hindcast import my-lldb-trace/ -o my.hcb\n"
      "  hindcast import trace.pt --pages page_cache.dump --page-addresses page_cache.addr --cpu 6/158/10\n"
      "  hindcast import perf.data --buildid-dir ~/.debug --image-root /");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return import_trace(request, *flags); }; });
}

}  // namespace hindcast::server::cli
