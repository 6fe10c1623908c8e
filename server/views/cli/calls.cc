// hindcast calls: a thread's call tree with times.
#include <CLI/CLI.hpp>
#include <unordered_map>

#include "server/views/cli/cli.h"
#include "server/views/cli/json.h"
#include "server/views/cli/output.h"
#include "server/views/cli/progress.h"
#include "server/views/cli/remote.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

struct CallFlags {
  std::optional<int32_t> depth;
  std::string engine = "fast";
};

/// Function name without its offset: a call enters at its first instruction.
std::string name_of(const CallItem& c, Names names) {
  if (!c.function) return "(entered before the recording)";
  return place_text(*c.function, names);
}

std::string marks(const CallItem& c) {
  std::string s;
  const auto add = [&](const char* word) { s += (s.empty() ? "" : ", ") + std::string(word); };
  if (c.signal) add("signal handler");
  if (c.uncertain) add("uncertain: a gap lies inside");
  if (c.unwound) add("unwound");
  if (c.open) add("had not returned");
  return s.empty() ? s : "[" + s + "]";
}

class TreePrinter {
 public:
  TreePrinter(Output& out, const TimeScale& scale, Names names) : out_(out), scale_(scale), names_(names) {
    out_.line(out_.paint(Colour::dim, pad_left("time (" + time_unit(scale) + ")", 14) + " " + pad_right("within", 9) +
                                          "  " + pad_left("took", 16) + "  " + pad_left("insns", 10) + "  function"));
  }

  /// An enter is held back until it is known whether its exit follows at once: such a call takes one line.
  void item(const CallItem& c) {
    if (c.kind == CallItem::Kind::gap) {
      flush();
      row(c.time, "", "", indent(c.depth) + out_.paint(Colour::red, gap_text(scale_, c.gap)));
      return;
    }
    if (c.kind == CallItem::Kind::enter) {
      flush();
      held_ = c;
      return;
    }
    const std::string took = held_for(c.number, c.time);
    const std::string insns = (c.uncertain ? ">= " : "") + std::to_string(c.instructions);
    if (held_ && held_->number == c.number) {
      const CallItem enter = *held_;
      held_.reset();
      CallItem both = c;
      row(enter.time, took, insns, indent(c.depth) + call_text(enter, "", marks(both)));
      return;
    }
    flush();
    row(c.time, took, insns, indent(c.depth) + out_.paint(Colour::dim, "} ") + name(c) + suffix(marks(c)));
  }
  void flush() {
    if (!held_) return;
    const CallItem enter = *held_;
    held_.reset();
    started_[enter.number] = enter.time;
    row(enter.time, "", "", indent(enter.depth) + call_text(enter, " {", marks(enter)));
  }
  uint64_t lines() const { return lines_; }

 private:
  static std::string indent(int32_t depth) {
    // Depths below the capture's start are negative: they stand at the margin, their number says the rest.
    constexpr int32_t kDeepest = 40;
    return std::string(static_cast<size_t>(std::clamp(depth, 0, kDeepest)) * 2, ' ') +
           (depth > kDeepest ? "(" + std::to_string(depth) + ") " : "");
  }
  static std::string suffix(const std::string& s) { return s.empty() ? "" : "  " + s; }
  std::string name(const CallItem& c) const { return out_.paint(Colour::cyan, name_of(c, names_)); }
  std::string call_text(const CallItem& enter, const std::string& brace, const std::string& marked) const {
    const std::string at = enter.from ? lines_text(*enter.from, names_) : "";
    return name(enter) + brace + (at.empty() ? "" : out_.paint(Colour::dim, "  from " + at)) + suffix(marked);
  }
  std::string held_for(uint64_t number, const TscInterval& exit) {
    if (held_ && held_->number == number) return duration_text(scale_, held_->time, exit);
    const auto it = started_.find(number);
    if (it == started_.end()) return "?";
    const std::string s = duration_text(scale_, it->second, exit);
    started_.erase(it);
    return s;
  }
  void row(const TscInterval& time, const std::string& took, const std::string& insns, const std::string& text) {
    const TimeText t = time_text(scale_, time);
    out_.line(pad_left(t.at, 14) + " " + pad_right(t.width, 9) + "  " + pad_left(took, 16) + "  " +
              pad_left(insns, 10) + "  " + text);
    ++lines_;
  }

  Output& out_;
  const TimeScale& scale_;
  const Names names_;
  std::optional<CallItem> held_;
  std::unordered_map<uint64_t, TscInterval> started_;  // open frames that were printed
  uint64_t lines_ = 0;
};

