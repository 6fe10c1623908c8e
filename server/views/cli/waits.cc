// hindcast waits: who slept on what, who woke whom, messages, signals and exits. hindcast net: packets.
#include <CLI/CLI.hpp>

#include "server/views/cli/cli.h"
#include "server/views/cli/output.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/wait_words.h"
#include "server/views/cli/who.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

void print_json(Output& out, const WaitItem& item, const wait::Record& record) {
  const wait::Header& h = record.header;
  Json j{{"type", h.kind == wait::kPacket ? "packet" : "wait"},
         {"stream", item.stream},
         {"offset", item.offset},
         {"kind", wait_kind(record)},
         {"cpu", json_cpu(CpuId(h.cpu))},
         {"tsc", json_time(item.time)}};
  if (h.kind != wait::kPacket) {
    j["pid"] = h.pid;
    j["tid"] = h.tid;
  }
  if (!item.begun.is_unknown()) j["begun_tsc"] = json_time(item.begun);
  j["monotonic_ns"] = h.time;
  j.update(wait_fields(record));
  json_line(out, j);
}

void print_line(Output& out, const TimeScale& scale, const WaitItem& item, const wait::Record& record) {
  const wait::Header& h = record.header;
  const TimeText t = time_text(scale, item.time);
  const bool lost = h.kind == wait::kLost;
  std::string text = wait_text(record);
  if (!lost && !item.begun.is_unknown())
    text += ", " + std::string(h.kind == wait::kSleep ? "which began " : "") +
            duration_text(scale, item.begun, item.time) + (h.kind == wait::kSleep ? " before" : "");
  const std::string line = pad_left(t.at, 14) + " " + pad_right(t.width, 9) + "  " +
                           pad_left(h.cpu == kNoCpu.value() ? "-" : std::to_string(h.cpu), 3) + "  " +
                           pad_left(h.tid < 0 ? "-" : std::to_string(h.tid), 7) + "  " + text;
  out.line(lost ? out.paint(Colour::red, line) : line);
}

int waits(const Request& request, StreamKind kind) {
  std::optional<TimeRange> range;
  if (!request.time.empty()) {
    const auto parsed = parse_time_range(request.time);
    if (!parsed.ok()) return fail(parsed.error());
    range = *parsed;
  }
  if (request.remote()) return ask(request, kind == StreamKind::net ? "net" : "waits");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const auto overview = read_overview(**query, request);
  if (!overview.ok()) return fail(overview.error());
  const TimeScale& scale = (*overview)->scale;
  WaitQuestion question;
  question.snapshot = request.snapshot;
  question.of = kind;
  if (request.tid) question.tid = Tid(*request.tid);
  if (!who_text(request).empty()) {
    if (const auto r = somebody_is_meant(**overview, request); !r) return fail(r.error());
    question.among.emplace();
    for (const ThreadRow& t : (*overview)->threads)
      if (is_meant(t, request)) question.among->insert(t.tid);
  }
  if (request.cpu) question.cpu = CpuId(*request.cpu);
  if (range) {
    const auto time = resolve(*range, scale);
    if (!time.ok()) return fail(time.error());
    question.time = *time;
  }
  auto reader = (*query)->waits(question);
  if (!reader.ok()) return fail(reader.error());

  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  if (!request.json)
    out.line(
        out.paint(Colour::dim, pad_left("time (" + time_unit(scale) + ")", 14) + " within     cpu      tid  what"));
  WaitItem item;
  uint64_t items = 0, lost = 0;
  while (!out.failed() && (*reader)->next(item)) {
    wait::Record record;
    if (!wait::Reader(item.record).next(record)) {
      say("damaged: stream " + std::to_string(item.stream) + ": " + item.damage);
      continue;
    }
    if (const auto gap = wait::as<wait::Lost>(record)) lost += gap->count;
    if (request.json)
      print_json(out, item, record);
    else
      print_line(out, scale, item, record);
    if (request.limit && ++items == request.limit) break;
  }
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  say_damage(**query);
  if (lost) say(std::to_string(lost) + " records were lost, where the answer says so");
  return kDone;
}

/// What both commands take.
void add_records(CLI::App& sub, StreamKind kind, Request& request, Command& chosen) {
  add_file(sub, request);
  add_server(sub, request);
  sub.add_option("-C,--cpu", request.cpu, "only what happened on this CPU")->type_name("CPU");
  add_time(sub, request);
  add_limit(sub, request, "records");
  add_snapshot(sub, request);
  add_answer_flags(sub, request);
  sub.callback([&request, &chosen, kind] { chosen = [&request, kind] { return waits(request, kind); }; });
}

}  // namespace

void add_waits(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("waits", "who slept on what, who woke whom, messages, signals and exits");
  sub->add_option("-t,--tid", request.tid, "only what this thread did, and what was done to it")
      ->option_text("TID")
      ->check(at_least(0));
  add_who_flags(*sub, request);
  add_records(*sub, StreamKind::waits, request, chosen);
  sub->footer(
      "Examples:\n"
      "  hindcast waits hindcast.hcb -t 4711\n"
      "  hindcast waits hindcast.hcb --time 12ms,13ms | grep wakes\n"
      "\n"
      "Recorded where the machine allows BPF programs (hindcast doctor). A call on a socket, a pipe or a futex is told "
      "when\n"
      "it ends; a thread's sleep in one when it begins.");
}

void add_net(CLI::App& app, Request& request, Command& chosen) {
  CLI::App* sub = app.add_subcommand("net", "packets that passed the host's interfaces: flows, byte ranges, times");
  add_records(*sub, StreamKind::net, request, chosen);
  sub->footer(
      "Examples:\n"
      "  hindcast net hindcast.hcb --time 12ms,13ms\n"
      "  hindcast net hindcast.hcb | grep 10.0.0.7:5432\n"
      "\n"
      "Recorded with --net on. What is sent is seen before the device cuts it (segments), what is received as it "
      "came.\n"
      "Packets between processes of this host pass no interface: their messages are in  hindcast waits.");
}

}  // namespace hindcast::server::cli
