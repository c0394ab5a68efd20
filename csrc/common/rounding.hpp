// Directed rounding from double to float for values that serve as bounds.
#pragma once

#include <cmath>
#include <limits>

namespace fastgen {

// Smallest float >= value (value not NaN).
inline float round_up(double value) {
  const float f = static_cast<float>(value);
  return static_cast<double>(f) < value ? std::nextafter(f, std::numeric_limits<float>::infinity())
                                        : f;
}

// Largest float <= value (value not NaN).
inline float round_down(double value) {
  const float f = static_cast<float>(value);
  return static_cast<double>(f) > value ? std::nextafter(f, -std::numeric_limits<float>::infinity())
                                        : f;
}

}  // namespace fastgen
