// hindcast verify: checksums, a decode of everything, and the comparison with the truth.
#include <CLI/CLI.hpp>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/table.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct VerifyFlags {
  std::string truth;
  std::string resync = "earliest";
};

void report_json(Output& out, const VerifyReport& r) {
  for (const DamageRow& d : r.damage)
    json_line(out,
              {{"type", "damage"}, {"what", d.what}, {"stream", d.stream}, {"offset", d.offset}, {"bytes", d.bytes}});
  for (const auto& s : r.streams) {
    Json j{{"type", "stream"},       {"snapshot", s.snapshot}, {"stream", s.stream},
           {"cpu", json_cpu(s.cpu)}, {"tid", s.tid.value()},   {"bytes", s.bytes}};
    j.update(json_counts(s.counts));
    j["error"] = s.error.empty() ? Json() : Json(s.error);
    j["stretches"] = s.stretches;
    j["left_to_libipt"] = s.left_to_libipt;
    j["engines_differ"] = s.engines_differ.empty() ? Json() : Json(s.engines_differ);
    json_line(out, j);
  }
  for (const auto& t : r.threads)
    json_line(out, {{"type", "thread"},
                    {"snapshot", t.snapshot},
                    {"tid", t.tid.value()},
                    {"comm", t.comm},
                    {"decoded", t.decoded},
                    {"truth", t.truth},
                    {"gaps", t.gaps},
                    {"not_decoded", t.not_decoded},
                    {"timed", t.timed},
                    {"misplaced", t.misplaced},
                    {"worst_ticks", t.worst_ticks},
                    {"worst_at", t.worst_at},
                    {"equal", t.equal},
                    {"difference", t.difference.empty() ? Json() : Json(t.difference)}});
  json_line(out, {{"type", "summary"}, {"whole", r.whole()}});
}

std::string engines_text(Output& out, const VerifyReport::Stream& s) {
  if (!s.error.empty()) return "-";
  if (!s.engines_differ.empty()) return out.paint(Colour::red, "DIFFER");
  return s.left_to_libipt == 0 ? "agree" : "agree, " + std::to_string(s.left_to_libipt) + " by libipt alone";
}

void report_text(Output& out, const VerifyReport& r, bool with_truth) {
  for (const DamageRow& d : r.damage) out.line(out.paint(Colour::red, "damaged") + "  " + printable(d.what));
  if (r.damage.empty()) out.line("checksums  all good");
  Table streams({">stream", ">cpu", ">tid", ">bytes", ">instructions", ">blocks", "engines", "gaps"});
  for (const auto& s : r.streams)
    streams.row({std::to_string(s.stream), s.cpu == kNoCpu ? "-" : std::to_string(s.cpu.value()),
                 s.tid == kNoTid ? "-" : std::to_string(s.tid.value()), std::to_string(s.bytes),
                 std::to_string(s.counts.instructions), std::to_string(s.counts.blocks), engines_text(out, s),
                 !s.error.empty()        ? "not decoded: " + s.error
                 : s.counts.gaps.empty() ? "none"
                                         : gaps_phrase(s.counts)});
  streams.print(out);
  for (const auto& s : r.streams)
    if (!s.engines_differ.empty()) out.line("\nstream " + std::to_string(s.stream) + ": " + s.engines_differ);
  if (!with_truth) return;
  out.line("");
  Table threads({">tid", "comm", ">decoded", ">truth", ">gaps", ">in gaps", "result"});
  for (const auto& t : r.threads)
    threads.row({std::to_string(t.tid.value()), printable(t.comm), std::to_string(t.decoded), std::to_string(t.truth),
                 std::to_string(t.gaps), std::to_string(t.not_decoded),
                 !t.equal      ? out.paint(Colour::red, "DIFFERS")
                 : t.misplaced ? out.paint(Colour::red, "equal, but not its times")
                               : out.paint(Colour::green, "equal")});
  threads.print(out);
  for (const auto& t : r.threads)
    if (t.misplaced)
      out.line("\nthread " + std::to_string(t.tid.value()) + ": " + std::to_string(t.misplaced) + " of " +
               std::to_string(t.timed) + " blocks ran outside their interval, instruction " +
               std::to_string(t.worst_at) + " by " + std::to_string(t.worst_ticks) + " TSC ticks");
  for (const auto& t : r.threads)
    if (!t.equal) out.line("\nthread " + std::to_string(t.tid.value()) + ": " + t.difference);
}

int verify(const Request& request, const VerifyFlags& flags) {
  if (request.remote()) return ask(request, "verify");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  VerifyQuestion question;
  question.truth = flags.truth;
  question.resync = flags.resync == "psb" ? Resync::psb : Resync::earliest;
  ProgressBar bar("verifying");
  const auto report = (*query)->verify(question, bar.callback());
  bar.clear();
  if (!report.ok()) return fail(report.error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  if (request.json)
    report_json(out, *report);
  else
    report_text(out, *report, !flags.truth.empty());
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  return report->whole() ? kDone : kFailed;
}

}  // namespace

void add_verify(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* sub =
      app.add_subcommand("verify", "check every byte, decode everything, compare with the truth if there is one");
  add_file(*sub, request);
  add_server(*sub, request);
  sub->add_option("--truth", flags->truth, "folder that record --truth wrote: compare each thread with it")
      ->type_name("DIR");
  sub->add_option("--resync", flags->resync,
                  "after damage go on at the earliest safe packet (default), or at the next PSB")
      ->check(CLI::IsMember({"earliest", "psb"}))
      ->option_text("earliest|psb");
  add_answer_flags(*sub, request);
  sub->footer(
      "Exit code 1 when anything is damaged, cannot be decoded, or differs from the truth. Gaps are no failure: they "
      "are\n"
      "counted by cause.\n"
      "\n"
      "Examples:\n"
      "  hindcast verify hindcast.hcb\n"
      "  hindcast record --source simulated --truth truth -o run.hcb -- ./program && hindcast verify run.hcb --truth "
      "truth");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return verify(request, *flags); }; });
}

}  // namespace hindcast::server::cli
