#include "decode/identity.h"

#include <algorithm>
#include <optional>

namespace hindcast::decode {
namespace {

/// What one moment told of a value: it was so from `first` to `last`.
struct Evidence {
  RecordTime first, last;
  uint32_t value;
  bool change = false;             // it became so at `first`
  bool earlier_forgotten = false;  // what was told before is missing
};

struct Part {
  RecordTime from, to;
  Sure sure = Sure::unknown;
  std::vector<uint32_t> values;
};

std::vector<uint32_t> with(std::vector<uint32_t> values, uint32_t one) {
  if (std::find(values.begin(), values.end(), one) == values.end()) values.push_back(one);
  return values;
}

/// The parts of one value's history in one life, told from its begin on.
class History {
 public:
  History(RecordTime begin, RecordTime end) : at_(begin), last_(begin), end_(end) {}

  void inherit(const Part& parent) {
    if (parent.values.empty()) return;
    now_ = parent.values;
    sure_ = parent.sure == Sure::seen ? Sure::inherited : parent.sure;
  }

  /// loss: when changes may have been missed first, since they are told at all; never: max().
  void add(const Evidence& e, RecordTime loss) {
    if (e.earlier_forgotten || now_.empty()) {
      tell(last_, now_, sure_);
      tell(e.first, {}, Sure::unknown);
    } else if (now_.size() == 1 && now_[0] == e.value) {
      tell(e.first, now_, Sure::seen);
    } else if (e.change && loss >= e.first) {
      tell(e.first, now_, sure_);
    } else {
      tell(std::max(last_, e.change ? loss : last_), now_, sure_);
      tell(e.first, with(now_, e.value), Sure::either);
    }
    now_ = {e.value};
    sure_ = Sure::seen;
    last_ = std::max(e.first, e.last);
    tell(last_, now_, sure_);
  }

  /// told: changes are told as they happen, unless one was missed at `loss`.
  std::vector<Part> finish(bool told, RecordTime loss) {
    if (told) tell(std::min(loss, end_), now_, sure_);
    tell(end_, now_, now_.empty() ? Sure::unknown : sure_ == Sure::seen ? Sure::unchecked : sure_);
    return std::move(parts_);
  }

  RecordTime last() const { return last_; }

 private:
  void tell(RecordTime to, const std::vector<uint32_t>& values, Sure sure) {
    to = std::min(to, end_);
    if (to <= at_) return;
    if (!parts_.empty() && parts_.back().sure == sure && parts_.back().values == values)
      parts_.back().to = to;
    else
      parts_.push_back({at_, to, sure, values});
    at_ = to;
  }

  RecordTime at_;    // all before is told
  RecordTime last_;  // now_ was so until then
  RecordTime end_;
  std::vector<uint32_t> now_;
  Sure sure_ = Sure::unknown;
  std::vector<Part> parts_;
};

/// The part that a moment lies in.
const Part* part_at(const std::vector<Part>& parts, RecordTime t) {
  const auto after =
      std::upper_bound(parts.begin(), parts.end(), t, [](RecordTime time, const Part& p) { return time < p.from; });
  if (after == parts.begin()) return nullptr;
  const Part& p = *(after - 1);
  return t <= p.to ? &p : nullptr;
}

}  // namespace

/// One thread that had an id.
struct IdentityBook::Life {
  Tid tid;
  RecordTime begin{0}, end = RecordTime::max();
  std::optional<Tid> parent;
  std::vector<CgroupLook> cgroups;
  std::vector<identity::ThreadNamespaces> looks;
  std::vector<Change> changes;
  std::vector<Part> cgroup_parts;
  std::array<std::vector<Part>, identity::kNamespaceKinds> namespace_parts;
};

/// finish(), step by step.
struct IdentityBook::Work {
  Work(IdentityBook& b, const std::set<Pid>& r) : book(b), recorded(r) {}

  IdentityBook& book;
  const std::set<Pid>& recorded;
  std::map<Tid, std::vector<Life>> lives;
  std::vector<identity::Namespace> namespaces;
  std::map<identity::Namespace, uint32_t> namespace_numbers;

  uint32_t number(const identity::Namespace& n) {
    const auto [it, added] = namespace_numbers.try_emplace(n, static_cast<uint32_t>(namespaces.size()));
    if (added) namespaces.push_back(n);
    return it->second;
  }

