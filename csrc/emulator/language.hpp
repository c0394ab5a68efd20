// The words that CUDA adds to C++, for a host compiler: qualifiers, vector types, __half.
#pragma once

#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Aligned as on a device, so that -fsanitize=undefined sees a misaligned vector access.
#define FASTGEN_VECTORS(name, T)                                                \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                            \
  struct name##3 { T x, y, z; };                                                \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                 \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }         \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define FASTGEN_VECTORS_WITHOUT_3(name, T)                                      \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                            \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                 \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
FASTGEN_VECTORS(char, signed char)
FASTGEN_VECTORS(uchar, unsigned char)
FASTGEN_VECTORS(short, short)
FASTGEN_VECTORS(ushort, unsigned short)
FASTGEN_VECTORS(int, int)
FASTGEN_VECTORS_WITHOUT_3(uint, unsigned)
FASTGEN_VECTORS(float, float)
FASTGEN_VECTORS(double, double)
FASTGEN_VECTORS(longlong, long long)
FASTGEN_VECTORS(ulonglong, unsigned long long)
#undef FASTGEN_VECTORS
#undef FASTGEN_VECTORS_WITHOUT_3

namespace fastgen::emulator {

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// float16 as bits, each conversion rounded once, to nearest even.
inline std::uint16_t half_from_float(float value) {
  std::uint32_t bits = bits_as<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return 0x7fffu;                                      // NaN: the device's
  if (bits >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // from 65520 on
  if (bits < 0x38800000u) {  // subnormal: 1/2 has the spacing of their last bit
    const float sum = bits_as<float>(bits) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(sum) - 0x3f000000u));
  }
  bits += 0xfffu + (bits >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (bits - 0x38000000u) >> 13);
}
inline std::uint16_t half_from_double(double value) {
  // Rounded to odd in between: 24 bits are two more than 11, so the second rounding is the right
  // one.
  const float nearest = static_cast<float>(value);
  std::uint32_t bits = bits_as<std::uint32_t>(nearest);
  const double back = nearest;
  if (back != value && value == value) {
    if ((back < 0 ? -back : back) > (value < 0 ? -value : value)) --bits;
    bits |= 1u;
  }
  return half_from_float(bits_as<float>(bits));
}
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    return bits_as<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // 2^112 moves the exponent's bias; exact, also for subnormal numbers.
  const float scaled = bits_as<float>(magnitude << 13) * 5192296858534827628530496329220096.0f;
  return bits_as<float>(sign | bits_as<std::uint32_t>(scaled));
}

}  // namespace fastgen::emulator

struct alignas(2) __half {
  std::uint16_t bits;
  __half() = default;
  __half(float value) : bits(fastgen::emulator::half_from_float(value)) {}
  __half(double value) : bits(fastgen::emulator::half_from_double(value)) {}
  __half(int value) : __half(static_cast<double>(value)) {}
  operator float() const { return fastgen::emulator::half_to_float(bits); }
};
using half = __half;

struct alignas(4) __half2 {
  __half x, y;
};
using half2 = __half2;

static_assert(sizeof(__half) == 2 && sizeof(__half2) == 4, "as on a device");
