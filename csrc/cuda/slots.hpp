// Rows of a slot, on the host.
#pragma once

#include <cstdint>

#include "cuda/prepared.hpp"

namespace fastgen::cuda {

// Calls member(row) for every row of a group, ascending.
template <class Member>
void each_row(const Groups& groups, std::int32_t group, Member&& member) {
  if (groups.distinct()) {
    member(static_cast<std::int64_t>(groups.first[group]));
  } else {
    for (std::int64_t i = groups.start[group]; i < groups.start[group + 1]; ++i) {
      member(static_cast<std::int64_t>(groups.members[i]));
    }
  }
}

// Calls function(slot, group) for every slot that is not padding.
template <class Function>
void each_slot(const Prepared& set, Function&& function) {
  const std::vector<std::int32_t>& groups = set.group_of_slot();
  for (std::int64_t slot = 0; slot < set.slots(); ++slot) {
    if (groups[slot] >= 0) function(slot, groups[slot]);
  }
}

}  // namespace fastgen::cuda
