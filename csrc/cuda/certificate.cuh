// The certificate (common/certificate.hpp) on a device: what a join knows of its rows, and the bounds
// on the squared distance of a pair that a tile kernel emitted.
#pragma once

#include <cstdint>

#include "common/certificate.hpp"
#include "cuda/prepared.hpp"

namespace fastgen::cuda {

// Which product bounds a distance: one int8 plane, both planes, or float32 differences.
enum class Product : int { int8, fine, direct };

// A pair that a bound could not rule out: slots, and the product as bits (int32, or float32 of the
// squared distance for Product::direct).
struct Hit {
  std::int32_t x, y, product;
};

// One side of a join; device pointers, by slot of its prepared set.
struct SideView {
  PreparedView set;
  // Terms of the certificate in the join's units, for tiles; low and high are NaN for padding, which no
  // comparison admits. Product::direct has errors alone, of z as float32 ...
  const float *scale, *magnitude, *error, *low, *high;
  // ... and in float64 for hits.
  const double *square, *quantised_square, *slack;
  const float*
      direct;  // [slots, kDirectFeatures] z about the segment's centre; Product::direct alone
};

// What kernels that deal with hits need of a join; passed to them by value.
struct JoinView {
  SideView x, y;
  bool self;   // x and y are the same set: hits have x < y and each pair comes once
  bool exact;  // no bounds hold: the interval of every hit is [0, infinity]
  Product product;
  double sq_unit;  // squared distances in the join's units per squared distance
};

// Direct differences: z as float32, with errors e (so that |z - float32(z)| <= e), and D the sum of squared
// differences: each difference is rounded once, its square with it twice, each of at most 16 fused
// additions once more, all relative to the positive sum:
//   |D - |z_x' - z_y'|^2| <= kDirectRounding |z_x' - z_y'|^2,  | |z_x - z_y| - |z_x' - z_y'| | <= e_x + e_y.
// What underflows, below 2^-74 in a difference, is in the errors, which are 2^-62 at least.
constexpr double kDirectRounding = 24 * 0x1p-24;
constexpr double kDirectLeastError = 0x1p-62;

// Bounds on the squared distance, float64 rounding of the canonical distance included.
FASTGEN_HOST_DEVICE inline Interval direct_bounds(double sq, double error) {
  const double near = sqrt(sq * (1 - kDirectRounding)) * (1 - 0x1p-40) - error;
  const double far = sqrt(sq * (1 + kDirectRounding)) * (1 + 0x1p-40) + error;
  return {near > 0 ? near * near * (1 - 0x1p-40) : 0.0, far * far * (1 + 0x1p-40)};
}

#if defined(__CUDACC__) || defined(FASTGEN_EMULATOR)
// Bounds on the squared distance of a hit, in the join's units.
__device__ __forceinline__ Interval pair_interval(const JoinView& join, const Hit& hit) {
  if (join.exact) return {0.0, static_cast<double>(__int_as_float(0x7f800000))};
  const SideView &x = join.x, &y = join.y;
  const double x_error = __ldg(x.error + hit.x), y_error = __ldg(y.error + hit.y);
  if (join.product == Product::direct) {
    return direct_bounds(__int_as_float(hit.product), (x_error + y_error) * (1 + 0x1p-40));
  }
  const PairTerms x_terms{__ldg(x.square + hit.x), __ldg(x.quantised_square + hit.x),
                          __ldg(x.slack + hit.x), __ldg(x.magnitude + hit.x), x_error};
  const PairTerms y_terms{__ldg(y.square + hit.y), __ldg(y.quantised_square + hit.y),
                          __ldg(y.slack + hit.y), __ldg(y.magnitude + hit.y), y_error};
  const double scales = static_cast<double>(__ldg(x.scale + hit.x)) * __ldg(y.scale + hit.y);
  return pair_bounds(x_terms, y_terms, 2 * scales * hit.product, true);
}
#endif

}  // namespace fastgen::cuda
