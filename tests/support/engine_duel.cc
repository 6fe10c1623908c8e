#include "tests/support/engine_duel.h"

#include <cinttypes>
#include <cstdio>

#include "decode/stretch_events.h"
#include "tests/support/packet_mutation.h"
#include "tests/support/ran_events.h"
#include "tests/support/tiny_host.h"

namespace hindcast::test {
namespace {

using namespace decode;

constexpr size_t kMostCode = 1024;  // bytes of a section that are printed

class Selector final : public ImageSelector {
 public:
  explicit Selector(const Duel& duel) : images_(duel.images) {}
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override {
    return images_[(offset * 0x9e3779b97f4a7c15u >> 32) % images_.size()];
  }

 private:
  const std::vector<std::shared_ptr<const CodeImage>>& images_;
};

std::string malformation(const Event& e, const TscInterval& last, size_t bytes) {
  if (e.time.earliest < last.earliest || e.time.latest < last.latest) return "bounds of time decrease";
  if (e.time.earliest > e.time.latest) return "the interval of time is empty";
  if (e.offset > bytes) return "the offset lies behind the stream";
  if (e.kind == EventKind::block && (e.count == 0 || e.last_ip < e.ip)) return "the block is empty";
  if (e.kind == EventKind::gap && e.cause == GapCause::none) return "the gap has no cause";
  return {};
}

/// One engine's events with their stretches.
class Cursor final : public FlowCursor {
 public:
  Cursor(const PtTrace& trace, std::unique_ptr<FlowDecoder> decoder, std::string& malformed)
      : trace_(trace), decoder_(std::move(decoder)), malformed_(malformed) {}

  size_t next(std::span<FlowEvent> out) override {
    const size_t n = decoder_->next(std::span(batch_).first(std::min(out.size(), batch_.size())));
    for (size_t i = 0; i < n; ++i) {
      const Event& e = batch_[i];
      if (malformed_.empty()) {
        malformed_ = malformation(e, last_, trace_.bytes.size());
        if (!malformed_.empty()) malformed_ += ": " + text_of(e) + " at " + std::to_string(e.offset);
      }
      last_ = e.time;
      const auto& all = trace_.map.stretches;
      size_t s = trace_.stretch_at(e.offset);
      if (s < all.size() && e.offset > all[s].end) s = all.size();
      if (s > 0 && s < all.size() && all[s - 1].end == e.offset && !begins_stretch(e)) --s;
      out[i].event = e;
      out[i].stretch = s < all.size() ? static_cast<uint32_t>(s) : kNoStretch;
    }
    return n;
  }

 private:
  const PtTrace& trace_;
  std::unique_ptr<FlowDecoder> decoder_;
  std::string& malformed_;
  std::array<Event, 64> batch_;
  TscInterval last_{Tsc::min(), Tsc::min()};
};

/// A decoded stream lives as long as its cursors.
struct Scanned {
  PtTrace trace;
  Selector selector;

  explicit Scanned(const Duel& d)
      : trace(PtTrace::scan(d.bytes, PtTimeConfig::from(d.config.cpu, d.config.options), d.cuts, d.holes)),
        selector(d) {}

  std::unique_ptr<FlowCursor> cursor(const Duel& d, Engine engine, DuelWorld& world, std::string& malformed) {
    auto libipt = [&] { return make_libipt_decoder(trace, d.config, selector, world.code).value(); };
    return std::make_unique<Cursor>(
        trace, engine == Engine::fast ? fast(d, world, world.counts) : std::unique_ptr<FlowDecoder>(libipt()),
        malformed);
  }

  std::unique_ptr<FastDecoder> fast(const Duel& d, DuelWorld& world, EngineCounts& counts) {
    return make_fast_decoder(trace, d.config, selector, world.code, world.graphs, counts).value();
  }

