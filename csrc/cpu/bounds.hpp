// The certificate: what a product of quantised rows proves about a squared distance. With z = s q + e
// for every row, a = |s q|, eps = |e| and delta the offset between the two centres,
//   |z_x - z_y + delta|^2 = N_x + N_y - 2 s_x s_y (q_x . q_y) - 2 rho,
//   |rho| <= eps_x a_y + a_x eps_y + eps_x eps_y                          (Cauchy-Schwarz),
//   | |z_x - z_y + delta| - |s_x q_x - s_y q_y + delta| | <= eps_x + eps_y   (triangle),
// N_x and N_y with the terms of delta folded in. The float32 path has s q = z, and eps from the rounding
// of the product. Kernels use the first bound in float32; pairs that they emit get both in float64.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.hpp"
#include "cpu/prepared.hpp"

namespace fastgen::cpu {

// Bounds on one squared distance, in the join's scaled units.
struct Interval {
  double low, high;
};

// One set's terms in a join, by slot. Float32 for the kernels, float64 for pairs that were emitted.
struct JoinSide {
  const Prepared* set = nullptr;
  double factor = 1.0;  // power of two: units of the set's z to units of the join
  std::vector<float> scale, magnitude, error, low, high;
  // |z|^2 and |s q|^2 with the terms of the offset between the two centres folded in.
  std::vector<double> square, quantised_square;
  std::vector<double> slack;  // covers float64 rounding of a pair's bounds

  void allocate(const Prepared& prepared, double units);
  Terms terms(std::int64_t slot) const {
    return {scale.data() + slot, magnitude.data() + slot, error.data() + slot, low.data() + slot,
            high.data() + slot};
  }
};

// What a segment adds to a row's terms: the offset between the two centres.
struct OffsetTerms {
  double norm = 0;             // |delta|, in the join's units
  double along = 0;            // +-2 z . delta
  double quantised_along = 0;  // +-2 s q . delta
  double added = 0;            // |delta|^2 on one side, 0 on the other
};

void set_terms(JoinSide& side, std::int64_t slot, OffsetTerms offset, bool float_path);

// `dot` as the kernels emit it: int32, or the bits of a float32 on the float path.
Interval pair_bounds(const JoinSide& x, std::int64_t x_slot, const JoinSide& y, std::int64_t y_slot,
                     std::int32_t dot, bool float_path);

}  // namespace fastgen::cpu
