// hindcast ls: what a bundle holds and what it lacks.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/table.h"
#include "server/views/cli/who.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

std::string source_words(const std::string& source) {
  if (source == "simulated") return "simulated (packets made by a simulator, not by PT hardware)";
  if (source == "perf") return "perf (PT hardware)";
  if (source.starts_with("import:")) return "imported, format " + source.substr(7);
  return source;
}

std::string kind_text(ImageKind kind) {
  switch (kind) {
    case ImageKind::elf:
      return "elf";
    case ImageKind::memory:
      return "memory";
    case ImageKind::jitdump:
      return "jitdump";
    case ImageKind::perf_map:
      return "perf map";
    case ImageKind::kallsyms:
      return "kallsyms";
  }
  return "?";
}

std::string kind_text(StreamKind kind) {
  switch (kind) {
    case StreamKind::pt:
      return "pt";
    case StreamKind::sideband:
      return "sideband";
    case StreamKind::clocks:
      return "clocks";
    case StreamKind::waits:
      return "waits";
    case StreamKind::net:
      return "net";
  }
  return "?";
}

std::string cpu_text(CpuId cpu) { return cpu == kNoCpu ? "-" : std::to_string(cpu.value()); }
std::string tid_text(Tid tid) { return tid == kNoTid ? "-" : std::to_string(tid.value()); }

std::string cpus_text(const std::vector<CpuId>& cpus) {
  std::string s;
  for (size_t i = 0; i < cpus.size();) {
    size_t j = i;
    while (j + 1 < cpus.size() && cpus[j + 1].value() == cpus[j].value() + 1) ++j;
    s += (s.empty() ? "" : ",") + cpu_text(cpus[i]) + (j > i ? "-" + cpu_text(cpus[j]) : "");
    i = j + 1;
  }
  return s.empty() ? "-" : s;
}

std::string model_text(const PtCpu& c, const TimeScale& scale) {
  std::string s = c.family ? "family " + std::to_string(c.family) + " model " + std::to_string(c.model) + " stepping " +
                                 std::to_string(c.stepping)
                           : "model unknown";
  if (scale.known()) {
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, ", TSC %.3f GHz", 1 / scale.ns_per_tick);
    s += buffer;
  }
  return s;
}

/// From the earliest to the latest moment that a PT stream tells of; none where its packets give no time.
std::optional<double> covered_ns(const TimeScale& scale, const StreamRow& s) {
  if (!scale.known() || s.time.earliest == Tsc::min() || s.time.latest == Tsc::max()) return std::nullopt;
  return scale.ns(s.time.latest) - scale.ns(s.time.earliest);
}

std::string window_text(const Overview& o) {
  const bool begins = o.window.earliest != Tsc::min(), ends = o.window.latest != Tsc::max();
  if (!begins && !ends) return "unknown: no timing packets";
  const std::string from = begins ? ", from TSC " + std::to_string(o.window.earliest.value()) : "";
  if (!begins || !ends) return std::string(begins ? "end" : "begin") + " unknown" + from;
  if (o.scale.known()) return span_text(o.scale.ns(o.window.latest)) + from;
  return std::to_string(o.window.latest.value() - o.window.earliest.value()) + " ticks of unknown length" + from;
}

/// How much time each CPU's trace covers: "CPU 0: 412 ms, CPU 7: 9.81 s". Empty without PT.
std::string coverage_text(const Overview& o, bool verbose) {
  constexpr size_t kShown = 16;
  std::string text;
  size_t n = 0;
  for (const StreamRow& s : o.streams) {
    if (s.info.kind != StreamKind::pt) continue;
    if (++n > kShown && !verbose) continue;
    const auto ns = covered_ns(o.scale, s);
    text += (text.empty() ? "" : ", ") +
            (s.info.cpu == kNoCpu ? "thread " + tid_text(s.info.tid) : "CPU " + cpu_text(s.info.cpu)) + ": " +
            (ns                  ? span_text(*ns)
             : s.info.bytes == 0 ? "nothing"
                                 : "unknown");
  }
  return n > kShown && !verbose ? text + " and " + std::to_string(n - kShown) + " more; all with -v" : text;
}

