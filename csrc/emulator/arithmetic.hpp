// CUDA's arithmetic with a stated rounding, and its conversions, under their own names.
#pragma once

#include <math.h>

#include <cfenv>
#include <climits>
#include <cstdint>
#include <type_traits>

#include "emulator/language.hpp"

namespace fastgen::emulator {

// A value that the compiler cannot look through: no fusing, no reordering across it.
template <class T>
inline T opaque(T value) {
#if defined(__x86_64__)
  asm volatile("" : "+x"(value));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  volatile T copy = value;
  value = copy;
#endif
  return value;
}

// An operation in another rounding mode.
template <class T, class Work>
inline T rounded(int mode, Work work) {
  const int before = std::fegetround();
  std::fesetround(mode);
  const T result = opaque(work());
  std::fesetround(before);
  return result;
}

template <class T>
inline T converted(double value, int mode);
template <>
inline float converted<float>(double value, int mode) {
  float result = static_cast<float>(value);
  if (mode == FE_UPWARD && static_cast<double>(result) < value)
    result = nextafterf(result, INFINITY);
  if (mode == FE_DOWNWARD && static_cast<double>(result) > value) {
    result = nextafterf(result, -INFINITY);
  }
  return result;
}

// Float to integer as the device does it: saturating, NaN gives 0 (64 bits: the smallest).
template <class Integer>
inline Integer saturated(double value, Integer nan) {
  if (value != value) return nan;
  constexpr double kLow = static_cast<double>(
      std::is_signed<Integer>::value ? (sizeof(Integer) == 8 ? LLONG_MIN : INT_MIN) : 0);
  constexpr double kHigh =
      static_cast<double>(std::is_signed<Integer>::value
                              ? (sizeof(Integer) == 8 ? 9223372036854775808.0 : 2147483648.0)
                              : (sizeof(Integer) == 8 ? 18446744073709551616.0 : 4294967296.0));
  if (value <= kLow) return static_cast<Integer>(std::is_signed<Integer>::value ? kLow : 0);
  if (value >= kHigh)
    return static_cast<Integer>(~Integer{0} ^
                                (std::is_signed<Integer>::value
                                     ? Integer(Integer(1) << (8 * sizeof(Integer) - 1))
                                     : Integer{0}));
  return static_cast<Integer>(value);
}

}  // namespace fastgen::emulator

// ---- floating point: every operation rounded on its own, whatever the compiler may fuse
#define FASTGEN_ROUNDED(prefix, T, suffix, mode, F)                                              \
  inline T __##prefix##add_##suffix(T a, T b) {                                                  \
    return fastgen::emulator::rounded<T>(                                                        \
        mode, [=] { return fastgen::emulator::opaque(a) + fastgen::emulator::opaque(b); });      \
  }                                                                                              \
  inline T __##prefix##sub_##suffix(T a, T b) {                                                  \
    return fastgen::emulator::rounded<T>(                                                        \
        mode, [=] { return fastgen::emulator::opaque(a) - fastgen::emulator::opaque(b); });      \
  }                                                                                              \
  inline T __##prefix##mul_##suffix(T a, T b) {                                                  \
    return fastgen::emulator::rounded<T>(                                                        \
        mode, [=] { return fastgen::emulator::opaque(a) * fastgen::emulator::opaque(b); });      \
  }                                                                                              \
  inline T __##prefix##div_##suffix(T a, T b) {                                                  \
    return fastgen::emulator::rounded<T>(                                                        \
        mode, [=] { return fastgen::emulator::opaque(a) / fastgen::emulator::opaque(b); });      \
  }                                                                                              \
  inline T __##prefix##sqrt_##suffix(T a) {                                                      \
    return fastgen::emulator::rounded<T>(mode, [=] { return F(fastgen::emulator::opaque(a)); }); \
  }
