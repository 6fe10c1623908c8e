#include "decode/workload.h"

#include <algorithm>
#include <charconv>

namespace hindcast::decode {
namespace {

constexpr size_t kMostLines = 64;
constexpr size_t kMostParts = 128;
constexpr size_t kIdHex = 64;       // what runtimes make
constexpr size_t kLeastIdHex = 12;  // with a runtime's name before it
constexpr size_t kShown = 12;

bool is_hex(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_id(std::string_view s, size_t least) { return s.size() >= least && s.size() <= kIdHex && is_hex(s); }

/// "1f2e3d4c-...", with '_' for '-' in systemd's names; a static pod's uid is 32 hex digits. Empty: neither.
std::string pod_uid(std::string_view s) {
  if (s.size() == 32 && is_hex(s)) return std::string(s);
  if (s.size() != 36) return {};
  std::string uid(s);
  for (size_t i = 0; i < uid.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash && uid[i] == '_') uid[i] = '-';
    if (dash ? uid[i] != '-' : !is_hex({&uid[i], 1})) return {};
  }
  return uid;
}

int hex_value(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/// systemd's unit names write unusual characters as \x2d.
std::string unescaped(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '\\' && s.size() - i >= 4 && s[i + 1] == 'x' && hex_value(s[i + 2]) >= 0 && hex_value(s[i + 3]) >= 0) {
      out += static_cast<char>(hex_value(s[i + 2]) * 16 + hex_value(s[i + 3]));
      i += 3;
    } else {
      out += s[i];
    }
  }
  return out;
}

bool take_prefix(std::string_view& s, std::string_view prefix) {
  if (!s.starts_with(prefix)) return false;
  s.remove_prefix(prefix.size());
  return true;
}

bool take_suffix(std::string_view& s, std::string_view suffix) {
  if (!s.ends_with(suffix) || s.size() == suffix.size()) return false;
  s.remove_suffix(suffix.size());
  return true;
}

std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> out;
  while (!path.empty() && out.size() < kMostParts) {
    const size_t end = std::min(path.find('/'), path.size());
    if (end > 0) out.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return out;
}

struct Form {
  std::string_view prefix, runtime;
};
/// "PREFIX<id>", as a .scope or as it is.
constexpr Form kForms[] = {{"docker-", "docker"},      {"cri-containerd-", "containerd"},
                           {"nerdctl-", "containerd"}, {"containerd-", "containerd"},
                           {"crio-", "cri-o"},         {"libpod-", "podman"}};

/// One name after the other, from the root inwards.
class PathReader {
 public:
  void take(std::string_view part, std::string_view before) {
    if (pod(part) || container(part, before)) return;
    // What a container does inside of itself, and what a runtime puts there ("container", "init.scope"), tells nothing more.
    if (!out_.container.empty()) return;
    if (part.ends_with(".slice")) {
      out_.slice = unescaped(part);
    } else if (part.ends_with(".service") || part.ends_with(".scope")) {
      out_.unit = unescaped(part);
    }
  }
  Workload finish() { return std::move(out_); }

 private:
  /// kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice, kubepods/burstable/pod<uid>; kubelets may be
  /// told to put a name of their own before it.
  bool pod(std::string_view part) {
    std::string_view name = part;
    // containerd with the wrong driver: "kubepods-burstable-pod<uid>.slice:cri-containerd:<id>"
    const size_t colon = name.find(':');
    if (colon != name.npos) {
      const std::string_view rest = name.substr(colon + 1);
      const size_t second = rest.find(':');
      if (second == rest.npos || !pod(name.substr(0, colon))) return false;
      const std::string_view id = rest.substr(second + 1);
      if (is_id(id, kLeastIdHex)) set(rest.substr(0, second) == "crio" ? "cri-o" : "containerd", id);
      return true;
    }
    take_suffix(name, ".slice");
    const size_t at = name.rfind("kubepods");
    if (at != name.npos && (at == 0 || name[at - 1] == '-')) {
      in_kubepods_ = true;
      out_.pod.clear();
      out_.qos = "guaranteed";
      name.remove_prefix(at + 8);
      take_prefix(name, "-");
    } else if (!in_kubepods_) {
      return false;
    }
    for (const std::string_view qos : {"burstable", "besteffort"}) {
      if (!take_prefix(name, qos)) continue;
      out_.qos = qos;
      take_prefix(name, "-");
    }
    if (!take_prefix(name, "pod")) return name.empty();
    const std::string uid = pod_uid(name);
    if (uid.empty()) return false;
    out_.pod = uid;
    out_.container.clear();  // of an outer one, in which a whole cluster's node runs
    out_.runtime.clear();
    return true;
  }

