// SnapshotInfo to JSON and back; the reading half treats the text as hostile.
#include "transport/manifest.h"

#include <array>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <unordered_set>

#include "hindcast/bundle_format.h"
#include "transport/json_depth.h"
#include "transport/snapshot_rules.h"

namespace hindcast::transport {
namespace {

using Json = nlohmann::ordered_json;  // for writing: keys as we put them
using Tree = nlohmann::json;          // for reading: look-up does not grow with the number of keys

constexpr std::array<std::string_view, 6> kStreamKinds{"", "pt", "sideband", "clocks", "waits", "net"};
constexpr std::array<std::string_view, 6> kImageKinds{"", "elf", "memory", "jitdump", "perf_map", "kallsyms"};

template <size_t N>
uint8_t index_of(const std::array<std::string_view, N>& names, std::string_view name) {
  for (size_t i = 1; i < N; ++i)
    if (names[i] == name) return static_cast<uint8_t>(i);
  return 0;
}

// ---- writing ----

std::string hex_address(uint64_t v) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, v, 16).ptr;
  return "0x" + std::string(digits, end);
}

bool is_utf8(const std::string& s) {
  // nlohmann's serializer is the judge, since it is what would throw.
  try {
    (void)Json(s).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

Json text_json(const std::string& s) {
  if (is_utf8(s)) return s;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : s) {
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return Json{{"hex", hex}};
}

Json stream_json(const StreamInfo& s) {
  Json j{{"id", s.id}, {"kind", kStreamKinds[static_cast<uint8_t>(s.kind)]}};
  if (s.cpu != kNoCpu) j["cpu"] = s.cpu.value();
  if (s.tid != kNoTid) j["tid"] = s.tid.value();
  j["bytes"] = s.bytes;
  j["ring_bytes"] = s.ring_bytes;
  j["wrapped"] = s.wrapped;
  if (!s.cuts.empty()) j["cuts"] = s.cuts;
  if (s.sample_type) j["sample_type"] = s.sample_type;
  if (s.lost_bytes) j["lost_bytes"] = s.lost_bytes;
  return j;
}

Json image_json(const ImageInfo& i) {
  Json j{{"id", i.id},
         {"kind", kImageKinds[static_cast<uint8_t>(i.kind)]},
         {"build_id", text_json(i.build_id)},
         {"path", text_json(i.path)},
         {"bytes", i.bytes}};
  if (i.pid != kNoPid) j["pid"] = i.pid.value();
  return j;
}

Json placement_json(const PlacementInfo& p) {
  Json j{{"image", p.image}};
  if (p.pid != kNoPid) j["pid"] = p.pid.value();
  j["address"] = hex_address(p.address);
  j["length"] = p.length;
  j["image_offset"] = p.image_offset;
  if (p.from != RecordTime{}) j["from"] = p.from.value();
  if (p.to != RecordTime::max()) j["to"] = p.to.value();
  if (p.by != kNoTid) j["by"] = p.by.value();
  return j;
}

Json unknown_code_json(const UnknownCode& u) {
  Json j{{"pid", u.pid.value()}, {"address", hex_address(u.address)}, {"length", u.length}};
  if (u.from != RecordTime{}) j["from"] = u.from.value();
  if (u.to != RecordTime::max()) j["to"] = u.to.value();
  return j;
}

// ---- reading: every accessor names the key that is wrong; caught in parse_manifest ----

struct Bad : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T>
T number_of(const Tree& j, const char* key) {
  if (!j.is_number_integer()) throw Bad(std::string(key) + " is not a whole number");
  if (j.is_number_unsigned()) {
    const auto v = j.get<uint64_t>();
    if (v > static_cast<uint64_t>(std::numeric_limits<T>::max())) throw Bad(std::string(key) + " is too large");
    return static_cast<T>(v);
  }
  const auto v = j.get<int64_t>();  // negative, since nlohmann reads others as unsigned
  if (std::is_unsigned_v<T> || v < static_cast<int64_t>(std::numeric_limits<T>::min()))
    throw Bad(std::string(key) + " is negative or too small");
  return static_cast<T>(v);
}

template <class T>
void read_number(const Tree& j, const char* key, T& out) {
  const auto it = j.find(key);
  if (it != j.end()) out = number_of<T>(*it, key);
}

template <class Tag, class Rep>
void read_number(const Tree& j, const char* key, Number<Tag, Rep>& out) {
  Rep v = out.value();
  read_number(j, key, v);
  out = Number<Tag, Rep>(v);
}

void read_bool(const Tree& j, const char* key, bool& out) {
  const auto it = j.find(key);
  if (it == j.end()) return;
  if (!it->is_boolean()) throw Bad(std::string(key) + " is neither true nor false");
  out = it->get<bool>();
}

uint8_t nibble(char c) {
  if (c >= '0' && c <= '9') return static_cast<uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<uint8_t>(c - 'a' + 10);
  throw Bad("a hex text with another digit");
}

std::string text_of(const Tree& j, const char* key) {
  if (j.is_string()) return j.get<std::string>();
  if (!j.is_object() || !j.contains("hex") || !j["hex"].is_string()) throw Bad(std::string(key) + " is not a text");
  const auto& hex = j["hex"].get_ref<const std::string&>();
  if (hex.size() % 2) throw Bad(std::string(key) + " has half a byte");
  std::string s;
  for (size_t i = 0; i < hex.size(); i += 2) s += static_cast<char>(nibble(hex[i]) << 4 | nibble(hex[i + 1]));
  return s;
}

void read_text(const Tree& j, const char* key, std::string& out) {
  const auto it = j.find(key);
  if (it != j.end()) out = text_of(*it, key);
}

void read_address(const Tree& j, const char* key, uint64_t& out) {
  const auto it = j.find(key);
  if (it == j.end()) return;
  const std::string s = it->is_string() ? it->get<std::string>() : "";
  const auto [end, ec] = std::from_chars(s.data() + std::min<size_t>(2, s.size()), s.data() + s.size(), out, 16);
  if (!s.starts_with("0x") || ec != std::errc{} || end != s.data() + s.size())
    throw Bad(std::string(key) + " is not an address like \"0x401000\"");
}

/// The array under key, of objects when `objects`; an empty one when the key is missing.
const Tree& array_of(const Tree& j, const char* key, size_t limit, bool objects) {
  static const Tree none = Tree::array();
  const auto it = j.find(key);
  if (it == j.end()) return none;
  if (!it->is_array()) throw Bad(std::string(key) + " is not an array");
  if (it->size() > limit) throw Bad(std::string(key) + " has more than " + std::to_string(limit) + " elements");
  if (objects)
    for (const Tree& e : *it)
      if (!e.is_object()) throw Bad(std::string(key) + " holds something that is not an object");
  return *it;
}

const Tree& object_of(const Tree& j, const char* key) {
  static const Tree none = Tree::object();
  const auto it = j.find(key);
  if (it == j.end()) return none;
  if (!it->is_object()) throw Bad(std::string(key) + " is not an object");
  return *it;
}

std::string required_text(const Tree& j, const char* key, const char* where) {
  if (!j.contains(key)) throw Bad(std::string(where) + " without " + key);
  return text_of(j[key], key);
}

void required(const Tree& j, const char* key, const char* where) {
  if (!j.contains(key)) throw Bad(std::string(where) + " without " + key);
}

void read_streams(const Tree& j, ParsedManifest& out) {
  for (const Tree& e : array_of(j, "streams", bundle::kMaxStreams, true)) {
    StreamInfo s;
    required(e, "id", "a stream");
    read_number(e, "id", s.id);
    const uint8_t kind = index_of(kStreamKinds, required_text(e, "kind", "a stream"));
    if (kind == 0) {
      out.left_out.push_back(s.id);
      continue;
    }
    s.kind = static_cast<StreamKind>(kind);
    read_number(e, "cpu", s.cpu);
    read_number(e, "tid", s.tid);
    read_number(e, "bytes", s.bytes);
    read_number(e, "ring_bytes", s.ring_bytes);
    read_bool(e, "wrapped", s.wrapped);
    for (const Tree& cut : array_of(e, "cuts", bundle::kMaxCuts, false))
      s.cuts.push_back(number_of<uint64_t>(cut, "cuts"));
    read_number(e, "sample_type", s.sample_type);
    read_number(e, "lost_bytes", s.lost_bytes);
    out.info.streams.push_back(std::move(s));
  }
}

void read_images(const Tree& j, ParsedManifest& parsed) {
  SnapshotInfo& out = parsed.info;
  for (const Tree& e : array_of(j, "images", bundle::kMaxImages, true)) {
    ImageInfo i;
    required(e, "id", "an image");
    read_number(e, "id", i.id);
    const uint8_t kind = index_of(kImageKinds, required_text(e, "kind", "an image"));
    if (kind == 0) {
      parsed.left_out_images.push_back(i.id);
      continue;
    }
    i.kind = static_cast<ImageKind>(kind);
    read_text(e, "build_id", i.build_id);
    read_text(e, "path", i.path);
    read_number(e, "bytes", i.bytes);
    read_number(e, "pid", i.pid);
    out.images.push_back(std::move(i));
  }
  const std::unordered_set<uint32_t> left_out(parsed.left_out_images.begin(), parsed.left_out_images.end());
  for (const Tree& e : array_of(j, "placements", bundle::kMaxPlacements, true)) {
    PlacementInfo p;
    required(e, "image", "a placement");
    read_number(e, "image", p.image);
    read_number(e, "pid", p.pid);
    read_address(e, "address", p.address);
    read_number(e, "length", p.length);
    read_number(e, "image_offset", p.image_offset);
    read_number(e, "from", p.from);
    read_number(e, "to", p.to);
    read_number(e, "by", p.by);
    if (!left_out.contains(p.image)) out.placements.push_back(p);
  }
  for (const Tree& e : array_of(j, "unknown_code", bundle::kMaxUnknownCode, true)) {
    UnknownCode u;
    read_number(e, "pid", u.pid);
    read_address(e, "address", u.address);
    read_number(e, "length", u.length);
    read_number(e, "from", u.from);
    read_number(e, "to", u.to);
    out.unknown_code.push_back(u);
  }
}

void read_pt(const Tree& j, PtOptions& o) {
  read_bool(j, "pt", o.pt);
  read_bool(j, "branch", o.branch);
  read_bool(j, "tsc", o.tsc);
  read_bool(j, "mtc", o.mtc);
  read_number(j, "mtc_period", o.mtc_period);
  read_bool(j, "cyc", o.cyc);
  read_number(j, "cyc_thresh", o.cyc_thresh);
  read_number(j, "psb_period", o.psb_period);
  read_bool(j, "noretcomp", o.noretcomp);
  read_bool(j, "ptw", o.ptw);
  read_bool(j, "fup_on_ptw", o.fup_on_ptw);
  read_bool(j, "pwr_evt", o.pwr_evt);
  read_bool(j, "event", o.event);
  read_bool(j, "notnt", o.notnt);
}

void read_cpu(const Tree& j, PtCpu& c) {
  read_bool(j, "intel", c.intel);
  read_number(j, "family", c.family);
  read_number(j, "model", c.model);
  read_number(j, "stepping", c.stepping);
  read_number(j, "tsc_ctc_num", c.tsc_ctc_num);
  read_number(j, "tsc_ctc_den", c.tsc_ctc_den);
  read_number(j, "ctc_hz", c.ctc_hz);
  read_number(j, "nominal_ratio", c.nominal_ratio);
}

void read_clock(const Tree& j, TscConversion& c) {
  read_bool(j, "known", c.known);
  read_number(j, "shift", c.shift);
  read_number(j, "mult", c.mult);
  read_number(j, "zero", c.zero);
  read_number(j, "error_ticks", c.error_ticks);
}

Error bad_manifest(Errc code, const std::string& why, const std::string& found = {}) {
  return Error{code, "cannot read the bundle's manifest: " + why, found,
               "write the bundle again with this version of hindcast"};
}

}  // namespace

std::string manifest_text(const SnapshotInfo& info) {
  Json head{{"manifest_version", bundle::kManifestVersion},
            {"host", text_json(info.host)},
            {"source", text_json(info.source)},
            {"incident", text_json(info.incident)},
            {"command", text_json(info.command)},
            {"created_unix_ns", info.created_unix_ns}};
  if (info.traced.earliest != Tsc::min()) head["traced_from_tsc"] = info.traced.earliest.value();
  if (info.traced.latest != Tsc::max()) head["traced_to_tsc"] = info.traced.latest.value();
  const PtOptions& o = info.pt;
  head["pt"] = Json{{"pt", o.pt},
                    {"branch", o.branch},
                    {"tsc", o.tsc},
                    {"mtc", o.mtc},
                    {"mtc_period", o.mtc_period},
                    {"cyc", o.cyc},
                    {"cyc_thresh", o.cyc_thresh},
                    {"psb_period", o.psb_period},
                    {"noretcomp", o.noretcomp},
                    {"ptw", o.ptw},
                    {"fup_on_ptw", o.fup_on_ptw},
                    {"pwr_evt", o.pwr_evt},
                    {"event", o.event},
                    {"notnt", o.notnt}};
  const PtCpu& c = info.cpu;
  head["cpu"] = Json{{"intel", c.intel},
                     {"family", c.family},
                     {"model", c.model},
                     {"stepping", c.stepping},
                     {"tsc_ctc_num", c.tsc_ctc_num},
                     {"tsc_ctc_den", c.tsc_ctc_den},
                     {"ctc_hz", c.ctc_hz},
                     {"nominal_ratio", c.nominal_ratio}};
  const TscConversion& t = info.clock;
  head["clock"] =
      Json{{"known", t.known}, {"shift", t.shift}, {"mult", t.mult}, {"zero", t.zero}, {"error_ticks", t.error_ticks}};
  head["record_clock"] = text_json(info.record_clock);
  head["user_only"] = info.user_only;
  Json pids = Json::array();
  for (const Pid pid : info.root_pids) pids.push_back(pid.value());
  head["root_pids"] = std::move(pids);

  std::string out = "{\n";
  for (const auto& [key, value] : head.items()) out += Json(key).dump() + ": " + value.dump() + ",\n";
  const auto list = [&out](const char* key, const auto& values, auto to_json, bool last = false) {
    out += "\"" + std::string(key) + "\": [";
    bool first = true;
    for (const auto& v : values) {
      out += (first ? "\n  " : ",\n  ") + to_json(v).dump();
      first = false;
    }
    out += last ? "]\n}\n" : "],\n";
  };
  list("streams", info.streams, stream_json);
  list("images", info.images, image_json);
  list("placements", info.placements, placement_json);
  if (!info.unknown_code.empty()) list("unknown_code", info.unknown_code, unknown_code_json);
  list("notes", info.notes, text_json, true);
  return out;
}

Result<ParsedManifest> parse_manifest(std::string_view text) {
  if (text.size() > bundle::kMaxManifestBytes)
    return bad_manifest(Errc::too_large, "it is too long",
                        std::to_string(text.size()) + " bytes; at most " + std::to_string(bundle::kMaxManifestBytes));
  if (nested_deeper_than(text, bundle::kMaxManifestDepth))
    return bad_manifest(Errc::bad_input, "it is nested too deep");
  const Tree j = Tree::parse(text, nullptr, /*allow_exceptions=*/false);
  if (j.is_discarded() || !j.is_object()) return bad_manifest(Errc::bad_input, "it is not a JSON object");
  try {
    uint64_t version = 0;
    required(j, "manifest_version", "a manifest");
    read_number(j, "manifest_version", version);
    if (version == 0 || version > bundle::kManifestVersion)
      return Error{Errc::version, "cannot read the bundle's manifest: it is of another version",
                   "version " + std::to_string(version) + "; this program knows 1 to " +
                       std::to_string(bundle::kManifestVersion),
                   "use the version of hindcast that wrote the bundle, or a newer one"};
    ParsedManifest out;
    SnapshotInfo& info = out.info;
    read_text(j, "host", info.host);
    read_text(j, "source", info.source);
    read_text(j, "incident", info.incident);
    read_text(j, "command", info.command);
    read_number(j, "created_unix_ns", info.created_unix_ns);
    read_number(j, "traced_from_tsc", info.traced.earliest);
    read_number(j, "traced_to_tsc", info.traced.latest);
    if (info.traced.earliest > info.traced.latest) throw Bad("tracing ends before it begins");
    read_pt(object_of(j, "pt"), info.pt);
    read_cpu(object_of(j, "cpu"), info.cpu);
    read_clock(object_of(j, "clock"), info.clock);
    read_text(j, "record_clock", info.record_clock);
    read_bool(j, "user_only", info.user_only);
    for (const Tree& e : array_of(j, "root_pids", bundle::kMaxRootPids, false))
      info.root_pids.push_back(Pid(number_of<int32_t>(e, "root_pids")));
    read_streams(j, out);
    read_images(j, out);
    for (const Tree& e : array_of(j, "notes", bundle::kMaxNotes, false)) info.notes.push_back(text_of(e, "a note"));
    const auto broken = broken_rules(info);
    if (!broken.empty()) return bad_manifest(Errc::bad_input, "it contradicts itself", joined(broken));
    const auto say_left_out = [&info](const std::vector<uint32_t>& ids, const std::string& what) {
      for (const uint32_t id : ids)
        if (info.notes.size() < bundle::kMaxNotes)
          info.notes.push_back(what + std::to_string(id) +
                               " is of a kind that this version does not know; it was left out");
    };
    say_left_out(out.left_out, "stream ");
    say_left_out(out.left_out_images, "image ");
    return out;
  } catch (const Bad& e) {
    return bad_manifest(Errc::bad_input, e.what());
  }
}

}  // namespace hindcast::transport