std::string gap_words(const GapRow& g) {
  const std::string name(to_string(g.cause));
  if (g.words.empty()) return cause_words(g.cause);
  if (!g.words.starts_with(name + " ")) return printable(g.words);
  return cause_words(g.cause) + ": " + size_text(g.count) + " of trace" + printable(g.words.substr(name.size()));
}

std::vector<DamageRow> all_damage(const Query& query) {
  std::vector<DamageRow> rows = query.store().damage;
  for (DamageRow& d : query.damage_met()) rows.push_back(std::move(d));
  return rows;
}

/// What is missing, first: it decides how far the rest may be trusted.
void missing(Output& out, const std::vector<DamageRow>& damage, const Overview& o, bool verbose) {
  for (const DamageRow& d : damage)
    out.line(out.paint(Colour::red, pad_right("damaged", 10)) + " " + printable(d.what));
  if (!o.gaps.empty()) {
    heading(out, "GAPS", o.gaps.size());
    constexpr size_t kShown = 20;
    Table table({"cause", ">cpu", "when", "what"});
    for (size_t i = 0; i < o.gaps.size() && (verbose || i < kShown); ++i) {
      const GapRow& g = o.gaps[i];
      table.row({std::string(to_string(g.cause)), cpu_text(g.cpu), range_phrase(o.scale, g.time), gap_words(g)});
    }
    table.print(out);
    if (!verbose && o.gaps.size() > kShown)
      out.line("  ... " + std::to_string(o.gaps.size() - kShown) + " more; all with -v");
  }
  if (!o.info.notes.empty()) {
    heading(out, "NOTES", o.info.notes.size());
    for (const std::string& n : o.info.notes) out.line("  " + printable(n));
  }
}

/// One of its threads is of those that were asked for.
bool has_meant(const Overview& o, const ProcessRow& p, const Request& request) {
  return std::any_of(o.threads.begin(), o.threads.end(),
                     [&](const ThreadRow& t) { return t.pid == p.pid && is_meant(t, request); });
}