  static Life& life_at(std::vector<Life>& all, RecordTime t) {
    auto after =
        std::upper_bound(all.begin(), all.end(), t, [](RecordTime time, const Life& l) { return time < l.begin; });
    return after == all.begin() ? *after : *(after - 1);
  }

  void make_lives(Tid tid, Events& e) {
    const auto earlier = [](const auto& a, const auto& b) { return a.time < b.time; };
    std::stable_sort(e.forks.begin(), e.forks.end(), earlier);
    std::stable_sort(e.changes.begin(), e.changes.end(), earlier);
    std::sort(e.exits.begin(), e.exits.end());
    std::stable_sort(e.cgroups.begin(), e.cgroups.end(),
                     [](const CgroupLook& a, const CgroupLook& b) { return a.first_from < b.first_from; });
    std::stable_sort(e.looks.begin(), e.looks.end(), [](const auto& a, const auto& b) { return a.from < b.from; });
    std::vector<Life>& all = lives[tid];
    all.emplace_back().tid = tid;  // before any fork that we know of
    for (const Fork& f : e.forks) {
      all.back().end = std::min(all.back().end, f.time);
      Life& life = all.emplace_back();
      life.tid = tid;
      life.begin = f.time;
      life.parent = f.parent;
    }
    for (const RecordTime t : e.exits) {
      Life& life = life_at(all, t);
      life.end = std::min(life.end, t);
    }
    for (const CgroupLook& look : e.cgroups) life_at(all, look.first_to).cgroups.push_back(look);
    for (identity::ThreadNamespaces& look : e.looks) life_at(all, look.to).looks.push_back(std::move(look));
    for (const Change& c : e.changes) life_at(all, c.time).changes.push_back(c);
  }

  void merge_losses() {
    auto& losses = book.losses_;
    std::sort(losses.begin(), losses.end());
    size_t n = 0;
    for (const auto& loss : losses) {
      if (n && loss.first <= losses[n - 1].second)
        losses[n - 1].second = std::max(losses[n - 1].second, loss.second);
      else
        losses[n++] = loss;
    }
    losses.resize(n);
  }

  /// The first moment from `from` on at which records may be missing.
  RecordTime loss_after(RecordTime from) const {
    const auto it = std::lower_bound(book.losses_.begin(), book.losses_.end(), from,
                                     [](const auto& loss, RecordTime t) { return loss.second < t; });
    return it == book.losses_.end() ? RecordTime::max() : std::max(it->first, from);
  }

  /// A change of its namespaces would have left a record.
  bool is_recorded(const Life& life) const {
    if (!life.changes.empty()) return true;
    if (!any_change) return false;
    return recorded.empty() || (!life.looks.empty() && recorded.count(life.looks.front().pid) != 0);
  }

  const Life* parent_of(const Life& life) {
    if (!life.parent) return nullptr;
    const auto it = lives.find(*life.parent);
    if (it == lives.end()) return nullptr;
    const Life& parent = life_at(it->second, life.begin);
    return parent.begin < life.begin ? &parent : nullptr;  // else it is not told yet, or is its own parent
  }

  void tell_cgroups(Life& life, const Life* parent) {
    History history(life.begin, life.end);
    if (const Part* p = parent ? part_at(parent->cgroup_parts, life.begin) : nullptr) history.inherit(*p);
    for (const CgroupLook& look : life.cgroups)
      history.add({look.first_to, look.last_from, look.text, false, look.earlier_forgotten}, RecordTime::max());
    life.cgroup_parts = history.finish(false, RecordTime::max());
  }

  void tell_namespace(Life& life, const Life* parent, size_t kind) {
    std::vector<Evidence> all;
    for (const Change& c : life.changes) {
      const RecordTime from = c.told == Told::at_birth ? life.begin : c.time;
      if (c.namespaces[kind].known())
        all.push_back({from, c.time, number(c.namespaces[kind]), c.told != Told::as_state, false});
    }
    for (const identity::ThreadNamespaces& look : life.looks)
      if (look.namespaces[kind].known())
        all.push_back({look.to, look.from, number(look.namespaces[kind]), false,
                       (look.flags & identity::kEarlierForgotten) != 0});
    std::stable_sort(all.begin(), all.end(), [](const Evidence& a, const Evidence& b) { return a.first < b.first; });
    const bool told = kind < identity::kKernelNamespaces && is_recorded(life);
    History history(life.begin, life.end);
    if (const Part* p = parent ? part_at(parent->namespace_parts[kind], life.begin) : nullptr) history.inherit(*p);
    for (const Evidence& e : all) history.add(e, loss_after(history.last()));
    life.namespace_parts[kind] = history.finish(told, loss_after(history.last()));
  }

