// hindcast show: what a thread or a CPU executed, with times, names, lines and every gap in its place.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>
#include <functional>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/table.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct ShowFlags {
  bool blocks = false, insns = false, lines = false, stat = false, intel = false, numbers = false;
  std::optional<uint64_t> at;  // number of an instruction
  uint64_t tail = 0;           // lines or objects; 0: all
  std::string resync = "earliest";
  std::string engine = "fast";
};

constexpr size_t kTimeWidth = 14, kSpanWidth = 9, kNumberWidth = 12, kPlaceWidth = 32, kAsmWidth = 34;

/// Events other than blocks and gaps, in words; empty for those that a block already implies.
std::string event_words(const Event& e) {
  switch (e.kind) {
    case EventKind::disabled:
      return e.to ? "left the traced code for " + hex_text(e.to) : "entered the kernel";
    case EventKind::async_disabled:
      return "interrupted before " + hex_text(e.ip);
    case EventKind::async_branch:
      return "interrupted before " + hex_text(e.ip) + ", went to " + hex_text(e.to);
    case EventKind::overflow:
      return "overflow: packets lost";
    case EventKind::paging:
      return "address space " + hex_text(e.to);
    case EventKind::exec_mode:
      return std::to_string(e.count) + "-bit code";
    case EventKind::tsx:
      return e.count & 2 ? "transaction aborted" : e.count & 1 ? "transaction begins" : "transaction ends";
    case EventKind::stopped:
      return "tracing stopped by its address filter";
    case EventKind::ptwrite:
      return "ptwrite " + hex_text(e.to);
    case EventKind::enabled:
    case EventKind::block:
    case EventKind::gap:
      return "";
  }
  return "";
}

const std::vector<Instruction>& list_of(const FlowItem& f) {
  static const std::vector<Instruction> kNone;
  return f.instructions ? *f.instructions : kNone;
}

/// Prints items one by one; remembers what it printed last, to leave out what repeats.
class Printer {
 public:
  using Line = std::function<void(std::string line)>;

  /// line: where each one goes; out: how it may look.
  Printer(const Output& out, Line line, const Overview& overview, const ShowFlags& flags, Names names)
      : out_(out), line_(std::move(line)), scale_(overview.scale), flags_(flags), names_(names) {}

  uint64_t lines() const { return lines_; }

  std::string header() const {
    std::string s =
        pad_left("time (" + time_unit(scale_) + ")", kTimeWidth) + " " + pad_right("within", kSpanWidth) + "  cpu  ";
    if (flags_.numbers) s += pad_left("number", kNumberWidth) + "  ";
    if (flags_.lines)
      s += "function and line";
    else if (flags_.insns)
      s += pad_right("address", 18) + "  " + pad_right("function", kPlaceWidth) + "  " +
           pad_right("instruction", kAsmWidth) + "  line";
    else
      s +=
          pad_right("address", 18) + "  " + pad_left("insns", 5) + "  " + pad_right("function", kPlaceWidth) + "  line";
    return out_.paint(Colour::dim, s);
  }

  void item(const FlowItem& f) {
    const Event& e = f.event;
    if (e.kind == EventKind::gap) {
      emit(prefix(f) + out_.paint(Colour::red, gap_text(scale_, e)));
      last_line_.clear();
      return;
    }
    if (e.kind == EventKind::exec_mode) {
      const bool same = e.count == bits_;
      bits_ = e.count;
      if (same) return;
    }
    if (e.kind != EventKind::block) {
      const std::string words = event_words(e);
      if (!words.empty()) emit(prefix(f) + out_.paint(Colour::dim, "-- " + words));
      return;
    }
    if (flags_.insns)
      instructions(f);
    else if (flags_.lines)
      source_lines(f);
    else
      block(f);
  }