void snapshot_text(Output& out, const Overview& o, const Request& request, Query& query) {
  const bool verbose = request.verbose;
  const SnapshotInfo& info = o.info;
  field(out, "source", printable(source_words(info.source)));
  if (!info.host.empty()) field(out, "host", printable(info.host));
  if (!info.incident.empty()) field(out, "incident", printable(info.incident));
  if (!info.command.empty()) field(out, "command", printable(info.command));
  field(out, "taken", utc_text(info.created_unix_ns));
  field(out, "cpu", model_text(info.cpu, o.scale));
  field(out, "pt", to_text(info.pt) + (info.user_only ? " (user space only)" : ""));
  field(out, "window", window_text(o));
  if (const std::string covers = coverage_text(o, verbose); !covers.empty()) field(out, "covers", covers);
  missing(out, all_damage(query), o, verbose);

  // A machine runs hundreds of threads beside those that were traced: they are there for who asks.
  const auto meant = [&](const ThreadRow& t) { return is_meant(t, request); };
  const auto of_all = static_cast<size_t>(std::count_if(o.threads.begin(), o.threads.end(), meant));
  const auto traced =
      std::count_if(o.threads.begin(), o.threads.end(), [&](const ThreadRow& t) { return t.traced() && meant(t); });
  const bool all = verbose || traced == 0;
  const auto shown = [&](const ThreadRow& t) { return meant(t) && (all || t.traced()); };
  const bool any_where = std::any_of(o.threads.begin(), o.threads.end(),
                                     [&](const ThreadRow& t) { return shown(t) && where_text(t) != "-"; });
  const auto more = [&](uint64_t hidden, const std::string& what) {
    if (hidden) out.line(out.paint(Colour::dim, "  " + count_text(hidden, what) + " without trace; list with -v"));
  };
  heading(out, "THREADS", all ? of_all : static_cast<uint64_t>(traced));
  std::vector<std::string> columns{">tid", ">pid", "comm", "cpus", ">on cpu", ">slices", ">trace", "seen"};
  if (any_where) columns.insert(columns.end() - 1, "where");
  Table threads(columns);
  std::set<Pid> traced_pids;
  for (const ThreadRow& t : o.threads) {
    if (t.traced() && meant(t)) traced_pids.insert(t.pid);
    if (!shown(t)) continue;
    std::vector<std::string> cells{tid_text(t.tid),
                                   t.pid == kNoPid ? "-" : std::to_string(t.pid.value()),
                                   printable(t.comm),
                                   cpus_text(t.cpus),
                                   t.on_cpu_ns ? span_text(static_cast<double>(t.on_cpu_ns)) : "-",
                                   t.slices ? std::to_string(t.slices) : "-",
                                   t.pt_bytes ? size_text(t.pt_bytes) : "-",
                                   range_phrase(o.scale, t.time)};
    if (any_where) cells.insert(cells.end() - 1, where_text(t));
    threads.row(std::move(cells));
  }
  threads.print(out);
  more(of_all - threads.rows(), "more thread");
  if (verbose) print_identities(out, o, shown);

  if (traced_pids.size() > 1 || verbose) {
    Table processes({">pid", ">parent", "comm", ">threads", "started", "exited"});
    const auto when = [&](const TscInterval& t) {
      return t == TscInterval::unknown() ? std::string("-") : time_phrase(o.scale, t);
    };
    for (const ProcessRow& p : o.processes)
      if (traced_pids.count(p.pid) || (verbose && has_meant(o, p, request)))
        processes.row({std::to_string(p.pid.value()), p.parent == kNoPid ? "-" : std::to_string(p.parent.value()),
                       printable(p.comm), std::to_string(p.tids.size()), when(p.started), when(p.exited)});
    heading(out, "PROCESSES", processes.rows());
    processes.print(out);
  }

  heading(out, "STREAMS", o.streams.size());
  Table streams({">id", "kind", ">cpu", ">tid", ">bytes", ">ring", "state", "window"});
  for (const StreamRow& s : o.streams) {
    std::string state = s.info.wrapped ? "wrapped" : "whole";
    if (s.info.lost_bytes) state += ", lost " + size_text(s.info.lost_bytes);
    if (s.overflows) state += ", " + count_text(s.overflows, "overflow");
    if (s.info.kind == StreamKind::pt && s.first_psb == s.info.bytes && s.info.bytes) state += ", no PSB";
    if (s.unattributed_bytes) state += ", " + size_text(s.unattributed_bytes) + " of no known thread";
    streams.row({std::to_string(s.info.id), kind_text(s.info.kind), cpu_text(s.info.cpu), tid_text(s.info.tid),
                 size_text(s.info.bytes), s.info.ring_bytes ? size_text(s.info.ring_bytes) : "-", state,
                 s.info.kind == StreamKind::pt ? range_phrase(o.scale, s.time) : "-"});
  }
  streams.print(out);

  if (!info.images.empty()) {
    heading(out, "IMAGES", info.images.size());
    Table images({">id", "kind", ">bytes", "build-id", "path"});
    for (const ImageInfo& i : info.images)
      images.row({std::to_string(i.id), kind_text(i.kind), size_text(i.bytes),
                  i.build_id.empty() ? "-"
                  : verbose          ? i.build_id
                                     : i.build_id.substr(0, 12),
                  printable(i.path)});
    images.print(out);
  }
  if (!info.placements.empty() && (verbose || info.placements.size() <= 20)) {
    heading(out, "PLACEMENTS", info.placements.size());
    Table placements({">pid", "address", ">image", "offset"});
    for (const PlacementInfo& p : info.placements)
      placements.row({p.pid == kNoPid ? "all" : std::to_string(p.pid.value()),
                      hex_text(p.address) + ".." + hex_text(p.address + p.length), std::to_string(p.image),
                      hex_text(p.image_offset)});
    placements.print(out);
  } else if (!info.placements.empty()) {
    out.line("");
    out.line(out.paint(Colour::bold, "PLACEMENTS") + " " + std::to_string(info.placements.size()) +
             "; list them with -v");
  }
  if (!verbose) return;
  for (const ThreadRow& t : o.threads) {
    if (!meant(t)) continue;
    const auto slices = query.slices(o.snapshot, t.tid);
    if (!slices.ok() || slices->empty()) continue;
    heading(out, "SLICES of thread " + tid_text(t.tid), slices->size());
    Table table({">cpu", "in", "out", "why"});
    for (const SliceRow& s : *slices)
      table.row({cpu_text(s.cpu), s.open_start ? "not recorded" : time_phrase(o.scale, s.in),
                 s.open_end ? "not recorded" : time_phrase(o.scale, s.out),
                 s.open_end    ? ""
                 : s.preempted ? "preempted"
                               : "waits"});
    table.print(out);
  }
}

