#include "cpu/row_checks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/check.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

BadRows first_bad_rows(const RowView& rows, std::int64_t start, std::int64_t stop, double limit,
                       const Kernels& kernels, int threads) {
  constexpr std::int64_t kRowsPerTask = 256;
  Tasks tasks;
  tasks.reset(blocks_of(stop - start, kRowsPerTask));
  std::vector<BadRows> found(tasks.count);
  while (!run_tasks(tasks, threads, deadline_after(3600), [&](int, std::int64_t task) {
    BadRows& bad = found[task];
    const std::int64_t begin = start + task * kRowsPerTask;
    const std::int64_t end = std::min(stop, begin + kRowsPerTask);
    for (std::int64_t row = begin; row < end && bad.not_finite < 0; ++row) {
      const double largest = kernels.largest_magnitude(rows.row(row), rows.dtype, rows.d);
      if (!std::isfinite(largest)) {
        bad.not_finite = row;
      } else if (largest > limit && bad.too_large < 0) {
        bad.too_large = row;
      }
    }
  })) {
  }
  BadRows first;
  for (const BadRows& bad : found) {
    if (first.not_finite < 0) first.not_finite = bad.not_finite;
    if (first.too_large < 0) first.too_large = bad.too_large;
  }
  return first;
}

void widen_bfloat16(const std::uint16_t* data, std::int64_t n, std::int64_t d,
                    std::int64_t row_stride, std::int64_t column_stride, float* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      // bfloat16 is the upper half of a float32.
      const std::uint32_t bits =
          static_cast<std::uint32_t>(data[i * row_stride + j * column_stride]) << 16;
      std::memcpy(out + i * d + j, &bits, 4);
    }
  }
}

void pair_sq_distances(const RowView& x, const RowView& y, const std::int64_t* i,
                       const std::int64_t* j, std::int64_t count, const Kernels& kernels,
                       int threads, double* out) {
  FASTGEN_CHECK(x.d == y.d);
  for (std::int64_t p = 0; p < count; ++p) {
    FASTGEN_CHECK(0 <= i[p] && i[p] < x.n && 0 <= j[p] && j[p] < y.n);
  }
  constexpr std::int64_t kPairsPerTask = 4096;
  std::vector<std::vector<double>> rows(threads, std::vector<double>(x.d));
  Tasks tasks;
  tasks.reset(blocks_of(count, kPairsPerTask));
  // One call is one piece of work: Python decides how many pairs it holds.
  while (!run_tasks(tasks, threads, deadline_after(3600), [&](int worker, std::int64_t task) {
    double* row = rows[worker].data();
    std::int64_t loaded = -1;
    const std::int64_t end = std::min(count, (task + 1) * kPairsPerTask);
    for (std::int64_t p = task * kPairsPerTask; p < end; ++p) {
      if (i[p] != loaded) {
        kernels.to_double(x.row(i[p]), x.dtype, x.d, row);
        loaded = i[p];
      }
      out[p] = kernels.sq_distance(row, y.row(j[p]), y.dtype, y.d);
    }
  })) {
  }
}

}  // namespace fastgen::cpu
