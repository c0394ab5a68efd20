// Identical rows, found by hash and then compared, so that every distinct row is joined once and
// counted with its multiplicity. A collapsed generator is the normal case, not the exception.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rows.hpp"
#include "cpu/kernels.hpp"

namespace fastgen::cpu {

struct Groups {
  std::vector<std::int32_t> first;     // [groups] smallest row of each group, ascending
  std::vector<std::int32_t> copies;    // [groups] rows in each group
  std::vector<std::int32_t> group_of;  // [n] group of every row; empty when all rows are distinct
  std::vector<std::int64_t> start;     // [groups + 1] into `members`; empty when all are distinct
  std::vector<std::int32_t> members;   // rows by group, ascending within a group

  std::int64_t size() const { return static_cast<std::int64_t>(first.size()); }
  bool distinct() const { return group_of.empty(); }
};

// `hashes` are those of Kernels::hash_row, one per row.
Groups group_identical(const RowView& rows, const Kernels& kernels,
                       const std::vector<std::uint64_t>& hashes);

}  // namespace fastgen::cpu