 private:
  std::string prefix(const FlowItem& f) {
    const TimeText t = time_text(scale_, f.event.time);
    return pad_left(t.at, kTimeWidth) + " " + pad_right(t.width, kSpanWidth) + "  " +
           pad_left(f.cpu == kNoCpu ? "-" : std::to_string(f.cpu.value()), 3) + "  " + number_cell(f.number);
  }
  std::string no_prefix(std::optional<uint64_t> number = {}) const {
    return std::string(kTimeWidth + 1 + kSpanWidth + 2 + 3 + 2, ' ') + number_cell(number);
  }
  std::string number_cell(std::optional<uint64_t> number) const {
    return flags_.numbers ? pad_left(number ? std::to_string(*number) : "", kNumberWidth) + "  " : "";
  }

  void emit(std::string line) {
    line.resize(line.find_last_not_of(' ') + 1);
    line_(std::move(line));
    ++lines_;
  }

  std::string place_cell(const Place* p) const {
    const std::string s = pad_right(p ? place_text(*p, names_) : "?", kPlaceWidth);
    return p && !p->function.empty() ? out_.paint(Colour::cyan, s) : s;
  }

  void block(const FlowItem& f) {
    emit(prefix(f) + pad_right(hex_text(f.event.ip), 18) + "  " + pad_left(std::to_string(f.event.count), 5) + "  " +
         place_cell(f.place.get()) + "  " + (f.place ? lines_text(*f.place, names_) : ""));
  }

  void instructions(const FlowItem& f) {
    std::string before = prefix(f);
    uint64_t n = 0;
    for (const Instruction& i : list_of(f)) {
      if (n != 0) before = no_prefix(f.number ? std::optional(*f.number + n) : std::nullopt);
      ++n;
      std::string line = i.place ? lines_text(*i.place, names_) : "";
      const bool repeats = line == last_line_;
      last_line_ = line;
      emit(before + pad_right(hex_text(i.ip), 18) + "  " + place_cell(i.place.get()) + "  " +
           pad_right(i.text, kAsmWidth) + "  " + (repeats ? "" : line));
    }
    if (f.instructions_missing)
      emit((n == 0 ? before : no_prefix()) +
           out_.paint(Colour::red, std::to_string(f.event.count - list_of(f).size()) + " more instructions ran, to " +
                                       hex_text(f.event.last_ip) + "; their code is not known"));
  }

  void source_lines(const FlowItem& f) {
    std::string before = prefix(f);
    const auto put = [&](const Place* p) {
      if (!p) return;
      std::string text = p->function.empty() ? place_text(*p) : function_text(p->function, names_) + module_suffix(*p);
      if (p->function.empty()) text = printable(base_name(p->module));  // one line for a stretch without names
      const std::string lines = lines_text(*p, names_);
      if (!lines.empty()) text += "  " + lines;
      if (text == last_line_) return;
      last_line_ = text;
      emit(before + text);
      before = no_prefix();
    };
    if (list_of(f).empty()) put(f.place.get());
    for (const Instruction& i : list_of(f)) put(i.place.get());
  }

  const Output& out_;
  const Line line_;
  const TimeScale& scale_;
  const ShowFlags& flags_;
  const Names names_;
  std::string last_line_;
  uint32_t bits_ = 64;  // of the code; changes are worth a line
  uint64_t lines_ = 0;
};

Json item_json(const FlowItem& f) {
  const Event& e = f.event;
  if (e.kind == EventKind::gap) {
    Json j = json_gap(e);
    j["tid"] = f.tid.value();
    j["cpu"] = json_cpu(f.cpu);
    return j;
  }
  Json j{{"type", to_string(e.kind)}, {"tsc", json_time(e.time)}, {"tid", f.tid.value()}, {"cpu", json_cpu(f.cpu)}};
  if (f.number && e.kind == EventKind::block) j["number"] = *f.number;
  if (e.ip || e.kind == EventKind::block) j["ip"] = json_address(e.ip);
  if (e.kind == EventKind::block) {
    j["last_ip"] = json_address(e.last_ip);
    j["instructions"] = e.count;
    j["end"] = to_string(e.end);
  } else {
    if (e.to) j["to"] = json_address(e.to);
    if (e.count) j["value"] = e.count;
  }
  if (f.place) j["place"] = json_place(*f.place);
  if (f.instructions) {
    Json list = Json::array();
    for (const Instruction& i : *f.instructions) {
      Json one{{"ip", json_address(i.ip)}, {"text", i.text}};
      if (i.place) one["place"] = json_place(*i.place);
      list.push_back(std::move(one));
    }
    j["insns"] = std::move(list);
  }
  if (f.instructions_missing) j["insns_missing"] = true;
  return j;
}

