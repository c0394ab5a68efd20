// Rows about a centre as float16, with what that takes from them.
#pragma once

#include <cstdint>

#include "cuda/density_problem.hpp"

namespace fastgen::cuda {

// z = (unit x - centre) factor, and float16 numbers scale z.
struct HalfTask {
  RowView rows;
  PointList list;
  double unit, factor, scale;
  const double* centre;
  std::int64_t depth;
  unsigned short* out;  // [padded, depth] float16
  double* squares;      // [padded] |z|^2 / 2
  double* residuals;    // [padded] |z - float16(z)|
};

// Makes `padded` rows, a multiple of 8, of which those beyond the list are zeros; enqueued.
void make_half(const HalfTask& task, std::int64_t padded, const Stream& stream);

}  // namespace fastgen::cuda
