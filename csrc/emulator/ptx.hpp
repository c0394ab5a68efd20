// The functions of cuda/ptx.cuh for the host emulator; that file describes them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "emulator/block.hpp"

namespace fastgen::emulator {

void load_matrices(const void* const* in, void* const* out, Site site);
void multiply_int8(const void* const* in, void* const* out);
void multiply_half(const void* const* in, void* const* out);
void multiply_double(const void* const* in, void* const* out);

// How many extra passes over the banks of shared memory load_matrices has needed so far: 0 where
// the eight rows of each matrix lie in different banks.
std::int64_t bank_conflicts();

// What a lane brings to multiply_add; the sums are read and written in place.
struct Fragments {
  void* sum;
  const std::uint32_t* a;
  std::uint32_t b[2];
};
struct DoubleFragments {
  double* sum;
  double a, b;
};

}  // namespace fastgen::emulator

namespace fastgen::cuda {

inline unsigned char* shared_memory() { return emulator::shared_begin(); }

inline std::uint32_t shared_address(const void* pointer, FASTGEN_SITE) {
  return emulator::shared_offset(pointer, "shared_address", site);
}

inline void copy_async_16(std::uint32_t to, const void* from, int bytes = 16, FASTGEN_SITE) {
  emulator::copy_issue(to, from, bytes, site);
}
inline void copy_async_commit() { emulator::copy_commit(); }
template <int kPending>
inline void copy_async_wait() {
  emulator::copy_wait(kPending);
}

inline void load_matrices(std::uint32_t (&to)[4], std::uint32_t address, FASTGEN_SITE) {
  emulator::collective(
      "load_matrices", site, 0xffffffffu, &address, to,
      [site](const void* const* in, void* const* out) { emulator::load_matrices(in, out, site); });
}

inline void multiply_add(std::int32_t (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                         std::uint32_t b1, FASTGEN_SITE) {
  const emulator::Fragments fragments{sum, a, {b0, b1}};
  emulator::collective("multiply_add (int8)", site, 0xffffffffu, &fragments, sum,
                       emulator::multiply_int8);
}
inline void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                         std::uint32_t b1, FASTGEN_SITE) {
  const emulator::Fragments fragments{sum, a, {b0, b1}};
  emulator::collective("multiply_add (float16)", site, 0xffffffffu, &fragments, sum,
                       emulator::multiply_half);
}
inline void multiply_add(double (&sum)[2], double a, double b, FASTGEN_SITE) {
  const emulator::DoubleFragments fragments{sum, a, b};
  emulator::collective("multiply_add (float64)", site, 0xffffffffu, &fragments, sum,
                       emulator::multiply_double);
}
inline void multiply_add(double (&upper)[2], double (&lower)[2], double a_upper, double a_lower,
                         double b, FASTGEN_SITE) {
  multiply_add(upper, a_upper, b, site);
  multiply_add(lower, a_lower, b, site);
}

// Up to 2 ulp off the nearest float32, each x in its own way: nobody comes to rely on more than is
// promised.
inline float exp2_approximate(float x) {
  const auto nearest = static_cast<float>(std::exp2(static_cast<double>(x)));
  if (x == 0.0f || !(nearest > 0.0f) || std::isinf(nearest)) return nearest;
  const auto bits = static_cast<std::int64_t>(emulator::bits_as<std::uint32_t>(nearest));
  const std::int64_t off = emulator::bits_as<std::uint32_t>(x) * 0x9e3779b9u % 5;
  return emulator::bits_as<float>(static_cast<std::uint32_t>(
      std::min(std::max(bits + off - 2, std::int64_t{0}), std::int64_t{0x7f800000})));
}
inline float exp2_flushed(float x) {
  const float result = exp2_approximate(x);
  return result < 0x1p-126f ? 0.0f : result;
}

}  // namespace fastgen::cuda
