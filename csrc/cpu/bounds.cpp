#include "cpu/bounds.hpp"

#include <cmath>
#include <cstring>

namespace fastgen::cpu {

namespace {

// Float32 products: chains of at most 256 additions, depth / 256 more to join them, the rounding of
// both operands; times 2^-24 each, relative to |z_x| |z_y|. (Higham 2002, section 3.1.)
double float_product_error(std::int64_t depth) {
  return (256.0 + static_cast<double>(depth) / 256.0 + 16.0) * 0x1p-24 * (1 + 0x1p-10);
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
  QuantisedRow row;
  row.sq_norm = set.square(slot) * f * f;
  row.scale = set.scale(slot) * f;
  row.magnitude = set.magnitude(slot) * f;
  row.error = set.error(slot) * f;
  const double norm = std::sqrt(row.sq_norm);
  if (float_path) {
    row.scale = 1.0;
    row.magnitude = norm * (1 + 0x1p-40);
    row.error = 0.5 * float_product_error(set.depth()) * row.magnitude;
  } else if (too_small(norm, row.magnitude)) {
    row.scale = row.magnitude = offset.quantised_along = 0.0;
    row.error = norm * (1 + 0x1p-20);
  }
  const RowTerms terms = row_terms(row, offset, set.depth());
  side.scale[slot] = terms.scale;
  side.magnitude[slot] = terms.magnitude;
  side.error[slot] = terms.error;
  side.low[slot] = terms.low;
  side.high[slot] = terms.high;
  side.square[slot] = terms.square;
  side.quantised_square[slot] = terms.quantised_square;
  side.slack[slot] = terms.slack;
}

Interval pair_bounds(const JoinSide& x, std::int64_t x_slot, const JoinSide& y, std::int64_t y_slot,
                     std::int32_t dot, bool float_path) {
  double product = 0;
  if (float_path) {
    float value;
    std::memcpy(&value, &dot, 4);
    product = 2 * static_cast<double>(value);
  } else {
    product = 2 * (static_cast<double>(x.scale[x_slot]) * y.scale[y_slot]) * dot;
  }
  const auto terms = [](const JoinSide& side, std::int64_t slot) {
    return PairTerms{side.square[slot], side.quantised_square[slot], side.slack[slot],
                     side.magnitude[slot], side.error[slot]};
  };
  return fastgen::pair_bounds(terms(x, x_slot), terms(y, y_slot), product, !float_path);
}

}  // namespace fastgen::cpu