void snapshot_json(Output& out, const Overview& o, const Request& request, Query& query) {
  const SnapshotInfo& i = o.info;
  json_line(out, {{"type", "snapshot"},
                  {"snapshot", o.snapshot},
                  {"source", i.source},
                  {"simulated", i.source == "simulated"},
                  {"host", i.host},
                  {"incident", i.incident},
                  {"command", i.command},
                  {"created_unix_ns", i.created_unix_ns},
                  {"pt", to_text(i.pt)},
                  {"user_only", i.user_only},
                  {"cpu_model", Json::array({i.cpu.family, i.cpu.model, i.cpu.stepping})},
                  {"window_tsc", json_time(o.window)},
                  {"traced_tsc", json_time(i.traced)},
                  {"scale", json_scale(o.scale)},
                  {"notes", i.notes}});
  for (const GapRow& g : o.gaps)
    json_line(out, {{"type", "gap"},
                    {"snapshot", o.snapshot},
                    {"cause", to_string(g.cause)},
                    {"cpu", json_cpu(g.cpu)},
                    {"stream", g.stream},
                    {"tsc", json_time(g.time)},
                    {"count", g.count},
                    {"words", g.words}});
  for (const ProcessRow& p : o.processes) {
    if (!who_text(request).empty() && !has_meant(o, p, request)) continue;
    Json tids = Json::array();
    for (const Tid t : p.tids) tids.push_back(t.value());
    json_line(out, {{"type", "process"},
                    {"snapshot", o.snapshot},
                    {"pid", p.pid.value()},
                    {"parent", p.parent.value()},
                    {"comm", p.comm},
                    {"tids", tids},
                    {"started_tsc", json_time(p.started)},
                    {"exited_tsc", json_time(p.exited)}});
  }
  for (const ThreadRow& t : o.threads) {
    if (!is_meant(t, request)) continue;
    Json cpus = Json::array();
    for (const CpuId c : t.cpus) cpus.push_back(c.value());
    json_line(out, {{"type", "thread"},
                    {"snapshot", o.snapshot},
                    {"tid", t.tid.value()},
                    {"pid", t.pid.value()},
                    {"comm", t.comm},
                    {"cpus", cpus},
                    {"on_cpu_ns", t.on_cpu_ns},
                    {"slices", t.slices},
                    {"stretches", t.stretches},
                    {"pt_bytes", t.pt_bytes},
                    {"tsc", json_time(t.time)},
                    {"cgroups", json_cgroups(t)},
                    {"namespaces", json_namespaces(t)},
                    {"ids", json_ids(t)}});
    const auto slices = query.slices(o.snapshot, t.tid);
    if (!slices.ok()) continue;
    for (const SliceRow& s : *slices)
      json_line(out, {{"type", "slice"},
                      {"snapshot", o.snapshot},
                      {"tid", t.tid.value()},
                      {"cpu", json_cpu(s.cpu)},
                      {"in_tsc", json_time(s.in)},
                      {"out_tsc", json_time(s.out)},
                      {"open_start", s.open_start},
                      {"open_end", s.open_end},
                      {"preempted", s.preempted}});
  }
  for (const StreamRow& s : o.streams) {
    const auto covered = covered_ns(o.scale, s);
    json_line(out, {{"type", "stream"},
                    {"snapshot", o.snapshot},
                    {"id", s.info.id},
                    {"kind", kind_text(s.info.kind)},
                    {"cpu", json_cpu(s.info.cpu)},
                    {"tid", s.info.tid.value()},
                    {"bytes", s.info.bytes},
                    {"ring_bytes", s.info.ring_bytes},
                    {"wrapped", s.info.wrapped},
                    {"lost_bytes", s.info.lost_bytes},
                    {"cuts", s.info.cuts},
                    {"first_psb", s.first_psb},
                    {"tsc", json_time(s.time)},
                    {"covered_ns", covered ? Json(static_cast<uint64_t>(std::max(*covered, 0.0))) : Json()},
                    {"stretches", s.stretches},
                    {"attributed_stretches", s.attributed_stretches},
                    {"unattributed_bytes", s.unattributed_bytes},
                    {"overflows", s.overflows}});
  }
  for (const ImageInfo& m : i.images)
    json_line(out, {{"type", "image"},
                    {"snapshot", o.snapshot},
                    {"id", m.id},
                    {"kind", kind_text(m.kind)},
                    {"bytes", m.bytes},
                    {"build_id", m.build_id},
                    {"path", m.path}});
  for (const PlacementInfo& p : i.placements)
    json_line(out, {{"type", "placement"},
                    {"snapshot", o.snapshot},
                    {"pid", p.pid.value()},
                    {"address", json_address(p.address)},
                    {"length", p.length},
                    {"image", p.image},
                    {"image_offset", p.image_offset}});
}

