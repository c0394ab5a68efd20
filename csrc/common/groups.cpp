#include "common/groups.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace fastgen {

namespace {

// representative[i]: the smallest row equal to row i. Empty when all rows are distinct.
std::vector<std::int32_t> find_representatives(std::int64_t n, std::vector<Suspect> suspects,
                                               const SameRows& same_rows) {
  std::vector<std::int32_t> representative;
  std::vector<char> same;
  std::vector<Suspect> next;
  while (!suspects.empty()) {
    same.assign(suspects.size(), 0);
    same_rows(suspects, same);
    // Rows that share a hash and differ: the first one left leads the others in the next round.
    std::unordered_map<std::int32_t, std::int32_t> next_leader;
    next.clear();
    for (std::size_t i = 0; i < suspects.size(); ++i) {
      const Suspect& suspect = suspects[i];
      if (same[i]) {
        if (representative.empty()) {
          representative.resize(static_cast<std::size_t>(n));
          std::iota(representative.begin(), representative.end(), 0);
        }
        representative[static_cast<std::size_t>(suspect.row)] = suspect.leader;
        continue;
      }
      const auto [leader, is_new] = next_leader.emplace(suspect.leader, suspect.row);
      if (!is_new) next.push_back({leader->second, suspect.row});
    }
    std::swap(suspects, next);
  }
  return representative;
}

}  // namespace

std::vector<Suspect> equal_hashes(const std::vector<std::uint64_t>& hashes) {
  const std::int32_t n = static_cast<std::int32_t>(hashes.size());
  std::vector<std::pair<std::uint64_t, std::int32_t>> order(hashes.size());
  for (std::int32_t row = 0; row < n; ++row) {
    order[static_cast<std::size_t>(row)] = {hashes[static_cast<std::size_t>(row)], row};
  }
  std::sort(order.begin(), order.end());
  std::vector<Suspect> suspects;
  for (std::size_t begin = 0, i = 1; i < order.size(); ++i) {
    if (order[i].first == order[begin].first) {
      suspects.push_back({order[begin].second, order[i].second});
    } else {
      begin = i;
    }
  }
  std::sort(suspects.begin(), suspects.end(),
            [](const Suspect& a, const Suspect& b) { return a.row < b.row; });
  return suspects;
}

Groups group_identical(std::int64_t n, std::vector<Suspect> suspects, const SameRows& same) {
  const std::vector<std::int32_t> representative =
      find_representatives(n, std::move(suspects), same);
  Groups groups;
  if (representative.empty()) {
    groups.first.resize(static_cast<std::size_t>(n));
    std::iota(groups.first.begin(), groups.first.end(), 0);
    groups.copies.assign(static_cast<std::size_t>(n), 1);
    return groups;
  }
  groups.group_of.resize(static_cast<std::size_t>(n));
  for (std::int32_t row = 0; row < n; ++row) {
    const std::int32_t leader = representative[row];
    if (leader == row) {
      groups.group_of[row] = static_cast<std::int32_t>(groups.size());
      groups.first.push_back(row);
      groups.copies.push_back(1);
    } else {
      // The leader is smaller, so its group is known.
      const std::int32_t group = groups.group_of[leader];
      groups.group_of[row] = group;
      ++groups.copies[group];
    }
  }
  groups.start.assign(1, 0);
  for (const std::int32_t count : groups.copies)
    groups.start.push_back(groups.start.back() + count);
  groups.members.resize(n);
  std::vector<std::int64_t> next(groups.start.begin(), groups.start.end() - 1);
  for (std::int32_t row = 0; row < n; ++row) {
    const std::int32_t group = groups.group_of[row];
    groups.members[static_cast<std::size_t>(next[group]++)] = row;
  }
  return groups;
}

}  // namespace fastgen
