// Tiles of the sum engine to test with: sides made of matrices, scratch of the exact size and full
// of NaN, and the definition of what `multiply` and `along` compute, to the last bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "common/memory.hpp"
#include "cpu/kernels.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using cpu::kRun;
using cpu::kTile;
using cpu::kTileDepth;

template <class Real>
const cpu::SumKernels& sum_kernels(const cpu::Kernels& table) {
  return std::is_same_v<Real, float> ? table.sums_float : table.sums_double;
}

template <class Real>
constexpr const char* kRealName = std::is_same_v<Real, float> ? "float32" : "float64";

// Half a unit in the last place of 1.
template <class Real>
constexpr double kRounding = std::is_same_v<Real, float> ? 0x1p-24 : 0x1p-53;

// Instruction sets that round a multiplication and an addition once.
inline bool fuses(const cpu::Kernels& table) {
  const std::string name = table.name;
  return name == "amx" || name == "avx512vnni" || name == "avx2";
}

template <class T>
AlignedBuffer<T> nan_buffer(std::int64_t size) {
  AlignedBuffer<T> buffer(size);
  for (std::int64_t i = 0; i < size; ++i) buffer[i] = std::numeric_limits<T>::quiet_NaN();
  return buffer;
}

// `count` rows of a matrix on their way into a tile.
template <class Real>
struct Side {
  std::vector<const void*> rows;
  std::vector<double> factor;
  std::vector<float> spread;
  cpu::TileSide side;

  Side(const Matrix& matrix, std::int64_t begin, int count, const std::vector<double>& factors,
       const std::vector<Real>& centre, const std::vector<float>& spreads = {}) {
    for (std::int64_t i = begin; i < begin + count; ++i) {
      rows.push_back(matrix.view().row(i));
      factor.push_back(factors[i]);
      spread.push_back(spreads.empty() ? 1.0f : spreads[i]);
    }
    side = {rows.data(), factor.data(), matrix.dtype, count,
            matrix.d,    centre.data(), spread.data()};
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  // A packed block, of the exact size and full of NaN before.
  AlignedBuffer<Real> packed(const cpu::SumKernels& kernels) const {
    auto block = nan_buffer<Real>(cpu::packed_items(side.count, side.d, kernels.panel));
    kernels.pack(side, block.data());
    return block;
  }
};

// Rows in the engine's units: one rounding by the factor, one by the centre.
template <class Real>
std::vector<Real> centred_rows(const Matrix& matrix, const std::vector<double>& factors,
                               const std::vector<Real>& centre) {
  std::vector<Real> z(matrix.values.size());
  for (std::int64_t i = 0; i < matrix.n; ++i) {
    for (std::int64_t k = 0; k < matrix.d; ++k) {
      const Real value = static_cast<Real>(matrix.row(i)[k]);
      const Real scaled = value * static_cast<Real>(factors[i]);
      z[i * matrix.d + k] = scaled - centre[k];
    }
  }
  return z;
}

// The product: blocks of kTileDepth features, each a chain in ascending order, added in order.
template <class Real>
Real chained_product(const Real* x, const Real* y, std::int64_t d, bool fused) {
  Real total = 0;
  for (std::int64_t begin = 0; begin < d; begin += kTileDepth) {
    Real sum = 0;
    for (std::int64_t k = begin; k < d && k < begin + kTileDepth; ++k) {
      if (fused) {
        sum = std::fma(x[k], y[k], sum);
      } else {
        const Real product = x[k] * y[k];
        sum = product + sum;
      }
    }
    total += sum;
  }
  return total;
}

// z . centre: sixteen strided sums in float64, added in order.
template <class Real>
double strided_product(const Real* z, const Real* centre, std::int64_t d) {
  double lane[16] = {};
  for (std::int64_t i = 0; i < d; ++i) {
    const double product = static_cast<double>(z[i]) * static_cast<double>(centre[i]);
    lane[i % 16] += product;
  }
  double sum = 0;
  for (const double part : lane) sum += part;
  return sum;
}

}  // namespace fastgen::test
