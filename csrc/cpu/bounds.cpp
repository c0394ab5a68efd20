#include "cpu/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/rounding.hpp"

namespace fastgen::cpu {

namespace {

// z below 2^-20 (2^-60 of the largest) would meet float32's subnormals in products.
constexpr double kSmallestNorm = 0x1p-20;

// Float32 products: chains of at most 256 additions, depth / 256 more to join them, the rounding of
// both operands; times 2^-24 each, relative to |z_x| |z_y|. (Higham 2002, section 3.1.)
double float_product_error(std::int64_t depth) {
  return (256.0 + static_cast<double>(depth) / 256.0 + 16.0) * 0x1p-24 * (1 + 0x1p-10);
}

// Float64 sums over the features are off by at most d + a few roundings: 2^-40 holds up to d = 4,000.
double double_sum_error(std::int64_t depth) {
  return std::max(0x1p-40, (2.0 * static_cast<double>(depth) + 64.0) * 0x1p-53);
}

}  // namespace

void JoinSide::allocate(const Prepared& prepared, double units) {
  set = &prepared;
  factor = units / prepared.unit();
  // Kernels read whole vectors past the last column; those lanes are masked off.
  for (auto* terms : {&scale, &magnitude, &error, &low, &high}) {
    terms->assign(prepared.slots() + kMaxBlockColumns, 0.0f);
  }
  for (auto* terms : {&square, &quantised_square, &slack}) terms->assign(prepared.slots(), 0.0);
}

void set_terms(JoinSide& side, std::int64_t slot, OffsetTerms offset, bool float_path) {
  const Prepared& set = *side.set;
  const double f = side.factor;
  const double sq_norm = set.square(slot) * f * f, norm = std::sqrt(sq_norm);
  double scale = set.scale(slot) * f, magnitude = set.magnitude(slot) * f;
  double error = set.error(slot) * f;
  if (float_path) {
    scale = 1.0;
    magnitude = norm * (1 + 0x1p-40);
    error = 0.5 * float_product_error(set.depth()) * magnitude;
  } else if (norm < kSmallestNorm || magnitude < 0x1p-30) {
    scale = magnitude = offset.quantised_along = 0.0;
    error = norm * (1 + 0x1p-20);
  }
  // |z_x - z_y + delta|^2, its expansion's largest terms, and what rounding may do to their sum.
  const double largest =
      (norm + offset.norm) * (norm + offset.norm) + 2 * magnitude * magnitude + 2 * error * error;
  side.square[slot] = sq_norm + offset.along + offset.added;
  side.quantised_square[slot] = magnitude * magnitude + offset.quantised_along + offset.added;
  side.slack[slot] = largest * double_sum_error(set.depth()) + 0x1p-61;
  const double slack = std::max(largest * 0x1p-20, side.slack[slot]) + 0x1p-61;
  side.scale[slot] = static_cast<float>(scale);  // exact: a float32 times a power of two
  side.magnitude[slot] = round_up(magnitude);
  side.error[slot] = round_up(error);
  side.low[slot] = round_down(side.square[slot] - slack);
  side.high[slot] = round_up(side.square[slot] + slack);
}

Interval pair_bounds(const JoinSide& x, std::int64_t x_slot, const JoinSide& y, std::int64_t y_slot,
                     std::int32_t dot, bool float_path) {
  const double slack = x.slack[x_slot] + y.slack[y_slot];
  const double x_error = x.error[x_slot], y_error = y.error[y_slot];
  const double x_size = x.magnitude[x_slot], y_size = y.magnitude[y_slot];
  const double bound = 2 * (x_error * y_size + (x_size + x_error) * y_error) + slack;
  double product = 0;
  if (float_path) {
    float value;
    std::memcpy(&value, &dot, 4);
    product = 2 * static_cast<double>(value);
  } else {
    product = 2 * (static_cast<double>(x.scale[x_slot]) * y.scale[y_slot]) * dot;
  }
  const double sq = x.square[x_slot] + y.square[y_slot] - product;
  Interval interval{sq - bound, sq + bound};
  if (!float_path) {
    const double sq_quantised = x.quantised_square[x_slot] + y.quantised_square[y_slot] - product;
    const double error = (x_error + y_error) * (1 + 0x1p-40);
    const double near = std::sqrt(std::max(sq_quantised - slack, 0.0)) * (1 - 0x1p-40) - error;
    const double far = std::sqrt(std::max(sq_quantised + slack, 0.0)) * (1 + 0x1p-40) + error;
    if (near > 0) interval.low = std::max(interval.low, near * near * (1 - 0x1p-40));
    interval.high = std::min(interval.high, far * far * (1 + 0x1p-40));
  }
  return interval;
}

}  // namespace fastgen::cpu
