// Whose address space a value of CR3 is: told by threads that surely ran under it, and used where nobody is sure to have run.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "decode/stretches.h"
#include "hindcast/units.h"

namespace hindcast::decode {

class Cr3Owners {
 public:
  /// owner(k): whose stretch k surely is, of those that have an address space of their own; else kNoPid.
  void learn(const StretchMap& map, const std::function<Pid(size_t)>& owner);
  /// For each stretch the process under whose CR3 it begins; kNoPid where that is not known, or of several processes.
  std::vector<Pid> of(const StretchMap& map) const;

 private:
  std::unordered_map<uint64_t, Pid> owners_;  // kNoPid: of several
};

}  // namespace hindcast::decode
