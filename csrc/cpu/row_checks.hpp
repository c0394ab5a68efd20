// Passes over single rows that need no preparation.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "cpu/kernels.hpp"

namespace fastgen::cpu {

struct BadRows {
  std::int64_t not_finite = -1, too_large = -1;  // first of each, -1: none
};

BadRows first_bad_rows(const RowView& rows, std::int64_t start, std::int64_t stop, double limit,
                       const Kernels& kernels, int threads = 1);

// out [n, d] from bfloat16 at data[i * row_stride + j * column_stride] (strides in elements).
void widen_bfloat16(const std::uint16_t* data, std::int64_t n, std::int64_t d,
                    std::int64_t row_stride, std::int64_t column_stride, float* out);

// out[p] = canonical squared distance of x[i[p]] and y[j[p]].
void pair_sq_distances(const RowView& x, const RowView& y, const std::int64_t* i,
                       const std::int64_t* j, std::int64_t count, const Kernels& kernels,
                       int threads, double* out);

}  // namespace fastgen::cpu
