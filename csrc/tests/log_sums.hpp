// Blocks of samples to try the density kernels with, and what their sums are in long double, each with
// how much the roundings of one instruction set may move it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "common/memory.hpp"
#include "cpu/kernels.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {

using Long = long double;
using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Long kLn2 = 0.693147180559945309417232121458176568L;
using cpu::kNoSample;
using cpu::kPartials;
using cpu::kSpan;

template <class Real>
const cpu::LogSumKernels& log_sum_kernels(const cpu::Kernels& table) {
  return std::is_same_v<Real, float> ? table.log_sums_float : table.log_sums_double;
}

// Instruction sets whose exponential has a table, and rounds no product rate s.
inline bool has_roots(const cpu::Kernels& table) {
  const std::string name = table.name;
  return name == "amx" || name == "avx512vnni";
}

// Relative error of 2^-e, e exact: of the series 1.25 units in the last place (1.05 are seen), with a
// table 2^-22.4 (2^-22.6 are seen) and 2^-38.4.
template <class Real>
double term_error(const cpu::Kernels& table) {
  if (!has_roots(table)) return 2.5 * kRounding<Real>;
  return std::is_same_v<Real, float> ? 0x1.84p-23 : 0x1.84p-39;
}

// The same with the rounding of the product, of the exponent 2^-e and its factor ln 2, and with what is
// flushed to zero on the way.
template <class Real>
Long product_error(const cpu::Kernels& table, Long e) {
  const Long least = std::is_same_v<Real, float> ? -126 : -1022;
  return term_error<Real>(table) + std::exp2(std::min(e, 4000.0L) + least) +
         (has_roots(table) ? 0.0L : 2.02L * kLn2 * e * static_cast<Long>(kRounding<Real>));
}

inline Long total_of(const double* partials) {
  Long sum = 0;
  for (int l = 0; l < kPartials; ++l) sum += partials[l];
  return sum;
}

// A sum of terms, and how much it may be off.
struct Bounded {
  Long value = 0, error = 0;
  void add(Long term, Long relative) {
    value += term;
    error += term * relative;
  }
};

// [d, kSpan] as the kernels want it, the first `count` of them samples of weights in (0, 1].
template <class Real>
struct Block {
  int d, count;
  AlignedBuffer<Real> columns, weights;

  Block(Random& random, int features, int samples, double size)
      : d(features),
        count(samples),
        columns(std::int64_t{features} * kSpan),
        weights(std::int64_t{kSpan}) {
    for (int c = 0; c < count; ++c) {
      for (int f = 0; f < d; ++f) {
        columns[f * kSpan + c] = static_cast<Real>(size * random.normal());
      }
      weights[c] = static_cast<Real>(std::exp2(-20 * random.uniform()));
    }
  }

  template <class Row>
  Long square(const Row* row, int c) const {
    Long sum = 0;
    for (int f = 0; f < d; ++f) {
      const Long t = static_cast<Long>(row[f]) - static_cast<Long>(columns[f * kSpan + c]);
      sum += t * t;
    }
    return sum;
  }
};

template <class Real>
std::vector<Real> random_rows(Random& random, std::int64_t count, double size) {
  std::vector<Real> rows;
  for (std::int64_t i = 0; i < count; ++i)
    rows.push_back(static_cast<Real>(size * random.normal()));
  return rows;
}

// The sums of one row, bandwidth by bandwidth, before anything is known.
struct RowSums {
  std::vector<double> partials, largest;
  cpu::AnchoredSums sums;

  explicit RowSums(std::size_t bandwidths)
      : partials(bandwidths * kPartials, 0.0), largest(bandwidths, 0.0) {
    sums = {kInfinity, partials.data(), largest.data()};
  }
  RowSums(const RowSums&) = delete;
  RowSums& operator=(const RowSums&) = delete;

  Long total(int bandwidth) const { return total_of(partials.data() + bandwidth * kPartials); }
};

}  // namespace fastgen::test
