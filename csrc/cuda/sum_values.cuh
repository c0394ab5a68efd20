// Kernel values from products and squared distances, a few columns of one row at a time. Only operations
// that IEEE arithmetic defines, so that every GPU and the emulator get the same bits; row and column are
// treated alike, down to the order of roundings, so that the value of (x, y) is that of (y, x).
#pragma once

#include <cstdint>

#include "common/sum_terms.hpp"
#include "cuda/gpu.hpp"

namespace fastgen::cuda {

// Named operations are never fused by the compiler.
__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double add(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ float subtract(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ double subtract(double a, double b) { return __dsub_rn(a, b); }
__device__ __forceinline__ float multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float fuse(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fuse(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ __forceinline__ float root(float a) { return __fsqrt_rn(a); }
__device__ __forceinline__ double root(double a) { return __dsqrt_rn(a); }

template <class Real>
struct Functions;

template <>
struct Functions<float> {
  using Int = int;
  static constexpr int kFraction = 23;
  static constexpr Int kBias = 127;
  // Adding and taking away 1.5 * 2^23 rounds to an integer.
  static constexpr float kRound = 12582912.0f;
  // ln 2 in two parts: n times the first is exact.
  static constexpr float kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;
  static constexpr float kLowest = -87.0f;  // exp of it is a normal number
  // Terms of the series below: the next is under 2^-26 of the sum.
  static constexpr int kExpTerms = 6, kLogTerms = 4;
  static __device__ __forceinline__ Int bits(float x) { return __float_as_int(x); }
  static __device__ __forceinline__ float number(Int bits) { return __int_as_float(bits); }
};

template <>
struct Functions<double> {
  using Int = long long;
  static constexpr int kFraction = 52;
  static constexpr Int kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kLowest = -708.0;
  static constexpr int kExpTerms = 12, kLogTerms = 11;  // under 2^-55
  static __device__ __forceinline__ Int bits(double x) { return __double_as_longlong(x); }
  static __device__ __forceinline__ double number(Int bits) { return __longlong_as_double(bits); }
};

// Constants of the series as types: what is not one, nvcc computes when the kernel starts, and keeps.
template <int kI>
struct Factorial {
  static constexpr double kValue = kI * Factorial<kI - 1>::kValue;
};
template <>
struct Factorial<1> {
  static constexpr double kValue = 1;
};

// 1 / 2! + r / 3! + ... with kTerms terms, from the kI-th on.
template <class Real, int kTerms, int kI = 0>
__device__ __forceinline__ Real exponential_series(Real r) {
  constexpr Real kFactor = static_cast<Real>(1 / Factorial<kI + 2>::kValue);
  if constexpr (kI == kTerms - 1) {
    return kFactor;
  } else {
    return fuse(exponential_series<Real, kTerms, kI + 1>(r), r, kFactor);
  }
}

// 2 / 3 + 2 z / 5 + ... with kTerms terms, from the kI-th on.
template <class Real, int kTerms, int kI = 0>
__device__ __forceinline__ Real logarithm_series(Real z) {
  constexpr Real kFactor = static_cast<Real>(2.0 / (2 * kI + 3));
  if constexpr (kI == kTerms - 1) {
    return kFactor;
  } else {
    return fuse(logarithm_series<Real, kTerms, kI + 1>(z), z, kFactor);
  }
}

// exp(y), or expm1(y), for y <= 0: 2^n (1 + f) with f = expm1(y - n ln 2), |y - n ln 2| <= ln(2) / 2.
// About 1.2 units in the last place (csrc/tests/test_maps.cpp has the same arithmetic on CPUs).
template <class Real>
__device__ __forceinline__ Real exponential(Real argument, bool less_one) {
  using F = Functions<Real>;
  const Real y = argument < F::kLowest ? F::kLowest : argument;
  const Real shifted = fuse(y, static_cast<Real>(1.4426950408889634), F::kRound);
  const Real n = subtract(shifted, F::kRound);
  const Real r = fuse(n, -F::kLn2Low, fuse(n, -F::kLn2High, y));
  const Real f = fuse(exponential_series<Real, F::kExpTerms>(r), multiply(r, r), r);
  const Real power = F::number((F::bits(shifted) - F::bits(F::kRound) + F::kBias) << F::kFraction);
  return fuse(power, f, less_one ? subtract(power, Real(1)) : power);
}

// log(1 + t) for t >= 0: 1 + t = 2^e m with m in [sqrt(1/2), sqrt(2)), log m by the series of atanh; what the
// addition 1 + t rounds off is put back. About 2.8 units in the last place.
template <class Real>
__device__ __forceinline__ Real log_one_plus(Real t) {
  using F = Functions<Real>;
  const Real u = add(t, Real(1));
  const Real lost = subtract(t, subtract(u, Real(1))) / u;
  const auto bits = F::bits(u);
  const auto e = (bits - F::bits(static_cast<Real>(0.70710678118654752))) >> F::kFraction;
  const Real m = F::number(bits - e * (typename F::Int{1} << F::kFraction));  // e may be negative
  const Real f = subtract(m, Real(1)), s = f / add(f, Real(2)), z = multiply(s, s);
  const Real series = logarithm_series<Real, F::kLogTerms>(z);
  const Real log_m = fuse(multiply(series, z), s, add(s, s));
  const Real exponent = static_cast<Real>(static_cast<int>(e));
  return fuse(exponent, F::kLn2High, add(log_m, fuse(exponent, F::kLn2Low, lost)));
}

// k(x, y) - k(x, c) - k(c, y) + k(c, c) for k = (scale (x . y))^degree around the centre c, where
// scale x . y = w + a + t + s with w at the centre, a and t along it, s the centred product. Built up
// degree by degree from terms of one kind only, so that nothing cancels: with b = w + a and q = w + t,
//   V_p = (w + a + t + s)^p,  B_p = V_p - b^p,  Q_p = V_p - q^p,  K_p = V_p - b^p - q^p + w^p.
template <class Real, int kCount>
__device__ __forceinline__ void add_polynomial(const SumTerm& term, const Real (&products)[kCount],
                                               Real row_along, const Real (&column_along)[kCount],
                                               Real (&values)[kCount]) {
  const Real scale = static_cast<Real>(term.scale), w = static_cast<Real>(term.offset);
  const Real a = multiply(row_along, scale), b = add(w, a);
  Real s[kCount], t[kCount], v[kCount], value[kCount], less_b[kCount], less_q[kCount];
#pragma unroll
  for (int c = 0; c < kCount; ++c) {
    s[c] = multiply(products[c], scale);
    t[c] = multiply(column_along[c], scale);
    v[c] = add(add(add(a, t[c]), w), s[c]);  // of degree 1
    value[c] = s[c];
    less_b[c] = add(t[c], s[c]);
    less_q[c] = add(a, s[c]);
  }
  const int degree = term.degree;
#pragma unroll 1
  for (int p = 2; p <= degree; ++p) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      const Real q = add(w, t[c]), ts = add(t[c], s[c]), as = add(a, s[c]);
      const Real cross = add(multiply(a, less_b[c]), multiply(t[c], less_q[c]));
      value[c] = fuse(w, value[c], fuse(s[c], v[c], cross));
      less_b[c] = fuse(b, less_b[c], multiply(ts, v[c]));
      less_q[c] = fuse(q, less_q[c], multiply(as, v[c]));
      v[c] = multiply(add(add(add(a, t[c]), w), s[c]), v[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < kCount; ++c) values[c] = add(values[c], value[c]);
}

// Kernels of the squared distance.
template <class Real, int kCount>
__device__ __forceinline__ void add_of_distances(const SumTerm& term, const Real (&squares)[kCount],
                                                 Real (&values)[kCount]) {
  const Real scale = static_cast<Real>(term.scale);
  const bool less_one = term.less_one;
  if (term.shape == Shape::gaussian) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      values[c] = add(values[c], exponential(multiply(squares[c], scale), less_one));
    }
  } else if (term.shape == Shape::rational_quadratic) {
    const Real exponent = static_cast<Real>(-term.exponent);
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      const Real log = log_one_plus(multiply(squares[c], scale));
      values[c] = add(values[c], exponential(multiply(log, exponent), less_one));
    }
  } else if (term.shape == Shape::laplacian) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      values[c] = add(values[c], exponential(multiply(root(squares[c]), scale), less_one));
    }
  } else {  // energy
#pragma unroll
    for (int c = 0; c < kCount; ++c) values[c] = add(values[c], multiply(root(squares[c]), scale));
  }
}

}  // namespace fastgen::cuda