  /// Whether what the fast engine tells in few words is the same as its events. Empty, or what is not. Not of streams that
  /// libipt has a part in: whether it tells the block in front of an error depends on how often it has seen its code.
  std::string check_ran(const Duel& d, DuelWorld& world) {
    EngineCounts ignored;
    const std::vector<Event> ran = events_of_ran(*fast(d, world, ignored));
    if (ignored.libipt != 0) return {};
    std::vector<Event> events(ran.size() + 1);
    size_t n = 0;
    const auto decoder = fast(d, world, ignored);
    while (const size_t more = decoder->next(std::span(events).subspan(n))) n += more;
    events.resize(n);
    const auto at = first_difference(ran, events);
    if (!at) return {};
    const auto text = [&](const std::vector<Event>& all) {
      if (*at >= all.size()) return std::string("nothing");
      const TscInterval& time = all[*at].time;
      return text_of(all[*at]) + " in [" + std::to_string(time.earliest.value()) + ", " +
             std::to_string(time.latest.value()) + "]";
    };
    return "event " + std::to_string(*at) + " is " + text(events) + ", in few words " + text(ran);
  }
};

std::string line(const char* format, auto... values) {
  char text[200];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string text_with_place(const FlowEvent& f) {
  const Event& e = f.event;
  return line("%3d %5" PRIu64 "  ", f.stretch == kNoStretch ? -1 : static_cast<int>(f.stretch), e.offset) + text_of(e) +
         (e.kind == EventKind::gap ? line(" %u bytes", e.count) : "") +
         line(" to %" PRIx64 " time %" PRIx64 "..%" PRIx64 "\n", e.to, e.time.earliest.value(), e.time.latest.value());
}

}  // namespace

DuelResult fight(const Duel& duel, DuelWorld& world, const std::function<void(const Event&)>& told) {
  DuelResult r;
  Scanned s(duel);
  std::string of_fast, of_libipt;
  r.compared = compare_flows(s.cursor(duel, Engine::fast, world, of_fast),
                             s.cursor(duel, Engine::libipt, world, of_libipt), told);
  if (of_fast.empty()) of_fast = s.check_ran(duel, world);
  if (!of_fast.empty()) r.malformed = "fast: " + of_fast;
  if (!of_libipt.empty()) r.malformed += " libipt: " + of_libipt;
  return r;
}

std::vector<FlowEvent> events_of(const Duel& duel, Engine engine, DuelWorld& world) {
  Scanned scanned(duel);
  std::string ignored;
  return all_events(*scanned.cursor(duel, engine, world, ignored));
}

std::string report(const Duel& duel, const DuelResult& result, DuelWorld& world) {
  std::string s = result.malformed.empty() ? "" : result.malformed + "\n";
  if (const auto& d = result.compared.first) {
    const auto side = [](const char* who, const std::optional<Event>& e) {
      return std::string(who) + ": " + (e ? text_of(*e) : "nothing more") + "\n";
    };
    s += "stretch " + std::to_string(d->stretch) + ", offset " + std::to_string(d->offset) + "\n" +
         side("before", d->before) + side("fast", d->fast) + side("libipt", d->libipt);
  }
  const DecodeConfig& c = duel.config;
  s += line("cpu %d family %u model %u, tsc/ctc %u/%u, mtc_period %u, noretcomp %d, resync %s, %zu images, cuts",
            c.cpu.intel, c.cpu.family, c.cpu.model, c.cpu.tsc_ctc_num, c.cpu.tsc_ctc_den, c.options.mtc_period,
            c.options.noretcomp, c.resync == Resync::psb ? "psb" : "earliest", duel.images.size());
  for (const uint64_t cut : duel.cuts) s += " " + std::to_string(cut);
  s += ", holes";
  for (const uint64_t hole : duel.holes) s += " " + std::to_string(hole);
  s += "\n";
  for (const Stretch& st : Scanned(duel).trace.map.stretches)
    s += line("stretch %" PRIu64 "..%" PRIu64 " sync %" PRIu64 " ip %" PRIx64 " start %d end %d bits %d %s\n", st.begin,
              st.end, st.sync, st.begin_ip, static_cast<int>(st.start), static_cast<int>(st.how), st.bits,
              st.plain ? "plain" : "not plain");
  for (const Engine engine : {Engine::fast, Engine::libipt}) {
    s += engine == Engine::fast ? "fast:\n" : "libipt:\n";
    for (const FlowEvent& e : events_of(duel, engine, world)) s += text_with_place(e);
  }
  s += std::to_string(duel.bytes.size()) + " bytes, a packet a line:\n";
  uint64_t at = 0;
  for (const auto& packet : packets_of(duel.bytes)) {
    s += line("%5" PRIu64 " ", at);
    for (const uint8_t b : packet) s += line(" %02x", b);
    s += "\n";
    at += packet.size();
  }
  for (const auto& image : duel.images) {
    if (!image) continue;
    for (const CodeSection& section : image->sections()) {
      if (section.size > kMostCode) continue;
      std::vector<uint8_t> code(section.size);
      code.resize(image->read(section.address, code));
      s += line("code at %" PRIx64 ":", section.address.value());
      for (const uint8_t b : code) s += line(" %02x", b);
      s += "\n";
    }
  }
  return s;
}

Duel smallest(Duel duel) {
  DuelWorld world;
  const auto still_bad = [&](const Packets& packets) {
    Duel smaller = duel;
    smaller.bytes = joined(packets);
    return fight(smaller, world).bad();
  };
  Packets packets = packets_of(duel.bytes);
  for (size_t many = packets.size() / 2; many > 0; many /= 2) {
    for (size_t i = packets.size(); i > 0 && packets.size() > many;) {
      const size_t n = std::min(many, i);
      i -= n;
      Packets fewer = packets;
      fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i), fewer.begin() + static_cast<ptrdiff_t>(i + n));
      if (still_bad(fewer)) packets = std::move(fewer);
    }
  }
  if (still_bad(packets)) duel.bytes = joined(packets);
  return duel;
}

}  // namespace hindcast::test
