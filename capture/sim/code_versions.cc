#include "capture/sim/code_versions.h"

#include <algorithm>

namespace hindcast::sim {

void CodeVersions::end(const Page& page, uint64_t tsc) {
  ended_.push_back(page.version);
  ended_.back().to = tsc;
  if (ended_.size() > kMostEnded) ended_.pop_front();
}

void CodeVersions::end_all(Pages& pages, Pages::iterator from, Pages::iterator to, uint64_t tsc) {
  while (from != to) {
    end(from->second, tsc);
    from = pages.erase(from);
    --open_;
  }
}

void CodeVersions::translated(Pid pid, uint64_t ip, ByteSpan code, uint64_t tsc) {
  for (uint64_t at = 0; at < code.size();) {
    const uint64_t address = (ip + at) / kPage * kPage, offset = ip + at - address;
    const ByteSpan part = code.subspan(at, std::min<uint64_t>(kPage - offset, code.size() - at));
    at += part.size();
    Pages& pages = processes_[pid];
    auto it = pages.find(address);
    if (it == pages.end()) {
      if (open_ == kMostOpen) {
        full_ = true;
        continue;
      }
      ++open_;
      it = pages.try_emplace(address).first;
      it->second.version = {pid, address, std::vector<uint8_t>(kPage), {}, tsc, {}, kNoTid};
    }
    Page& page = it->second;
    Version& v = page.version;
    bool other = false;
    for (size_t i = 0; i < part.size() && !other; ++i) other = v.known[offset + i] && v.bytes[offset + i] != part[i];
    // The rest of the page goes on in the new version: what of it changed, too, is translated before it runs.
    if (other && page.sealed && page.sealed->tsc > v.from) {
      end(page, page.sealed->tsc);
      v.from = page.sealed->tsc;
      v.by = page.sealed->by;
    } else if (other && !(page.sealed && page.sealed->tsc == v.from)) {
      end(page, tsc);
      v.from = tsc;
      v.by = kNoTid;
    }
    for (size_t i = 0; i < part.size(); ++i) {
      v.bytes[offset + i] = part[i];
      v.known.set(offset + i);
    }
  }
}

void CodeVersions::protect(Pid pid, Tid by, uint64_t address, uint64_t length, bool executable, bool writable,
                           uint64_t tsc) {
  Pages& pages = processes_[pid];
  for (auto it = pages.lower_bound(address / kPage * kPage); it != pages.end() && it->first < address + length; ++it) {
    if (executable && !writable)
      it->second.sealed = Page::Sealed{tsc, by};
    else
      it->second.sealed.reset();
  }
}

void CodeVersions::gone(Pid pid, uint64_t address, uint64_t length, uint64_t tsc) {
  Pages& pages = processes_[pid];
  end_all(pages, pages.lower_bound(address / kPage * kPage), pages.lower_bound(address + length), tsc);
}

void CodeVersions::exec(Pid pid, uint64_t tsc) {
  const auto it = processes_.find(pid);
  if (it == processes_.end()) return;
  end_all(it->second, it->second.begin(), it->second.end(), tsc);
  processes_.erase(it);
}

std::vector<const CodeVersions::Version*> CodeVersions::open() const {
  std::vector<const Version*> out;
  for (const auto& [pid, pages] : processes_)
    for (const auto& [address, page] : pages) out.push_back(&page.version);
  return out;
}

}  // namespace hindcast::sim
