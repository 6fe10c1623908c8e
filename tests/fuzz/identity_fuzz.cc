// Who threads are, from anybody: texts of /proc/PID/cgroup and /proc/PID/status, and records. Whatever they say, names end,
// each span of time says how it is known and has as many values as that needs, and no span goes backwards.
#include <cstdlib>
#include <string_view>

#include "capture/proc_identity.h"
#include "decode/identity.h"
#include "decode/sideband.h"
#include "decode/workload.h"

using namespace hindcast;
using namespace hindcast::decode;

namespace {

void check_text(std::string_view text) {
  const auto lines = parse_cgroup_text(text);
  for (const CgroupLine& l : lines) {
    if (l.path.empty() || l.path[0] != '/') abort();
    const Workload w = workload_of(l.path);
    if (!w.pod.empty() && w.pod.size() != 36 && w.pod.size() != 32) abort();
    if (w.runtime != "" && w.container.empty()) abort();
    (void)short_name(w, l.path);
  }
  if ((telling_line(lines) == nullptr) != lines.empty()) abort();
  if (capture::parse_levels(text).size() > identity::kMostLevels) abort();
}

void check_values(Sure sure, size_t values) {
  if ((sure == Sure::unknown) != (values == 0)) abort();
  if (sure == Sure::seen && values != 1) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  if (data[0] % 2 == 0) {
    check_text({reinterpret_cast<const char*>(data + 1), size - 1});
    return 0;
  }
  StreamInfo info;
  info.id = 1;
  info.sample_type = perf::kOurSampleType;
  Sideband all;
  all.add(info, {nullptr, ByteSpan(data + 1, size - 1)});
  all.finish();
  IdentityBook book;
  std::vector<Tid> tids;
  for (size_t i = 0; i < all.size(); ++i) {
    const SidebandRecord r = all.record(i);
    if (const auto* n = std::get_if<identity::ThreadNamespaces>(&r.body)) {
      tids.push_back(n->tid);
      book.add_look(*n);
    } else if (const auto* t = std::get_if<identity::CgroupText>(&r.body)) {
      book.add_text(r.stream, *t);
    } else if (const auto* c = std::get_if<identity::ThreadCgroup>(&r.body)) {
      tids.push_back(c->tid);
      book.add_look(r.stream, *c);
    } else if (const auto* f = std::get_if<TaskRecord>(&r.body)) {
      tids.push_back(f->tid);
      if (f->exit)
        book.add_exit(r.time, f->tid);
      else
        book.add_fork(r.time, f->parent_tid, f->tid);
    } else if (const auto* k = std::get_if<NamespacesRecord>(&r.body)) {
      tids.push_back(k->tid);
      book.add_namespaces(r.time, k->tid, static_cast<IdentityBook::Told>(r.pid.value() & 1), k->namespaces);
    } else if (const auto* l = std::get_if<LostRecord>(&r.body)) {
      book.add_loss(std::min(RecordTime(l->count), r.time), r.time);
    }
  }
  book.finish();
  for (const Tid tid : tids) {
    const ThreadIdentity* t = book.find(tid);
    if (!t) continue;
    RecordTime last{0};
    for (const CgroupSpan& s : t->cgroups) {
      if (s.from < last || s.to <= s.from) abort();
      last = s.to;
      check_values(s.sure, s.texts.size());
      for (const uint32_t text : s.texts)
        if (text >= book.texts()) abort();
    }
    last = RecordTime(0);
    for (const NamespaceSpan& s : t->namespaces) {
      if (s.from < last || s.to <= s.from) abort();
      last = s.to;
      for (const NamespaceSpan::One& one : s.kinds) check_values(one.sure, one.any_of.size());
    }
  }
  return 0;
}
