// Matrices to test with: values rounded to a type, the bytes the engine sees, and literal
// definitions of half precision and of the canonical squared distance.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/rows.hpp"
#include "cpu/dispatch.hpp"

namespace fastgen::test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t bits() { return engine_(); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double normal() { return normal_(engine_); }
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n));
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

// IEEE half precision by its definition.
inline double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = 0;
  if (exponent == 31) {
    size = fraction ? std::numeric_limits<double>::quiet_NaN()
                    : std::numeric_limits<double>::infinity();
  } else {
    size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  }
  return bits & 0x8000 ? -size : size;
}

// The nearest half; values beyond the largest become the largest.
inline std::uint16_t to_half(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fmin(std::fabs(value), 65504.0);
  if (size == 0) return sign;
  const int exponent = std::max(std::ilogb(size), -14);
  const int fraction = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  // A fraction below 1024 is subnormal, one of 2048 carries into the exponent.
  return static_cast<std::uint16_t>(sign + ((exponent + 14) << 10) + fraction);
}

// Rounds to the type and writes it; what was written, as float64.
inline double store(double value, DType dtype, unsigned char* out) {
  if (dtype == DType::float16) {
    const std::uint16_t half = to_half(value);
    std::memcpy(out, &half, 2);
    return half_value(half);
  }
  if (dtype == DType::float32) {
    const float single = static_cast<float>(value);
    std::memcpy(out, &single, 4);
    return static_cast<double>(single);
  }
  std::memcpy(out, &value, 8);
  return value;
}

inline const char* name_of(DType dtype) {
  return dtype == DType::float16 ? "float16" : dtype == DType::float32 ? "float32" : "float64";
}

enum class Layout { dense, padded, reversed };

struct Matrix {
  DType dtype = DType::float32;
  std::int64_t n = 0, d = 0, stride = 0;
  Layout layout = Layout::dense;
  std::vector<unsigned char> bytes;
  std::vector<double> values;  // [n, d], what the rows hold

  const double* row(std::int64_t i) const { return values.data() + i * d; }
  RowView view() const {
    if (layout != Layout::reversed) return {bytes.data(), dtype, n, d, stride};
    return {bytes.data() + (n - 1) * stride, dtype, n, d, -stride};
  }
};

inline Matrix make_matrix(const std::vector<double>& values, std::int64_t d, DType dtype,
                          Layout layout = Layout::dense) {
  Matrix matrix;
  matrix.dtype = dtype;
  matrix.d = d;
  matrix.n = static_cast<std::int64_t>(values.size()) / d;
  matrix.layout = layout;
  matrix.stride = (d + (layout == Layout::padded ? 3 : 0)) * item_size(dtype);
  // No padding after the last row: the sanitizer sees reads past its end.
  const std::int64_t size =
      matrix.n > 0 ? (matrix.n - 1) * matrix.stride + d * item_size(dtype) : 0;
  matrix.bytes.assign(static_cast<std::size_t>(size), 0xff);  // NaN
  matrix.values.resize(values.size());
  for (std::int64_t i = 0; i < matrix.n; ++i) {
    const std::int64_t place = layout == Layout::reversed ? matrix.n - 1 - i : i;
    for (std::int64_t j = 0; j < d; ++j) {
      matrix.values[i * d + j] =
          store(values[i * d + j], dtype,
                matrix.bytes.data() + place * matrix.stride + j * item_size(dtype));
    }
  }
  return matrix;
}

inline std::vector<double> normals(Random& random, std::int64_t count, double size = 1.0) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = size * random.normal();
  return values;
}

// The definition in csrc/README.md, to the letter.
inline double canonical(const double* x, const double* y, std::int64_t d) {
  double lane[32] = {};
  for (std::int64_t i = 0; i < d; ++i) {
    const double t = x[i] - y[i];
    const double p = t * t;
    lane[i % 32] += p;
  }
  for (int w = 16; w >= 1; w /= 2) {
    for (int j = 0; j < w; ++j) lane[j] += lane[j + w];
  }
  return lane[0];
}

inline std::vector<const cpu::Kernels*> all_kernels() {
  std::vector<const cpu::Kernels*> tables;
  for (const std::string& name : cpu::instruction_sets()) {
    tables.push_back(&cpu::select_kernels(name));
  }
  return tables;
}

}  // namespace fastgen::test
