#include "server/views/cli/who.h"

#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "server/views/cli/table.h"
#include "server/views/cli/words.h"

namespace hindcast::server::cli {
namespace {

bool path_matches(const std::string& pattern, const std::string& path) {
  if (pattern.find_first_of("*?[") == std::string::npos) return path.find(pattern) != std::string::npos;
  return ::fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
}

/// A uid with or without its dashes, or the begin of one.
bool pod_matches(std::string wanted, std::string pod) {
  std::erase(wanted, '-');
  std::erase(pod, '-');
  return !pod.empty() && pod.starts_with(wanted);
}

bool is_meant(const CgroupName& name, const Request& request) {
  const auto in_any = [&](const std::string& pattern) {
    return std::any_of(name.all.begin(), name.all.end(),
                       [&](const auto& line) { return path_matches(pattern, line.second); });
  };
  return (request.cgroup.empty() || in_any(request.cgroup)) &&
         (request.container.empty() || name.container.starts_with(request.container)) &&
         (request.pod.empty() || pod_matches(request.pod, name.pod));
}

bool any_given(const Request& request) {
  return !request.cgroup.empty() || !request.container.empty() || !request.pod.empty();
}

/// All names of one thread, each once, in order of time.
std::vector<const CgroupName*> names_of(const ThreadRow& thread) {
  std::vector<const CgroupName*> out;
  for (const CgroupRow& row : thread.cgroups)
    for (const auto& name : row.any_of)
      if (std::find(out.begin(), out.end(), name.get()) == out.end()) out.push_back(name.get());
  return out;
}

}  // namespace

void add_who_flags(CLI::App& sub, Request& request) {
  const auto not_empty = [](const std::string& s) {
    return s.empty() ? std::string("it is empty, which would mean everybody") : std::string();
  };
  sub.add_option(
         "--cgroup", request.cgroup,
         "threads that are, or may have been, in a cgroup whose path has this in it; with * ? [ it means the whole "
         "path")
      ->option_text("PATTERN")
      ->check(not_empty);
  sub.add_option("--container", request.container, "the same, in the container whose id or name begins so")
      ->option_text("ID")
      ->check(not_empty);
  sub.add_option("--pod", request.pod, "the same, in the Kubernetes pod whose uid begins so")
      ->option_text("UID")
      ->check(not_empty);
}

bool is_meant(const ThreadRow& thread, const Request& request) {
  if (!any_given(request)) return true;
  const auto names = names_of(thread);
  return std::any_of(names.begin(), names.end(), [&](const CgroupName* n) { return is_meant(*n, request); });
}

std::string who_text(const Request& request) {
  std::string s;
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) s += (s.empty() ? "" : " ") + std::string(option) + " " + printable(value);
  };
  add("--cgroup", request.cgroup);
  add("--container", request.container);
  add("--pod", request.pod);
  return s;
}

Result<void> somebody_is_meant(const Overview& o, const Request& request) {
  if (std::any_of(o.threads.begin(), o.threads.end(), [&](const ThreadRow& t) { return is_meant(t, request); }))
    return {};
  // What there is, of the kind that was asked for: those with trace first.
  std::vector<std::string> there;
  const auto collect = [&](bool traced) {
    for (const ThreadRow& t : o.threads) {
      if (t.traced() != traced) continue;
      for (const CgroupName* n : names_of(t)) {
        const std::string s = !request.pod.empty() ? n->pod : !request.container.empty() ? n->container : n->path;
        if (!s.empty() && std::find(there.begin(), there.end(), s) == there.end()) there.push_back(s);
      }
    }
  };
  collect(true);
  collect(false);
  const std::string kind = !request.pod.empty() ? "pods" : !request.container.empty() ? "containers" : "cgroups";
  constexpr size_t kShown = 8;
  std::string list;
  for (size_t i = 0; i < there.size() && i < kShown; ++i) list += (list.empty() ? "" : ", ") + printable(there[i]);
  if (there.size() > kShown) list += " ... (" + std::to_string(there.size()) + " in all)";
  return Error{Errc::not_found, "no thread of " + printable(request.file) + " is in " + who_text(request),
               there.empty() ? "no " + kind + " are known in it" : kind + " " + list,
               "see who is where:  hindcast ls -v " + printable(request.file)};
}

