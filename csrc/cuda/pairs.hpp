// Canonical squared distances of listed pairs of rows.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// The rows are in device memory; i, j and sq [count] on the host.
void pair_sq_distances(const RowView& x, const RowView& y, const std::int64_t* i,
                       const std::int64_t* j, std::int64_t count, double* sq, const Stream& stream);

}  // namespace fastgen::cuda
