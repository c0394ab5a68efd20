// Sums that do not depend on their order: a float64 number becomes two integers, multiples of 2^-37 and
// 2^-74 of a power of two above the largest possible, and integers are added.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fastgen {

// The high limb of a number of at most the bound is at most 2^37, and so is the low one.
constexpr int kLimbBits = 37;

// The grid of sums whose terms, sums of runs, are at most `bound`: 2^37 units. A power of two, units per 1.
inline double grid(double bound) {
  if (!(bound > 0)) return 1.0;
  int exponent = 0;
  std::frexp(bound, &exponent);
  return std::ldexp(1.0, std::min(kLimbBits - exponent, 1000));
}

// The same for a total of at most `total`, which has to stay below 2^62 units.
inline double grid(double bound, double total) {
  return std::min(grid(bound), grid(total) * 0x1p24);
}

// Adds to a total of more tiles than a low limb has room for, from any thread. Whoever takes the low limb past a
// multiple of 2^50 brings that to the high one: so it is never negative, and in the end below 2^50.
inline void add_carried(std::int64_t& high, std::int64_t& low, std::int64_t tile_high,
                        std::int64_t tile_low) {
  constexpr std::int64_t kUnit = std::int64_t{1} << kLimbBits, kFull = std::int64_t{1} << 50;
  const auto add = [](std::int64_t& total, std::int64_t value) {
    return __atomic_fetch_add(&total, value, __ATOMIC_RELAXED);
  };
  const std::int64_t rest = (tile_low % kUnit + kUnit) % kUnit;
  std::int64_t carry = (tile_low - rest) / kUnit;
  const std::int64_t before = add(low, rest);
  if (before / kFull != (before + rest) / kFull) {
    add(low, -kFull);
    carry += kFull / kUnit;
  }
  add(high, tile_high + carry);
}

inline double from_limbs(std::int64_t high, std::int64_t low, double scale) {
  __extension__ using Wide = __int128;
  const Wide whole = static_cast<Wide>(high) * (std::int64_t{1} << kLimbBits) + low;
  return static_cast<double>(whole) * 0x1p-37 / scale;
}

}  // namespace fastgen
