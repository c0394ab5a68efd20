// The certificate's arithmetic, on plain numbers: what a product of quantised rows proves about a squared
// distance. With z = s q + e for every row, a = |s q|, eps >= |e| and delta the offset between the two
// centres,
//   |z_x - z_y + delta|^2 = N_x + N_y - 2 s_x s_y (q_x . q_y) - 2 rho,
//   |rho| <= eps_x a_y + a_x eps_y + eps_x eps_y                          (Cauchy-Schwarz),
//   | |z_x - z_y + delta| - |s_x q_x - s_y q_y + delta| | <= eps_x + eps_y   (triangle),
// N_x and N_y with the terms of delta folded in. Tile kernels use the first bound in float32; pairs that they
// emit get both in float64. Everything here is in a join's units.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.hpp"
#include "common/rounding.hpp"

namespace fastgen {

// Bounds on one squared distance, in the join's scaled units.
struct Interval {
  double low, high;
};

// A row as it was quantised.
struct QuantisedRow {
  double scale, magnitude, error, sq_norm;
  // What the product leaves out beside the errors, of the two rows' sum: see fine_left_out.
  double left_out = 0;
};

// What a segment adds to a row's terms: the offset between the two centres.
struct OffsetTerms {
  double norm = 0;             // |delta|, in the join's units
  double along = 0;            // +-2 z . delta
  double quantised_along = 0;  // +-2 s q . delta
  double added = 0;            // |delta|^2 on one side, 0 on the other
};

struct RowTerms {
  float scale, magnitude, error, low, high;
  // |z|^2 and |s q|^2 with the terms of the offset between the two centres folded in.
  double square, quantised_square;
  double slack;  // covers float64 rounding of a pair's bounds
};

FASTGEN_HOST_DEVICE inline double larger(double a, double b) { return a < b ? b : a; }

// Float64 sums over the features are off by at most d + a few roundings: 2^-40 holds up to d = 4,000.
FASTGEN_HOST_DEVICE inline double double_sum_error(std::int64_t depth) {
  return larger(0x1p-40, (2.0 * static_cast<double>(depth) + 64.0) * 0x1p-53);
}

// z below 2^-20 (2^-60 of the largest) would meet float32's subnormals in products: such rows count
// as all error.
FASTGEN_HOST_DEVICE inline bool too_small(double norm, double magnitude) {
  return norm < 0x1p-20 || magnitude < 0x1p-30;
}

// Two planes: s (h + l / 254) instead of s q. Their product is taken as
//   P = s_x s_y (h_x . h_y + r),   |r - (h_x . l_y + l_x . h_y) / 254| <= 0.66,   r an integer,
// which leaves out s_x s_y (l_x . l_y) / 254^2 as well, at most f_x f_y for f = |s l / 254|. Twice all
// that is at most
//   2 f_x f_y + 1.32 s_x s_y <= f_x^2 + f_y^2 + 0.66 (s_x^2 + s_y^2)
// (2 |a| |b| <= a^2 + b^2): one term per row.
FASTGEN_HOST_DEVICE inline double fine_left_out(double scale, double low) {
  return (low * low + 0.66 * scale * scale) * (1 + 0x1p-40);
}

// `depth`: features, as padded. Float32 kernels make at most 12 roundings of a pair's terms, each 2^-24 of
// the largest.
FASTGEN_HOST_DEVICE inline RowTerms row_terms(const QuantisedRow& row, const OffsetTerms& offset,
                                              std::int64_t depth) {
  const double norm = sqrt(row.sq_norm);
  // |z_x - z_y + delta|^2, its expansion's largest terms, and what rounding may do to their sum.
  const double largest = (norm + offset.norm) * (norm + offset.norm) +
                         2 * row.magnitude * row.magnitude + 2 * row.error * row.error;
  RowTerms terms;
  terms.square = row.sq_norm + offset.along + offset.added;
  terms.quantised_square = row.magnitude * row.magnitude + offset.quantised_along + offset.added;
  const double rounding = largest * double_sum_error(depth) + 0x1p-61;
  const double slack = larger(largest * 0x1p-20, rounding) + 0x1p-61 + row.left_out;
  terms.slack = rounding + row.left_out;
  terms.scale = static_cast<float>(row.scale);  // exact: a float32 times a power of two
  terms.magnitude = round_up(row.magnitude);
  terms.error = round_up(row.error);
  terms.low = round_down(terms.square - slack);
  terms.high = round_up(terms.square + slack);
  return terms;
}

// What pair_bounds needs of a row's terms.
struct PairTerms {
  double square, quantised_square, slack, magnitude, error;
};

// `twice_product`: 2 s_x s_y (q_x . q_y). triangle: the second bound too, if quantised_square holds.
FASTGEN_HOST_DEVICE inline Interval pair_bounds(const PairTerms& x, const PairTerms& y,
                                                double twice_product, bool triangle) {
  const double slack = x.slack + y.slack;
  const double bound = 2 * (x.error * y.magnitude + (x.magnitude + x.error) * y.error) + slack;
  const double sq = x.square + y.square - twice_product;
  Interval interval{sq - bound, sq + bound};
  if (triangle) {
    const double sq_quantised = x.quantised_square + y.quantised_square - twice_product;
    const double error = (x.error + y.error) * (1 + 0x1p-40);
    const double near = sqrt(larger(sq_quantised - slack, 0.0)) * (1 - 0x1p-40) - error;
    const double far = sqrt(larger(sq_quantised + slack, 0.0)) * (1 + 0x1p-40) + error;
    if (near > 0) interval.low = larger(interval.low, near * near * (1 - 0x1p-40));
    const double high = far * far * (1 + 0x1p-40);
    interval.high = high < interval.high ? high : interval.high;
  }
  return interval;
}

}  // namespace fastgen