/// Nothing was chosen and there are several: say what there is.
int list_threads(const Overview& o, const Request& request, bool asked_for_more) {
  const auto traced = std::count_if(o.threads.begin(), o.threads.end(), [](const ThreadRow& t) { return t.traced(); });
  const bool any_traced = traced > 0;
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  if (request.json) {
    for (const ThreadRow& t : o.threads)
      if (t.traced() || !any_traced)
        json_line(out, {{"type", "thread"},
                        {"tid", t.tid.value()},
                        {"pid", t.pid.value()},
                        {"comm", t.comm},
                        {"pt_bytes", t.pt_bytes},
                        {"stretches", t.stretches}});
  } else {
    Table table({">tid", ">pid", "comm", ">trace", "seen"});
    for (const ThreadRow& t : o.threads)
      if (t.traced() || !any_traced)
        table.row({std::to_string(t.tid.value()), std::to_string(t.pid.value()), printable(t.comm),
                   t.pt_bytes ? size_text(t.pt_bytes) : "-", range_phrase(o.scale, t.time)});
    table.print(out);
  }
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  const std::string fix = "choose a thread with -t TID, or a CPU with -C CPU";
  if (asked_for_more)
    return fail(
        {Errc::usage, "this bundle has " + count_text(static_cast<uint64_t>(traced), "traced thread"), {}, fix});
  say(fix);
  return kDone;
}

void stat_text(Output& out, const FlowCounts& counts, const FlowItem& first, const FlowItem& last, bool any,
               const TimeScale& scale) {
  Table table({"what", ">count", ">bytes of trace"});
  table.row({"instructions", std::to_string(counts.instructions), ""});
  table.row({"blocks", std::to_string(counts.blocks), ""});
  for (const auto& g : counts.gaps)
    table.row({"gap " + std::string(to_string(g.cause)), std::to_string(g.gaps), std::to_string(g.bytes)});
  table.print(out);
  if (any) out.line("  from " + time_phrase(scale, first.event.time) + " to " + time_phrase(scale, last.event.time));
}

/// Why an answer is empty: what there is, for the next question.
std::string nothing_words(const Overview& o, const FlowQuestion& question) {
  const std::string there = "nothing in this range; ";
  if (!question.tid) return there + "the window is " + range_phrase(o.scale, o.window);
  for (const ThreadRow& t : o.threads) {
    if (t.tid != *question.tid) continue;
    const std::string name = "thread " + std::to_string(t.tid.value()) + " ";
    return t.traced() ? there + name + "is seen in " + range_phrase(o.scale, t.time)
                      : name + "has no trace in this bundle";
  }
  return there;
}

/// Items whose lines tell what the next item need not say again: one with a place is among them.
constexpr uint64_t kItemsBefore = 4;

/// To where the last `tail` lines begin, and before it some items for the printer alone: how many.
uint64_t go_to_tail(FlowReader& reader, uint64_t tail, const std::function<Printer(Printer::Line)>& printer) {
  for (uint64_t items = tail;; items *= 4) {
    reader.seek_end();
    const bool all = reader.back(items) < items;
    Printer counter = printer([](const std::string&) {});
    std::vector<uint64_t> lines;  // before each item
    for (FlowItem f; reader.next(f); counter.item(f)) lines.push_back(counter.lines());
    if (counter.lines() < tail && !all) continue;
    uint64_t back = lines.size();
    if (counter.lines() > tail)
      back -= static_cast<uint64_t>(std::upper_bound(lines.begin(), lines.end(), counter.lines() - tail) -
                                    lines.begin() - 1);
    reader.seek_end();
    return reader.back(back + kItemsBefore) - back;
  }
}

