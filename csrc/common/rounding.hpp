// Directed rounding from double to float for values that serve as bounds.
#pragma once

#include <cmath>
#include <limits>

#include "common/host_device.hpp"

namespace fastgen {

// Smallest float >= value (value not NaN).
FASTGEN_HOST_DEVICE inline float round_up(double value) {
#if defined(__CUDA_ARCH__)
  return __double2float_ru(value);
#else
  const float f = static_cast<float>(value);
  return static_cast<double>(f) < value ? std::nextafter(f, std::numeric_limits<float>::infinity())
                                        : f;
#endif
}

// Largest float <= value (value not NaN).
FASTGEN_HOST_DEVICE inline float round_down(double value) {
#if defined(__CUDA_ARCH__)
  return __double2float_rd(value);
#else
  const float f = static_cast<float>(value);
  return static_cast<double>(f) > value ? std::nextafter(f, -std::numeric_limits<float>::infinity())
                                        : f;
#endif
}

}  // namespace fastgen
