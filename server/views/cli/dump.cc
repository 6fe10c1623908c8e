// hindcast dump: PT packets or sideband records as text.
#include <CLI/CLI.hpp>
#include <cinttypes>
#include <cstdlib>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct DumpFlags {
  bool sideband = false;
  std::string offset;
};

/// "A,B", decimal or 0x hexadecimal, either side may be empty.
Result<std::pair<uint64_t, uint64_t>> parse_offsets(const std::string& text) {
  std::pair<uint64_t, uint64_t> out{0, UINT64_MAX};
  const size_t comma = text.find(',');
  const auto side = [](const std::string& s, uint64_t& v) {
    if (s.empty()) return true;
    char* end = nullptr;
    errno = 0;
    v = std::strtoull(s.c_str(), &end, 0);
    return errno == 0 && *end == 0 && s[0] != '-';
  };
  if (comma == std::string::npos || !side(text.substr(0, comma), out.first) ||
      !side(text.substr(comma + 1), out.second) || out.first > out.second)
    return Error{Errc::usage,
                 "cannot read the offsets \"" + text + "\"",
                 {},
                 "write A,B in bytes, as in 0x2b0,0x1000; leave a side empty for no limit"};
  return out;
}

int dump(const Request& request, const DumpFlags& flags) {
  TextQuestion question;
  question.snapshot = request.snapshot;
  if (request.cpu) question.cpu = CpuId(*request.cpu);
  question.stream = request.stream;
  if (!flags.offset.empty()) {
    const auto range = parse_offsets(flags.offset);
    if (!range.ok()) return fail(range.error());
    question.from = range->first;
    question.to = range->second;
  }
  if (request.remote()) return ask(request, "dump");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const auto overview = read_overview(**query, request);
  if (!overview.ok()) return fail(overview.error());
  auto reader = flags.sideband ? (*query)->records(question) : (*query)->packets(question);
  if (!reader.ok()) return fail(reader.error());

  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  const TimeScale& scale = (*overview)->scale;
  TextItem item;
  uint32_t stream = 0;
  uint64_t lines = 0, unread = 0;
  while (!out.failed() && (*reader)->next(item)) {
    const bool damage = item.kind == "bad" || item.kind == "truncated" || item.kind == "malformed" ||
                        item.kind == "unread" || item.kind == "unreadable";
    if (damage) ++unread;
    if (request.json) {
      Json j{{"type", flags.sideband ? "record" : "packet"},
             {"stream", item.stream},
             {"cpu", json_cpu(item.cpu)},
             {"offset", item.offset},
             {"bytes", item.bytes},
             {"kind", item.kind},
             {"text", item.text}};
      if (flags.sideband) j["tsc"] = json_time(item.time);
      json_line(out, j);
    } else {
      if (item.stream != stream) {
        out.line(out.paint(Colour::bold, std::string(stream ? "\n" : "") + "stream " + std::to_string(item.stream) +
                                             (item.cpu == kNoCpu ? "" : ", CPU " + std::to_string(item.cpu.value()))));
        out.line(out.paint(Colour::dim,
                           flags.sideband
                               ? "offset    " + pad_left("time (" + time_unit(scale) + ")", 14) + " within     record"
                               : "offset    packet"));
        stream = item.stream;
      }
      std::string text = item.text;
      if (flags.sideband) {
        char offset[32];
        std::snprintf(offset, sizeof offset, "%08" PRIx64 "  ", item.offset);
        const TimeText t = time_text(scale, item.time);
        text = offset + pad_left(t.at, 14) + " " + pad_right(t.width, 9) + "  " + text;
      }
      out.line(damage ? out.paint(Colour::red, text) : text);
    }
    if (request.limit && ++lines == request.limit) break;
  }
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  say_damage(**query);
  if (unread)
    say("not readable, and marked so above: " + std::to_string(unread) + (unread == 1 ? " stretch" : " stretches") +
        " of bytes");
  return kDone;
}

}  // namespace

void add_dump(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<DumpFlags>();
  CLI::App* sub = app.add_subcommand("dump", "PT packets, or sideband records, as text");
  add_file(*sub, request);
  add_server(*sub, request);
  sub->add_option("-C,--cpu", request.cpu, "only streams of this CPU")->type_name("CPU");
  sub->add_option("--stream", request.stream, "only this stream")->type_name("ID");
  sub->add_option("--offset", flags->offset, "only what begins at bytes A to B of a stream")->type_name("A,B");
  add_limit(*sub, request, "packets or records");
  sub->add_flag("--sideband", flags->sideband, "sideband records instead of packets");
  add_snapshot(*sub, request);
  add_answer_flags(*sub, request);
  sub->footer(
      "Examples:\n"
      "  hindcast dump hindcast.hcb --cpu 1 --offset 0x1000,0x1400\n"
      "  hindcast dump hindcast.hcb --sideband | grep SWITCH\n"
      "\n"
      "Other files than bundles become bundles with:  hindcast import PATH -o FILE");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return dump(request, *flags); }; });
}

}  // namespace hindcast::server::cli