  bool container(std::string_view part, std::string_view before) {
    std::string_view name = part;
    const bool scope = take_suffix(name, ".scope");
    for (const Form& form : kForms) {
      std::string_view id = name;
      if (!take_prefix(id, form.prefix) || !is_id(id, kLeastIdHex)) continue;
      set(form.runtime, id);
      return true;
    }
    if (!scope && is_id(part, kIdHex)) {
      set(before == "docker" ? "docker" : before == "libpod_parent" ? "podman" : in_kubepods_ ? "" : "?", part);
      return true;
    }
    return lxc(part, before) || machine(part);
  }

  bool lxc(std::string_view part, std::string_view before) {
    std::string_view name = part;
    const bool named = take_prefix(name, "lxc.payload.");
    if (!named && before != "lxc" && before != "lxc.payload") return false;
    if (name.empty() || (!named && before == "lxc" && name.starts_with("lxc."))) return false;
    set("lxc", name);
    return true;
  }

  /// systemd-nspawn@NAME.service, and what machined knows: machine-NAME.scope.
  bool machine(std::string_view part) {
    std::string_view name = part;
    if (take_prefix(name, "systemd-nspawn@") && take_suffix(name, ".service")) {
      set("nspawn", unescaped(name));
      return true;
    }
    name = part;
    if (!take_prefix(name, "machine-") || !take_suffix(name, ".scope")) return false;
    const std::string plain = unescaped(name);
    set(plain.starts_with("qemu-") ? "qemu" : "nspawn", plain);
    return true;
  }

  void set(std::string_view runtime, std::string_view id) {
    out_.runtime = runtime;
    out_.container = id;
  }

  Workload out_;
  bool in_kubepods_ = false;
};

}  // namespace

std::vector<CgroupLine> parse_cgroup_text(std::string_view text) {
  std::vector<CgroupLine> out;
  while (!text.empty() && out.size() < kMostLines) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t first = line.find(':');
    if (first == line.npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == line.npos) continue;
    CgroupLine l;
    const auto [stop, error] = std::from_chars(line.data(), line.data() + first, l.hierarchy);
    if (error != std::errc() || stop != line.data() + first) continue;
    l.controllers = line.substr(first + 1, second - first - 1);
    l.path = line.substr(second + 1);
    if (l.path.starts_with('/')) out.push_back(l);
  }
  return out;
}

Workload workload_of(std::string_view path) {
  PathReader reader;
  std::string_view before;
  for (const std::string_view part : parts_of(path)) {
    reader.take(part, before);
    before = part;
  }
  return reader.finish();
}

const CgroupLine* telling_line(const std::vector<CgroupLine>& lines) {
  const auto rank = [](const CgroupLine& l) {
    return l.hierarchy == 0 && l.controllers.empty() ? 0 : l.controllers == "name=systemd" ? 1 : 2;
  };
  const auto tells = [](const CgroupLine& l) {
    const Workload w = workload_of(l.path);
    return !w.container.empty() || !w.pod.empty() ? 3 : !w.unit.empty() ? 2 : l.path != "/" ? 1 : 0;
  };
  const CgroupLine* best = nullptr;
  int told = 0, ranked = 0;
  for (const CgroupLine& l : lines) {
    const int t = tells(l), r = rank(l);
    if (best && (t < told || (t == told && r >= ranked))) continue;
    best = &l;
    told = t;
    ranked = r;
  }
  return best;
}

std::string short_name(const Workload& w, std::string_view path) {
  std::string s;
  if (!w.pod.empty()) s = "pod " + w.pod.substr(0, 8);
  if (!w.container.empty()) {
    const bool id = is_id(w.container, kLeastIdHex);
    s += (s.empty() ? "" : " / ") + ("container " + (id ? w.container.substr(0, kShown) : w.container));
    if (w.pod.empty() && !w.runtime.empty() && w.runtime != "?") s += " (" + w.runtime + ")";
  }
  if (!s.empty()) return s;
  return w.unit.empty() ? std::string(path) : w.unit;
}

}  // namespace hindcast::decode
