// Answers of the sum engine against their definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {

// Largest errors, in roundings (2^-24 or 2^-53) of what one rounding in every step may move a result
// by: 4.7 are seen, of rows that are hard on the arithmetic, 4 of unit vectors, else 2.
constexpr double kLimit = 8;
inline double roundings_seen = 0;

// Compares |got - want| with roundings of `error`; `least` is what the products do not account for.
// Of the answers for one kernel the first that is wrong is reported.
struct Closeness {
  double rounding;
  bool failed = false;

  void check(const char* what, double got, Long want, Long error, Long least) {
    const Long off = std::max(std::fabs(got - want) - 0x1p-1000L, 0.0L);  // squares may vanish
    const Long roundings = off <= least ? 0 : (off - least) / (error * rounding);
    if (roundings <= kLimit) {
      roundings_seen = std::max(roundings_seen, static_cast<double>(roundings));
      ++passed;
    } else if (!failed) {
      failed = true;
      const About about(std::string(what) + " got " + show(got) + ", want " +
                        show(static_cast<double>(want)));
      CHECK_AT_MOST(static_cast<double>(roundings), kLimit);
    }
  }
};

// Rows `index` of one subset, or all.
inline Indices rows_of(const Indices& index, std::int64_t subset, std::int64_t count,
                       std::int64_t n) {
  Indices rows;
  const std::int64_t size = index.empty() ? n : static_cast<std::int64_t>(index.size()) / count;
  for (std::int64_t i = 0; i < size; ++i) {
    rows.push_back(index.empty() ? i : index[subset * size + i]);
  }
  return rows;
}

struct Sum {
  Long value = 0, error = 0, rest = 0;
  void add(Long v, Long e, Long r) {
    value += v;
    error += e;
    rest += r;
  }
};

// Every answer for one kernel and one subset.
inline void check_kernel(const Reference& want, std::size_t kernel, const KernelResult& got,
                         const SumRun& run, std::int64_t subset, double rounding) {
  const int sets = want.two ? 2 : 1;
  Closeness close{rounding};
  const Long largest = want.largest[kernel];
  Indices rows[2];
  std::int64_t n[2] = {0, 0}, begin[2] = {0, 0};
  for (int s = 0; s < sets; ++s) {
    rows[s] = rows_of(s == 0 ? run.x : run.y, subset, run.count, want.sample.n[s]);
    n[s] = static_cast<std::int64_t>(rows[s].size());
    begin[s] = subset * n[s];
  }
  // The grids of runs of 64 values end at 2^-66 of the largest.
  const Long finest = largest * 0x1p-66L;
  const std::int64_t all = n[0] + n[1];
  std::vector<Sum> forms(got.forms.size());
  for (int s = 0; s < sets; ++s) {
    const double* h = got.shift[s].data() + begin[s];
    for (int t = s; t < sets; ++t) {
      if (s == t && want.two && !run.within) continue;
      const double* g = got.shift[t].data() + begin[t];
      std::vector<Sum> row_sums(n[s]), column_sums(n[t]);
      Sum squares;
      for (std::int64_t i = 0; i < n[s]; ++i) {
        for (std::int64_t j = 0; j < n[t]; ++j) {
          const PairValue& k = want.at(kernel, s, rows[s][i], t, rows[t][j]);
          const Long value = k.value - h[i] - g[j], size = std::fabs(value);
          // What the shifts and the sums are rounded by.
          const Long rest =
              0x1p-50L * (std::fabs(k.value) + std::fabs(h[i]) + std::fabs(g[j]) + size);
          row_sums[i].add(value, k.error, rest);
          column_sums[j].add(value, k.error, rest);
          squares.add(value * value, 2 * size * k.error + 4 * rounding * k.error * k.error,
                      3 * size * rest);
          for (std::size_t l = 0; l < forms.size(); ++l) {
            const std::int8_t* w = run.labels.data() + static_cast<std::int64_t>(l) * all;
            const int sign = w[s * n[0] + i] * w[t * n[0] + j] * (s == t ? 1 : 2);
            // 64 values are added in the products' type.
            forms[l].add(sign * value, 2 * (k.error + 8 * size), 2 * (rest + finest));
          }
          if (s == t && i == j) {
            close.check("diagonal", got.diagonal[s][begin[s] + i], value, k.error, rest);
          }
        }
      }
      const auto check_rows = [&](int a, int b, const std::vector<Sum>& sums) {
        for (std::int64_t i = 0; i < n[a]; ++i) {
          close.check("row sum", got.row_sums[a][b][begin[a] + i], sums[i].value, sums[i].error,
                      sums[i].rest + finest * static_cast<Long>(n[b] + 1));
        }
      };
      check_rows(s, t, row_sums);
      if (s != t) check_rows(t, s, column_sums);
      close.check("squares", got.squares[s][t][subset], squares.value, squares.error,
                  squares.rest + finest * largest * static_cast<Long>(n[s] * (n[t] + 1)));
    }
  }
  for (std::size_t l = 0; l < forms.size(); ++l) {
    close.check("form", got.forms[l], forms[l].value, forms[l].error, forms[l].rest);
  }
}

// Runs the engine and checks all of its answers by definition.
inline SumResult check_run(const cpu::Kernels& table, const Matrix& x, const Matrix* y,
                           const Reference& want, SumRun run, bool float64) {
  run.kernels = want.kernels;
  SumResult got = run_sums(table, x, y, run);
  CHECK_EQUAL(got.float64, float64);
  CHECK(!got.overflow && got.zero_row[0] < 0 && got.zero_row[1] < 0);
  for (std::size_t k = 0; k < got.kernels.size(); ++k) {
    for (std::int64_t g = 0; g < run.count; ++g) {
      const About about("kernel " + show(k) + " subset " + show(g));
      check_kernel(want, k, got.kernels[k], run, g, got.float64 ? 0x1p-53 : 0x1p-24);
    }
  }
  return got;
}

// A set alone, and against a copy of itself.
inline void check_same_set_twice(const SumResult& alone, const SumResult& both) {
  for (std::size_t k = 0; k < alone.kernels.size(); ++k) {
    const KernelResult &a = alone.kernels[k], &b = both.kernels.at(k);
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < 2; ++t) CHECK_ARRAYS(b.row_sums[s][t], a.row_sums[0][0]);
      CHECK_ARRAYS(b.diagonal[s], a.diagonal[0]);
      CHECK_ARRAYS(b.shift[s], a.shift[0]);
      CHECK_ARRAYS(b.squares[s][s], a.squares[0][0]);
    }
  }
}

// Two sets, and the same in the other order.
inline void check_either_order(const SumResult& one, const SumResult& other) {
  for (std::size_t k = 0; k < one.kernels.size(); ++k) {
    const KernelResult &a = one.kernels[k], &b = other.kernels.at(k);
    for (int s = 0; s < 2; ++s) {
      for (int t = 0; t < 2; ++t) CHECK_ARRAYS(a.row_sums[s][t], b.row_sums[1 - s][1 - t]);
      CHECK_ARRAYS(a.diagonal[s], b.diagonal[1 - s]);
      CHECK_ARRAYS(a.shift[s], b.shift[1 - s]);
      CHECK_ARRAYS(a.squares[s][s], b.squares[1 - s][1 - s]);
    }
  }
}

}  // namespace fastgen::test
