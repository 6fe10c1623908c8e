// hindcast bench: how fast a bundle is decoded on this machine.
#include <CLI/CLI.hpp>

#include <cstdio>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/table.h"

namespace hindcast::server::cli {
namespace {

struct Row {
  const char* name;
  const char* words;
  BenchReport::Way way;
};

std::string decimal(double v) {
  char text[32];
  std::snprintf(text, sizeof text, v < 10 ? "%.2f" : "%.1f", v);
  return text;
}

double millions_a_second(uint64_t n, const BenchReport::Way& way) {
  return way.seconds > 0 ? static_cast<double>(n) / way.seconds / 1e6 : 0;
}

int bench(const Request& request, double seconds) {
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  ProgressBar bar("decoding");
  const auto report = (*query)->bench(request.snapshot, std::chrono::duration<double>(seconds), bar.callback());
  bar.clear();
  if (!report.ok()) return fail(report.error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;

  const Row rows[] = {{"flow_cold", "control flow, code not known yet", report->cold},
                      {"flow", "control flow, code known", report->flow},
                      {"times", "the same, each block with its time", report->times},
                      {"events", "blocks with thread and time", report->events},
                      {"events_libipt", "the same by --engine libipt", report->libipt}};
  const double ratio = report->events.seconds > 0 ? report->libipt.seconds / report->events.seconds : 0;
  if (request.json) {
    for (const Row& row : rows)
      json_line(out, {{"type", "way"},
                      {"way", row.name},
                      {"seconds", row.way.seconds},
                      {"passes", row.way.passes},
                      {"instructions", row.way.work.instructions},
                      {"branches", row.way.work.branches}});
    json_line(out, {{"type", "summary"},
                    {"bytes", report->bytes},
                    {"stretches", report->stretches},
                    {"skipped", report->skipped},
                    {"given_up", report->given_up},
                    {"intervals", report->intervals},
                    {"events_ratio_to_libipt", ratio}});
  } else {
    out.line(std::to_string(report->bytes) + " bytes of PT, one core, the median of several passes");
    Table table({"what", ">seconds", ">MB/s", ">M branches/s", ">M instructions/s", ">instructions", ">passes"});
    for (const Row& row : rows)
      table.row({row.words, decimal(row.way.seconds), decimal(millions_a_second(report->bytes, row.way)),
                 decimal(millions_a_second(row.way.work.branches, row.way)),
                 decimal(millions_a_second(row.way.work.instructions, row.way)),
                 std::to_string(row.way.work.instructions), std::to_string(row.way.passes)});
    table.print(out);
    out.line("the fast engine is " + decimal(ratio) + " times as fast as the libipt engine");
    if (report->skipped + report->given_up != 0)
      out.line("control flow alone leaves out " + std::to_string(report->skipped) + " of " +
               std::to_string(report->stretches) + " stretches (libipt's, or of no known code) and the rest of " +
               std::to_string(report->given_up));
  }
  const auto done = out.finish();
  return done.ok() ? kDone : fail(done.error());
}

}  // namespace

void add_bench(CLI::App& app, Request& request, Command& chosen) {
  auto seconds = std::make_shared<double>(2);
  CLI::App* sub = app.add_subcommand("bench", "measure how fast a bundle is decoded on this machine");
  add_file(*sub, request);
  add_snapshot(*sub, request);
  sub->add_option("--seconds", *seconds, "how long to measure each way, default 2; every way runs once at least")
      ->check(CLI::Range(0.0, 3600.0))
      ->option_text("S");
  add_answer_flags(*sub, request);
  sub->footer(
      "Decodes all PT streams of a snapshot: control flow alone (what an index needs), the same with an interval of\n"
      "time for each block, then every block with its thread and time, by our own engine and by libipt's, in the\n"
      "same process on one core.\n"
      "\n"
      "Examples:\n"
      "  hindcast bench hindcast.hcb\n"
      "  hindcast bench hindcast.hcb --seconds 10 --json");
  sub->callback([&request, &chosen, seconds] { chosen = [&request, seconds] { return bench(request, *seconds); }; });
}

}  // namespace hindcast::server::cli
