// The certificate (common/certificate.hpp) on the CPU: a set's terms in a join, and the bounds of an emitted
// pair. The float32 path has s q = z, and eps from the rounding of the product.
#pragma once

#include <cstdint>
#include <vector>

#include "common/certificate.hpp"
#include "cpu/kernels.hpp"
#include "cpu/prepared.hpp"

namespace fastgen::cpu {

using fastgen::Interval;
using fastgen::OffsetTerms;

// One set's terms in a join, by slot. Float32 for the kernels, float64 for pairs that were emitted.
struct JoinSide {
  const Prepared* set = nullptr;
  double factor = 1.0;  // power of two: units of the set's z to units of the join
  std::vector<float> scale, magnitude, error, low, high;
  std::vector<double> square, quantised_square, slack;

  void allocate(const Prepared& prepared, double units);
  Terms terms(std::int64_t slot) const {
    return {scale.data() + slot, magnitude.data() + slot, error.data() + slot, low.data() + slot,
            high.data() + slot};
  }
};

void set_terms(JoinSide& side, std::int64_t slot, OffsetTerms offset, bool float_path);

// `dot` as the kernels emit it: int32, or the bits of a float32 on the float path.
Interval pair_bounds(const JoinSide& x, std::int64_t x_slot, const JoinSide& y, std::int64_t y_slot,
                     std::int32_t dot, bool float_path);

}  // namespace fastgen::cpu