std::string where_text(const ThreadRow& thread) {
  std::string s;
  for (const CgroupName* n : names_of(thread))
    if (!n->name.empty()) s += (s.empty() ? "" : " -> ") + printable(n->name);
  return s.empty() || s == "/" ? "-" : s;
}

Json json_cgroups(const ThreadRow& thread) {
  Json rows = Json::array();
  for (const CgroupRow& row : thread.cgroups) {
    Json any_of = Json::array();
    for (const auto& n : row.any_of) {
      Json all = Json::object();
      for (const auto& [controllers, path] : n->all) all[controllers] = path;
      const auto or_null = [](const std::string& s) { return s.empty() ? Json() : Json(s); };
      any_of.push_back({{"path", n->path},
                        {"controllers", n->controllers},
                        {"hierarchies", std::move(all)},
                        {"runtime", or_null(n->runtime)},
                        {"container", or_null(n->container)},
                        {"pod", or_null(n->pod)},
                        {"qos", or_null(n->qos)},
                        {"unit", or_null(n->unit)},
                        {"slice", or_null(n->slice)}});
    }
    rows.push_back({{"tsc", json_time(row.time)},
                    {"known", identity::kSureNames[static_cast<size_t>(row.sure)]},
                    {"any_of", std::move(any_of)}});
  }
  return rows;
}

Json json_namespaces(const ThreadRow& thread) {
  Json rows = Json::array();
  for (const NamespacesRow& row : thread.namespaces) {
    Json j{{"tsc", json_time(row.time)}};
    for (size_t i = 0; i < row.kinds.size(); ++i) {
      Json any_of = Json::array();
      for (const identity::Namespace& n : row.kinds[i].any_of)
        any_of.push_back({{"device", n.device}, {"inode", n.inode}});
      j[std::string(identity::kNamespaceNames[i])] = {
          {"known", identity::kSureNames[static_cast<size_t>(row.kinds[i].sure)]}, {"any_of", std::move(any_of)}};
    }
    rows.push_back(std::move(j));
  }
  return rows;
}

Json json_ids(const ThreadRow& thread) {
  Json ids = Json::array();
  for (const identity::Ids& i : thread.ids) ids.push_back({{"pid", i.pid}, {"tid", i.tid}});
  return ids;
}

void print_identities(Output& out, const Overview& o, const std::function<bool(const ThreadRow&)>& shown) {
  Table cgroups({">tid", "cgroup", "known", "when"}), namespaces({">tid", "inside", "namespaces", "when"});
  for (const ThreadRow& t : o.threads) {
    if (!shown(t)) continue;
    const std::string tid = std::to_string(t.tid.value());
    for (const CgroupRow& row : t.cgroups) {
      std::string text;
      for (const auto& n : row.any_of)
        text +=
            (text.empty() ? "" : " or ") + printable((n->controllers.empty() ? "" : n->controllers + ":") + n->path);
      cgroups.row({tid, text.empty() ? "-" : text, std::string(identity::kSureNames[static_cast<size_t>(row.sure)]),
                   range_phrase(o.scale, row.time)});
    }
    std::string inside;
    for (size_t i = 1; i < t.ids.size(); ++i)
      inside += (i == 1 ? "" : " ") + std::to_string(t.ids[i].pid) + "/" + std::to_string(t.ids[i].tid);
    for (const NamespacesRow& row : t.namespaces) {
      std::string text;
      for (size_t i = 0; i < row.kinds.size(); ++i) {
        std::string one;
        for (const identity::Namespace& n : row.kinds[i].any_of)
          one += (one.empty() ? "" : "|") + std::to_string(n.inode);
        if (!one.empty()) text += (text.empty() ? "" : " ") + std::string(identity::kNamespaceNames[i]) + ":" + one;
        if (row.kinds[i].sure != identity::Sure::seen && !one.empty())
          text += "(" + std::string(identity::kSureNames[static_cast<size_t>(row.kinds[i].sure)]) + ")";
      }
      namespaces.row({tid, inside.empty() ? "-" : inside, text, range_phrase(o.scale, row.time)});
    }
  }
  if (cgroups.rows()) {
    heading(out, "CGROUPS", cgroups.rows());
    cgroups.print(out);
  }
  if (namespaces.rows()) {
    heading(out, "NAMESPACES", namespaces.rows());
    namespaces.print(out);
  }
}

}  // namespace hindcast::server::cli