  void run() {
    merge_losses();
    for (auto& [tid, events] : book.events_) {
      any_change |= !events.changes.empty();
      make_lives(tid, events);
    }
    std::vector<Life*> by_begin;
    for (auto& [tid, all] : lives)
      for (Life& life : all) by_begin.push_back(&life);
    std::stable_sort(by_begin.begin(), by_begin.end(),
                     [](const Life* a, const Life* b) { return a->begin < b->begin; });
    for (Life* life : by_begin) {
      const Life* parent = parent_of(*life);
      tell_cgroups(*life, parent);
      for (size_t kind = 0; kind < identity::kNamespaceKinds; ++kind) tell_namespace(*life, parent, kind);
    }
    for (auto& [tid, all] : lives) {
      ThreadIdentity& out = book.threads_[tid];
      for (Life& life : all) put(life, out);
    }
  }

  void put(Life& life, ThreadIdentity& out) {
    for (Part& p : life.cgroup_parts)
      if (p.sure != Sure::unknown || life.parent || life.cgroup_parts.size() > 1)
        out.cgroups.push_back({p.from, p.to, p.sure, std::move(p.values)});
    // All kinds' parts, cut where any of them changes.
    std::vector<RecordTime> cuts;
    for (const auto& parts : life.namespace_parts)
      for (const Part& p : parts) {
        cuts.push_back(p.from);
        cuts.push_back(p.to);
      }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      NamespaceSpan span{cuts[i], cuts[i + 1], {}};
      bool any = false;
      for (size_t kind = 0; kind < span.kinds.size(); ++kind) {
        const Part* p = part_at(life.namespace_parts[kind], cuts[i]);
        if (!p) continue;
        span.kinds[kind].sure = p->sure;
        any |= p->sure != Sure::unknown;
        for (const uint32_t v : p->values) span.kinds[kind].any_of.push_back(namespaces[v]);
      }
      if (any) out.namespaces.push_back(std::move(span));
    }
    for (identity::ThreadNamespaces& look : life.looks) {
      if (look.levels.empty()) continue;
      out.levels.push_back({life.begin, life.end, std::move(look.levels)});
      break;
    }
  }

  bool any_change = false;  // NAMESPACES records are written at all
};

void IdentityBook::add_text(uint32_t stream, const identity::CgroupText& text) {
  const auto [it, added] = text_numbers_.try_emplace(std::string(text.text), static_cast<uint32_t>(texts_.size()));
  if (added) texts_.emplace_back(text.text);
  text_ids_[{stream, text.id}] = it->second;
}

void IdentityBook::add_look(uint32_t stream, const identity::ThreadCgroup& look) {
  const auto text = text_ids_.find({stream, look.text});
  if (text == text_ids_.end()) return;
  events_[look.tid].cgroups.push_back(
      {look.first_from, look.first_to, look.last_from, text->second, (look.flags & identity::kEarlierForgotten) != 0});
}

void IdentityBook::add_look(identity::ThreadNamespaces look) {
  const Tid tid = look.tid;
  events_[tid].looks.push_back(std::move(look));
}

void IdentityBook::add_namespaces(RecordTime time, Tid tid, Told told, const identity::Namespaces& namespaces) {
  events_[tid].changes.push_back({time, told, namespaces});
}

void IdentityBook::add_fork(RecordTime time, Tid parent, Tid child) { events_[child].forks.push_back({time, parent}); }

void IdentityBook::add_exit(RecordTime time, Tid tid) { events_[tid].exits.push_back(time); }

void IdentityBook::add_loss(RecordTime from, RecordTime to) { losses_.emplace_back(from, to); }

void IdentityBook::finish(const std::set<Pid>& recorded) {
  Work(*this, recorded).run();
  events_.clear();
}

const ThreadIdentity* IdentityBook::find(Tid tid) const {
  const auto it = threads_.find(tid);
  return it == threads_.end() ? nullptr : &it->second;
}

}  // namespace hindcast::decode
