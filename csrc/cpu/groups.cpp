#include "cpu/groups.hpp"

#include <algorithm>
#include <numeric>

namespace fastgen::cpu {

Groups group_identical(const RowView& rows, const Kernels& kernels,
                       const std::vector<std::uint64_t>& hashes) {
  const std::int64_t n = rows.n;
  std::vector<std::pair<std::uint64_t, std::int32_t>> order(n);
  for (std::int32_t row = 0; row < n; ++row) order[row] = {hashes[row], row};
  std::sort(order.begin(), order.end());

  // representative[i]: the smallest row equal to row i.
  std::vector<std::int32_t> representative(n);
  std::iota(representative.begin(), representative.end(), 0);
  bool distinct = true;
  std::vector<std::int32_t> leaders;  // distinct rows within one run of equal hashes
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    const std::uint64_t hash = order[begin].first;
    while (end < order.size() && order[end].first == hash) ++end;
    leaders.assign(1, order[begin].second);
    for (std::size_t i = begin + 1; i < end; ++i) {
      const std::int32_t row = order[i].second;
      const auto same = std::find_if(leaders.begin(), leaders.end(), [&](std::int32_t leader) {
        return kernels.equal_rows(rows.row(leader), rows.row(row), rows.dtype, rows.d);
      });
      if (same == leaders.end()) {
        leaders.push_back(row);
      } else {
        representative[row] = *same;
        distinct = false;
      }
    }
    begin = end;
  }

  Groups groups;
  if (distinct) {
    groups.first = std::move(representative);
    groups.copies.assign(n, 1);
    return groups;
  }
  groups.group_of.resize(n);
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

}  // namespace fastgen::cpu
