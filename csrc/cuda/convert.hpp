// Kernels that turn a matrix of any element and strides into rows side by side, and that look for
// numbers that no engine may see.
#pragma once

#include <cstdint>

#include "cuda/rows.hpp"

namespace fastgen::cuda {

// to[i, j] = from[indices[i], j] for i < n, j < from.d, in the given dtype, which has to hold every
// number of the element but for 64-bit integers. `indices` (device memory) null: from[i, j].
void convert(const Matrix& from, const std::int64_t* indices, std::int64_t n, void* to, DType dtype,
             const Stream& stream);

// Lowers first[0] to the first row with a number that is not finite and first[1] to the first with
// one beyond the limit in magnitude. Device memory.
void find_bad_rows(const RowView& rows, double limit, unsigned long long* first,
                   const Stream& stream);

}  // namespace fastgen::cuda
