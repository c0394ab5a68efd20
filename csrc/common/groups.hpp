// Identical rows, found by hash and then compared, so that every distinct row is joined once and
// counted with its multiplicity. A collapsed generator is the normal case, not the exception.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace fastgen {

struct Groups {
  std::vector<std::int32_t> first;     // [groups] smallest row of each group, ascending
  std::vector<std::int32_t> copies;    // [groups] rows in each group
  std::vector<std::int32_t> group_of;  // [n] group of every row; empty when all rows are distinct
  std::vector<std::int64_t> start;     // [groups + 1] into `members`; empty when all are distinct
  std::vector<std::int32_t> members;   // rows by group, ascending within a group

  std::int64_t size() const { return static_cast<std::int64_t>(first.size()); }
  bool distinct() const { return group_of.empty(); }
};

// A row, and an earlier one that it may be equal to.
struct Suspect {
  std::int32_t leader, row;
};

// Every row whose hash an earlier row has, with the first such row; ascending by row.
std::vector<Suspect> equal_hashes(const std::vector<std::uint64_t>& hashes);

// Sets same[i] to whether the two rows of suspects[i] are equal.
using SameRows = std::function<void(const std::vector<Suspect>& suspects, std::vector<char>& same)>;

// Groups of `n` rows, from those whose hashes agree (as equal_hashes gives them). `same` is asked
// once, and once more for every further row value that shares another one's hash.
Groups group_identical(std::int64_t n, std::vector<Suspect> suspects, const SameRows& same);

}  // namespace fastgen