/// To where the question begins, and before it some items for the printer alone: how many.
Result<uint64_t> go_to_start(FlowReader& reader, const Request& request, const ShowFlags& flags,
                             const std::function<Printer(Printer::Line)>& printer) {
  if (flags.at) HC_TRY_VOID(reader.seek_instruction(*flags.at));
  if (flags.tail == 0) return 0;
  if (!request.json) return go_to_tail(reader, flags.tail, printer);
  reader.seek_end();
  reader.back(flags.tail);
  return 0;
}

/// What cannot be asked together.
std::optional<Error> contradiction(const Request& request, const ShowFlags& flags) {
  if (flags.blocks + flags.insns + flags.lines + flags.stat > 1)
    return Error{Errc::usage, "--blocks, --insns, --lines and --stat exclude each other", {}, "choose one"};
  if (request.cpu && (request.tid || request.pid))
    return Error{Errc::usage, "-C shows a CPU, -t and -p a thread", {}, "choose one"};
  if (flags.at.has_value() + (flags.tail != 0) + flags.stat > 1)
    return Error{Errc::usage, "--at, --tail and --stat exclude each other", {}, "choose one"};
  if (flags.at && !request.time.empty())
    return Error{Errc::usage, "--at and --time both say where to begin", {}, "choose one"};
  if (flags.tail != 0 && request.limit != 0)
    return Error{Errc::usage, "--tail shows the last lines, --limit the first", {}, "choose one"};
  if ((flags.at || flags.numbers) && (flags.engine != "fast" || flags.resync != "earliest"))
    return Error{Errc::usage, "instructions have numbers with --engine fast and --resync earliest only", {}, {}};
  return std::nullopt;
}

int show(const Request& request, const ShowFlags& flags) {
  if (const auto error = contradiction(request, flags)) return fail(*error);
  std::optional<TimeRange> range;
  if (!request.time.empty()) {
    const auto parsed = parse_time_range(request.time);
    if (!parsed.ok()) return fail(parsed.error());
    range = *parsed;
  }
  if (request.remote()) return ask(request, "show");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const auto overview = read_overview(**query, request);
  if (!overview.ok()) return fail(overview.error());
  const Overview& o = **overview;

  FlowQuestion question;
  question.snapshot = request.snapshot;
  question.resync = flags.resync == "psb" ? Resync::psb : Resync::earliest;
  question.engine = engine_of(flags.engine);
  question.intel_syntax = flags.intel;
  question.detail = flags.stat ? Detail::events : flags.insns || flags.lines ? Detail::instructions : Detail::places;
  if (range) {
    const auto time = resolve(*range, o.scale);
    if (!time.ok()) return fail(time.error());
    question.time = *time;
  }
  if (request.cpu) {
    question.cpu = CpuId(*request.cpu);
  } else {
    const auto tid = chosen_thread(o, request);
    if (!tid.ok()) return fail(tid.error());
    if (!*tid)
      return list_threads(o, request,
                          range || flags.blocks || flags.insns || flags.lines || flags.stat || flags.at || flags.tail ||
                              flags.numbers || request.limit);
    question.tid = **tid;
  }
  if (flags.at || flags.numbers) {
    ProgressBar bar("numbering instructions");
    const auto numbered = (*query)->number_instructions(request.snapshot, bar.callback());
    if (!numbered.ok()) return fail(numbered.error());
  }
  auto reader = (*query)->flow(question);
  if (!reader.ok()) return fail(reader.error());
  const auto names = request.full_names ? Names::whole : Names::folded;
  const Output unused;
  const auto started = go_to_start(
      **reader, request, flags, [&](Printer::Line line) { return Printer(unused, std::move(line), o, flags, names); });
  if (!started.ok()) return fail(started.error());
  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;

  FlowCounts counts;
  FlowItem item, first;
  bool any = false, limited = false;
  {
    ProgressBar bar("decoding", out.terminal() && !flags.stat);
    std::optional<Printer> printer;
    std::deque<std::string> last;
    if (!request.json && !flags.stat) {
      printer.emplace(
          out,
          [&](std::string line) {
            if (flags.tail == 0) return out.line(line);
            last.push_back(std::move(line));
            if (last.size() > flags.tail) last.pop_front();
          },
          o, flags, names);
      out.line(printer->header());
    }
    for (uint64_t i = 0; i < *started && (*reader)->next(item); ++i) printer->item(item);
    uint64_t items = 0;
    while (!out.failed() && (*reader)->next(item)) {
      counts.add(item.event);
      if (!any) first = item;
      any = true;
      if (!o.window.is_unknown() && item.event.time.latest != Tsc::max() && item.event.time.latest >= o.window.earliest)
        bar.update(item.event.time.latest.value() - o.window.earliest.value(),
                   o.window.latest.value() - o.window.earliest.value());
      if (printer)
        printer->item(item);
      else if (!flags.stat)
        json_line(out, item_json(item));
      ++items;
      if (request.limit && (printer ? printer->lines() : items) >= request.limit) {
        limited = true;
        break;
      }
    }
    for (const std::string& line : last) out.line(line);
  }
  if (request.json) {
    Json j{{"type", "summary"}};
    j.update(json_counts(counts));
    j["limited"] = limited;
    j["damage"] = json_damage((*query)->damage_met());
    j["complete"] = counts.gaps.empty() && !limited;
    j["scale"] = json_scale(o.scale);
    json_line(out, j);
  } else if (flags.stat) {
    stat_text(out, counts, first, item, any, o.scale);
  }
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  if (limited) say("stopped after --limit " + std::to_string(request.limit));
  if (!any) say(nothing_words(o, question));
  say_damage(**query);
  if (!counts.gaps.empty()) say("this answer crosses " + gaps_phrase(counts) + ": what ran there is not known");
  return kDone;
}

}  // namespace