Json call_json(const CallItem& c) {
  if (c.kind == CallItem::Kind::gap) return json_gap(c.gap);
  const bool enter = c.kind == CallItem::Kind::enter;
  Json j{{"type", enter ? "enter" : "exit"},
         {"call", c.number},
         {"depth", c.depth},
         {"tsc", json_time(c.time)},
         {"cpu", json_cpu(c.cpu)},
         {"function", c.function ? json_place(*c.function) : Json()}};
  if (c.from) j["from"] = json_place(*c.from);
  if (!enter) j["instructions"] = c.instructions;
  for (const auto& [name, set] : {std::pair{"signal", c.signal},
                                  {"uncertain", c.uncertain},
                                  {"unwound", c.unwound},
                                  {"below_start", c.below_start},
                                  {"open", c.open}})
    if (set) j[name] = true;
  return j;
}

int calls(const Request& request, const CallFlags& flags) {
  std::optional<TimeRange> range;
  if (!request.time.empty()) {
    const auto parsed = parse_time_range(request.time);
    if (!parsed.ok()) return fail(parsed.error());
    range = *parsed;
  }
  if (request.remote()) return ask(request, "calls");
  auto query = open(request);
  if (!query.ok()) return fail(query.error());
  const auto overview = read_overview(**query, request);
  if (!overview.ok()) return fail(overview.error());
  const Overview& o = **overview;
  const auto tid = chosen_thread(o, request);
  if (!tid.ok()) return fail(tid.error());
  if (!*tid)
    return fail({Errc::usage,
                 "which thread? This bundle has several",
                 {},
                 "list them with  hindcast ls " + request.file + "  and choose one with -t TID"});
  CallQuestion question;
  question.snapshot = request.snapshot;
  question.tid = **tid;
  question.engine = engine_of(flags.engine);
  if (range) {
    const auto time = resolve(*range, o.scale);
    if (!time.ok()) return fail(time.error());
    question.time = *time;
  }
  auto reader = (*query)->calls(question);
  if (!reader.ok()) return fail(reader.error());

  auto opened = open_output(request);
  if (!opened.ok()) return fail(opened.error());
  Output& out = *opened;
  FlowCounts gaps;
  uint64_t entered = 0, uncertain = 0, items = 0;
  bool limited = false;
  {
    ProgressBar bar("decoding", out.terminal());
    std::optional<TreePrinter> printer;
    if (!request.json) printer.emplace(out, o.scale, request.full_names ? Names::whole : Names::folded);
    CallItem item;
    while (!out.failed() && (*reader)->next(item)) {
      if (item.kind == CallItem::Kind::gap) gaps.add(item.gap);
      if (item.kind == CallItem::Kind::enter) ++entered;
      if (item.kind == CallItem::Kind::exit && item.uncertain) ++uncertain;
      if (!o.window.is_unknown() && item.time.latest != Tsc::max() && item.time.latest >= o.window.earliest)
        bar.update(item.time.latest.value() - o.window.earliest.value(),
                   o.window.latest.value() - o.window.earliest.value());
      if (flags.depth && item.kind != CallItem::Kind::gap && item.depth >= *flags.depth) continue;
      if (printer)
        printer->item(item);
      else
        json_line(out, call_json(item));
      ++items;
      if (request.limit && (printer ? printer->lines() : items) >= request.limit) {
        limited = true;
        break;
      }
    }
    if (printer && !limited) printer->flush();
  }
  if (request.json) {
    Json j{{"type", "summary"}, {"calls", entered}, {"uncertain", uncertain}, {"limited", limited}};
    j["gaps"] = json_counts(gaps)["gaps"];
    j["damage"] = json_damage((*query)->damage_met());
    j["complete"] = gaps.gaps.empty() && !limited;
    j["scale"] = json_scale(o.scale);
    json_line(out, j);
  }
  const auto done = out.finish();
  if (!done.ok()) return fail(done.error());
  if (limited) say("stopped after --limit " + std::to_string(request.limit));
  if (items == 0) say("no call or return in this range");
  say_damage(**query);
  if (!gaps.gaps.empty())
    say("this answer crosses " + gaps_phrase(gaps) + ": calls there are not known, and " +
        count_text(uncertain, "frame") + " around them uncertain");
  return kDone;
}

}  // namespace

void add_calls(CLI::App& app, Request& request, Command& chosen) {
  auto flags = std::make_shared<CallFlags>();
  CLI::App* sub = app.add_subcommand("calls", "a thread's call tree with times");
  add_file(*sub, request);
  add_server(*sub, request);
  add_thread_flags(*sub, request);
  add_time(*sub, request);
  sub->add_option("--depth", flags->depth, "only the N outermost levels")->option_text("N")->check(at_least(1));
  add_limit(*sub, request, "lines (JSON: objects)");
  add_engine(*sub, flags->engine);
  add_answer_flags(*sub, request);
  sub->footer(
      "\"took\" is an interval from the shortest to the longest time that the trace allows. With --time, depth 0 is "
      "where\n"
      "the range begins.\n"
      "\n"
      "Examples:\n"
      "  hindcast calls hindcast.hcb -t 4711 --depth 3\n"
      "  hindcast calls hindcast.hcb -t 4711 --time 12ms,13ms");
  sub->callback([&request, &chosen, flags] { chosen = [&request, flags] { return calls(request, *flags); }; });
}

}  // namespace hindcast::server::cli