FASTGEN_ROUNDED(d, double, ru, FE_UPWARD, sqrt)
FASTGEN_ROUNDED(d, double, rd, FE_DOWNWARD, sqrt)
FASTGEN_ROUNDED(d, double, rz, FE_TOWARDZERO, sqrt)
FASTGEN_ROUNDED(f, float, ru, FE_UPWARD, sqrtf)
FASTGEN_ROUNDED(f, float, rd, FE_DOWNWARD, sqrtf)
FASTGEN_ROUNDED(f, float, rz, FE_TOWARDZERO, sqrtf)
#undef FASTGEN_ROUNDED
inline double __dadd_rn(double a, double b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) + fastgen::emulator::opaque(b));
}
inline double __dsub_rn(double a, double b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) - fastgen::emulator::opaque(b));
}
inline double __dmul_rn(double a, double b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) * fastgen::emulator::opaque(b));
}
inline double __ddiv_rn(double a, double b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) / fastgen::emulator::opaque(b));
}
inline double __dsqrt_rn(double a) { return fastgen::emulator::opaque(sqrt(a)); }
inline double __drcp_rn(double a) { return fastgen::emulator::opaque(1.0 / a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fadd_rn(float a, float b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) + fastgen::emulator::opaque(b));
}
inline float __fsub_rn(float a, float b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) - fastgen::emulator::opaque(b));
}
inline float __fmul_rn(float a, float b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) * fastgen::emulator::opaque(b));
}
inline float __fdiv_rn(float a, float b) {
  return fastgen::emulator::opaque(fastgen::emulator::opaque(a) / fastgen::emulator::opaque(b));
}
inline float __fsqrt_rn(float a) { return fastgen::emulator::opaque(sqrtf(a)); }
inline float __frcp_rn(float a) { return fastgen::emulator::opaque(1.0f / a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float rsqrtf(float a) { return static_cast<float>(1.0 / sqrt(static_cast<double>(a))); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }

// ---- conversions
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __double2float_ru(double x) {
  return fastgen::emulator::converted<float>(x, FE_UPWARD);
}
inline float __double2float_rd(double x) {
  return fastgen::emulator::converted<float>(x, FE_DOWNWARD);
}
inline float __double2float_rz(double x) {
  return fastgen::emulator::converted<float>(x, x > 0 ? FE_DOWNWARD : FE_UPWARD);
}
inline __half __float2half_rn(float x) { return __half(x); }
inline __half __float2half(float x) { return __half(x); }
inline __half __double2half(double x) { return __half(x); }
inline float __half2float(__half x) { return x; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline short __half_as_short(__half x) { return static_cast<short>(x.bits); }
inline __half __ushort_as_half(unsigned short x) {
  __half half;
  half.bits = x;
  return half;
}
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
inline int __float_as_int(float x) { return fastgen::emulator::bits_as<int>(x); }
inline unsigned __float_as_uint(float x) { return fastgen::emulator::bits_as<unsigned>(x); }
inline float __int_as_float(int x) { return fastgen::emulator::bits_as<float>(x); }
inline float __uint_as_float(unsigned x) { return fastgen::emulator::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return fastgen::emulator::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return fastgen::emulator::bits_as<double>(x); }
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double(
      static_cast<long long>(static_cast<unsigned long long>(static_cast<unsigned>(high)) << 32 |
                             static_cast<unsigned>(low)));
}
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
inline double __ull2double_rn(unsigned long long x) { return static_cast<double>(x); }
#define FASTGEN_TO_INTEGER(suffix, F)                                                     \
  inline int __float2int_##suffix(float x) {                                              \
    return fastgen::emulator::saturated<int>(F(static_cast<double>(x)), 0);               \
  }                                                                                       \
  inline unsigned __float2uint_##suffix(float x) {                                        \
    return fastgen::emulator::saturated<unsigned>(F(static_cast<double>(x)), 0);          \
  }                                                                                       \
  inline long long __float2ll_##suffix(float x) {                                         \
    return fastgen::emulator::saturated<long long>(F(static_cast<double>(x)), LLONG_MIN); \
  }                                                                                       \
  inline int __double2int_##suffix(double x) {                                            \
    return fastgen::emulator::saturated<int>(F(x), INT_MIN);                              \
  }                                                                                       \
  inline unsigned __double2uint_##suffix(double x) {                                      \
    return fastgen::emulator::saturated<unsigned>(F(x), 1u << 31);                        \
  }                                                                                       \
  inline long long __double2ll_##suffix(double x) {                                       \
    return fastgen::emulator::saturated<long long>(F(x), LLONG_MIN);                      \
  }                                                                                       \
  inline unsigned long long __double2ull_##suffix(double x) {                             \
    return fastgen::emulator::saturated<unsigned long long>(F(x), 1ull << 63);            \
  }
FASTGEN_TO_INTEGER(rn, rint)
FASTGEN_TO_INTEGER(rd, floor)
FASTGEN_TO_INTEGER(ru, ceil)
FASTGEN_TO_INTEGER(rz, trunc)
#undef FASTGEN_TO_INTEGER