int ls(const Request& request, bool one_snapshot) {
  if (request.remote()) return request.file.empty() ? list_incidents(request) : ask(request, "ls");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const StoreInfo& store = (*query)->store();
  if (one_snapshot && request.snapshot >= store.snapshots) return fail((*query)->overview(request.snapshot).error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  if (request.json) {
    json_line(out, {{"type", "bundle"},
                    {"path", store.path},
                    {"snapshots", store.snapshots},
                    {"stored_bytes", store.stored_bytes},
                    {"raw_bytes", store.raw_bytes},
                    {"damage", json_damage(store.damage)}});
  } else {
    char ratio[32];
    std::snprintf(
        ratio, sizeof ratio, "%.1f",
        store.stored_bytes ? static_cast<double>(store.raw_bytes) / static_cast<double>(store.stored_bytes) : 0.0);
    out.line(out.paint(Colour::bold, printable(store.path)) + "  " + size_text(store.stored_bytes) + " on disk, " +
             size_text(store.raw_bytes) + " unpacked (" + ratio + ":1), " + count_text(store.snapshots, "snapshot"));
  }
  int code = kDone;
  for (size_t i = 0; i < store.snapshots; ++i) {
    if (one_snapshot && i != request.snapshot) continue;
    ProgressBar bar("reading");
    const auto overview = (*query)->overview(i);
    bar.clear();
    if (!overview.ok()) {
      code = fail(overview.error());
      continue;
    }
    if (const auto r = somebody_is_meant(**overview, request); !r) {
      code = fail(r.error());
      continue;
    }
    if (request.json) {
      snapshot_json(out, **overview, request, **query);
    } else {
      if (store.snapshots > 1) out.line("\nSNAPSHOT " + std::to_string(i));
      snapshot_text(out, **overview, request, **query);
    }
  }
  if (request.json)
    for (const DamageRow& d : (*query)->damage_met())
      json_line(out,
                {{"type", "damage"}, {"what", d.what}, {"stream", d.stream}, {"offset", d.offset}, {"bytes", d.bytes}});
  const auto done = out.finish();
  return done.ok() ? code : fail(done.error());
}

}  // namespace

void add_ls(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("ls", "what a bundle holds: threads, streams, images; and what it lacks");
  sub->add_option("FILE", request.file, "bundle to read; with --server an incident, or nothing for a list of them")
      ->type_name("");
  add_server(*sub, request);
  add_answer_flags(*sub, request);
  add_snapshot(*sub, request);
  add_who_flags(*sub, request);
  sub->add_flag("-v,--verbose", request.verbose,
                "also every slice, placement, gap, cgroup and namespace, and whole build-ids; of incidents, all");
  sub->footer(
      "Examples:\n"
      "  hindcast ls hindcast.hcb\n"
      "  hindcast ls --json hindcast.hcb | jq 'select(.type==\"thread\")'\n"
      "  hindcast ls --server http://127.0.0.1:7412              incidents, newest first\n"
      "  hindcast ls --server http://127.0.0.1:7412 latest       what the newest one holds");
  sub->callback([&request, &chosen, sub] {
    if (request.file.empty() && !request.remote()) throw CLI::RequiredError("FILE");
    const bool one = sub->get_option("--snapshot")->count() > 0;
    chosen = [&request, one] { return ls(request, one); };
  });
}

}  // namespace hindcast::server::cli