void add_show(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<ShowFlags>();
  CLI::App* sub = app.add_subcommand("show", "what a thread executed");
  add_file(*sub, request);
  add_server(*sub, request);
  add_thread_flags(*sub, request);
  sub->add_option("-C,--cpu", request.cpu, "everything this CPU ran, instead of a thread")->type_name("CPU");
  add_time(*sub, request);
  add_limit(*sub, request, "lines (JSON: objects)");
  sub->add_option("--tail", flags->tail, "only the last N lines (JSON: objects)")->option_text("N")->check(at_least(1));
  sub->add_option("--at", flags->at, "begin at the block with instruction number N, counted from 0; see --numbers")
      ->option_text("N");
  sub->add_flag("--numbers", flags->numbers,
                "show the number of each block's first instruction, or of each instruction");
  sub->add_flag("--blocks", flags->blocks, "one line per straight run of instructions (default)");
  sub->add_flag("--insns", flags->insns, "one line per instruction, disassembled");
  sub->add_flag("--lines", flags->lines, "one line per source line");
  sub->add_flag("--stat", flags->stat, "only count instructions, blocks and gaps");
  sub->add_flag("--intel", flags->intel, "Intel syntax instead of AT&T");
  sub->add_option("--resync", flags->resync,
                  "after damage go on at the earliest safe packet (default), or at the next PSB")
      ->check(CLI::IsMember({"earliest", "psb"}))
      ->option_text("earliest|psb");
  add_engine(*sub, flags->engine);
  add_answer_flags(*sub, request);
  sub->footer(
      "Times count from the window's start; \"within\" says how far the true time may lie from the one shown.\n"
      "\n"
      "Examples:\n"
      "  hindcast show hindcast.hcb                      which threads there are\n"
      "  hindcast show hindcast.hcb -t 4711 --time 12ms,12.5ms --insns\n"
      "  hindcast show hindcast.hcb -t 4711 --lines --tail 50         how it ended\n"
      "  hindcast show hindcast.hcb -t 4711 --numbers --tail 1        how many instructions it ran\n"
      "  hindcast show hindcast.hcb -t 4711 --at 1000000 --limit 20\n"
      "  hindcast show hindcast.hcb -t 4711 --stat");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return show(request, *flags); }; });
}

}  // namespace hindcast::server::cli
