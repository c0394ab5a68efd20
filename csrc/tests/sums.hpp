// Kernel sums by plain long double arithmetic on all pairs, each with how much one rounding of the
// engine may move it; and the engine run to its end, with all of its answers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/kernel_sums.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using KernelOf = std::vector<KernelTerm>;
using Indices = std::vector<std::int64_t>;

inline KernelTerm polynomial(int degree, double gamma, double coef0) {
  return {Shape::polynomial, degree, gamma, coef0};
}
inline KernelTerm gaussian(double bandwidth) { return {Shape::gaussian, 0, bandwidth, 0}; }
inline KernelTerm rational_quadratic(double alpha, double length_scale) {
  return {Shape::rational_quadratic, 0, length_scale, alpha};
}
inline KernelTerm laplacian(double bandwidth) { return {Shape::laplacian, 0, bandwidth, 0}; }
inline KernelTerm energy() { return {Shape::energy, 0, 1, 0}; }

// One run of the engine.
struct SumRun {
  std::vector<KernelOf> kernels;
  Indices x, y;  // subsets, [count, size]; none: all rows
  std::int64_t count = 1;
  std::vector<std::int8_t> labels;
  bool within = true, normalise = false, float64 = false;
  int block = cpu::kTile, threads = 1;
  double seconds = 3600;
};

struct KernelResult {
  std::vector<double> row_sums[2][2], diagonal[2], shift[2], squares[2][2], forms;
};

struct SumResult {
  bool float64 = false, overflow = false;
  std::int64_t zero_row[2] = {-1, -1};
  int calls = 0;
  std::vector<KernelResult> kernels;

  // Everything in a row, to be compared to the last bit.
  std::vector<double> all() const {
    std::vector<double> values;
    const auto append = [&](const std::vector<double>& v) {
      values.insert(values.end(), v.begin(), v.end());
    };
    for (const KernelResult& kernel : kernels) {
      for (int s = 0; s < 2; ++s) {
        for (int t = 0; t < 2; ++t) {
          append(kernel.row_sums[s][t]);
          append(kernel.squares[s][t]);
        }
        append(kernel.diagonal[s]);
        append(kernel.shift[s]);
      }
      append(kernel.forms);
    }
    return values;
  }
};

inline SumResult run_sums(const cpu::Kernels& table, const Matrix& x, const Matrix* y,
                          const SumRun& run) {
  const std::int64_t count = run.count, pooled = x.n + (y ? y->n : 0);
  const auto size = [&](const Indices& chosen, std::int64_t n) {
    return chosen.empty() ? n : static_cast<std::int64_t>(chosen.size()) / count;
  };
  const SumSubsets subsets{count, size(run.x, x.n), y ? size(run.y, y->n) : 0,
                           run.x.empty() ? nullptr : run.x.data(),
                           run.y.empty() ? nullptr : run.y.data()};
  const int labels = static_cast<int>(static_cast<std::int64_t>(run.labels.size()) / pooled);
  const RowView rows = x.view(), others = y ? y->view() : RowView{};
  cpu::KernelSums engine(rows, y ? &others : nullptr, run.kernels, subsets,
                         labels ? run.labels.data() : nullptr, labels,
                         {run.within, run.normalise, run.float64, run.block, run.threads}, table);
  SumResult result;
  for (double before = 0; !engine.done(); ++result.calls) {
    const double fraction = engine.advance(run.seconds);
    CHECK(before <= fraction && fraction <= 1 && (fraction == 1) == engine.done());
    before = fraction;
  }
  result.float64 = engine.float64();
  result.overflow = engine.overflow();
  for (int s = 0; s < 2; ++s) result.zero_row[s] = engine.zero_row(s);
  if (result.overflow || result.zero_row[0] >= 0 || result.zero_row[1] >= 0) return result;
  const std::int64_t sizes[] = {subsets.x_size, subsets.y_size};
  const int sets = y ? 2 : 1;
  for (int k = 0; k < static_cast<int>(run.kernels.size()); ++k) {
    KernelResult kernel;
    for (int s = 0; s < sets; ++s) {
      for (int t = 0; t < sets; ++t) {
        if (s == t && y && !run.within) continue;
        kernel.row_sums[s][t].resize(count * sizes[s]);
        engine.row_sums(k, s, t, kernel.row_sums[s][t].data());
        if (s > t) continue;
        kernel.squares[s][t].resize(count);
        engine.squares(k, s, t, kernel.squares[s][t].data());
      }
      kernel.diagonal[s].resize(count * sizes[s]);
      engine.diagonal(k, s, kernel.diagonal[s].data());
      kernel.shift[s].resize(count * sizes[s]);
      engine.shift(k, s, kernel.shift[s].data());
    }
    kernel.forms.resize(labels);
    if (labels) engine.forms(k, kernel.forms.data());
    result.kernels.push_back(std::move(kernel));
  }
  return result;
}

// ------------------------------------------------------------------------------- by definition

using Long = long double;

// What the engine knows of the data: both sets, the rows divided by their norms if so asked.
struct Sample {
  std::int64_t d = 0, n[2] = {0, 0};
  std::vector<Long> values[2], norm[2], distance[2];  // of each row from 0 and from the centre
  Long centre_norm = 0, mean_square = 0, reach = 0;   // |z|^2 on average, largest |z|

  Sample(const Matrix& x, const Matrix* y, bool normalise) : d(x.d) {
    std::vector<Long> centre(d, 0.0L);
    const Matrix* sets[] = {&x, y};
    for (int s = 0; s < (y ? 2 : 1); ++s) {
      n[s] = sets[s]->n;
      values[s].assign(sets[s]->values.begin(), sets[s]->values.end());
      for (std::int64_t i = 0; i < n[s]; ++i) {
        Long* row = values[s].data() + i * d;
        const Long length = norm_of(row);
        norm[s].push_back(normalise ? 1 : length);
        for (std::int64_t k = 0; k < d; ++k) {
          if (normalise) row[k] /= length;
          centre[k] += row[k];
        }
      }
    }
    for (Long& c : centre) c = normalise ? 0 : c / static_cast<Long>(n[0] + n[1]);
    centre_norm = norm_of(centre.data());
    for (int s = 0; s < 2; ++s) {
      for (std::int64_t i = 0; i < n[s]; ++i) {
        // The centre of float32 products is a float32 one.
        std::vector<Long> z(d), narrow(d);
        for (std::int64_t k = 0; k < d; ++k) {
          const Long value = values[s][i * d + k];
          z[k] = value - centre[k];
          narrow[k] = std::fabs(centre[k]) < 3e38L ? value - static_cast<float>(centre[k]) : z[k];
        }
        distance[s].push_back(std::max(norm_of(z.data()), norm_of(narrow.data())));
        reach = std::max(reach, distance[s].back());
        mean_square += distance[s].back() * distance[s].back() / static_cast<Long>(n[0] + n[1]);
      }
    }
  }
  Long norm_of(const Long* row) const {
    Long sum = 0;
    for (std::int64_t k = 0; k < d; ++k) sum += row[k] * row[k];
    return std::sqrt(sum);
  }
};

struct PairValue {
  Long value = 0;
  Long error = 0;  // what a relative error of 1 in every step of the engine would come to
};

struct PairOf {
  Long product = 0, square = 0;
  Long a = 0, b = 0;  // distances of the rows from the centre
};

inline PairOf pair_of(const Sample& sample, int s, std::int64_t i, int t, std::int64_t j) {
  PairOf pair;
  const Long* x = sample.values[s].data() + i * sample.d;
  const Long* y = sample.values[t].data() + j * sample.d;
  for (std::int64_t k = 0; k < sample.d; ++k) {
    pair.product += x[k] * y[k];
    const Long difference = x[k] - y[k];
    pair.square += difference * difference;
  }
  pair.a = sample.distance[s][i];
  pair.b = sample.distance[t][j];
  return pair;
}

// exp(-y), with y off by `moved`; near 1 the engine adds up what is missing to 1.
inline PairValue decayed(Long y, Long moved, Long typical) {
  const Long value = std::exp(-y);
  return {value, value * (moved + y + 1) + (typical < 1 ? std::min(y, 1.0L) : 0)};
}

inline PairValue term_value(const KernelTerm& term, const Sample& sample, const PairOf& p) {
  // How far rounding moves a squared distance, and a distance: that of close pairs comes from the
  // rows themselves.
  const Long both = p.a * p.a + p.b * p.b, typical = 2 * sample.mean_square;
  const Long distance = std::sqrt(p.square);
  const Long moved = p.square > 0 ? std::min(both, p.square * 0x1p11L) / distance : 0;
  const Long scale = term.scale;
  switch (term.shape) {
    case Shape::polynomial: {
      const Long c = sample.centre_norm, part = scale * (p.a * p.b + c * (p.a + p.b));
      const Long base = static_cast<Long>(term.coefficient) + scale * c * c + part;
      const Long value =
          std::pow(scale * p.product + term.coefficient, static_cast<Long>(term.degree));
      return {value, term.degree * std::pow(base, static_cast<Long>(term.degree - 1)) * part};
    }
    case Shape::gaussian: {
      const Long factor = 0.5L / scale / scale;
      return decayed(factor * p.square, factor * both, factor * typical);
    }
    case Shape::rational_quadratic: {
      const Long alpha = term.coefficient, factor = 0.5L / alpha / scale / scale;
      const Long y = alpha * std::log1p(factor * p.square);
      return decayed(y, 2 * y + alpha * factor * both / (1 + factor * p.square),
                     alpha * std::log1p(factor * typical));
    }
    case Shape::laplacian:
      return decayed(distance / scale, moved / scale, std::sqrt(typical) / scale);
    default:
      return {-distance, moved + distance};
  }
}

inline PairValue kernel_value(const KernelOf& kernel, const Sample& sample, const PairOf& pair) {
  PairValue sum;
  for (const KernelTerm& term : kernel) {
    const PairValue value = term_value(term, sample, pair);
    sum.value += value.value;
    sum.error += value.error;
  }
  return sum;
}

// What the largest value of a kernel may come to in the engine's bounds.
inline Long largest_value(const KernelOf& kernel, const Sample& sample) {
  Long largest = 0;
  for (const KernelTerm& term : kernel) {
    const Long norm = sample.centre_norm + sample.reach;
    if (term.shape == Shape::polynomial) {
      largest +=
          4 * std::pow(term.coefficient + term.scale * norm * norm, static_cast<Long>(term.degree));
    } else {
      largest += term.shape == Shape::energy ? 2 * sample.reach : 1;
    }
  }
  return largest;
}

// All pairs of a problem by definition, for every kernel.
struct Reference {
  Sample sample;
  bool two;
  std::vector<KernelOf> kernels;
  std::vector<Long> largest;
  std::vector<PairValue> pairs[2][2];  // [kernels, n, m]; of (0, 0), (0, 1) and (1, 1)

  Reference(const Matrix& x, const Matrix* y, const std::vector<KernelOf>& all,
            bool normalise = false)
      : sample(x, y, normalise), two(y != nullptr), kernels(all) {
    for (const KernelOf& kernel : kernels) {
      largest.push_back(largest_value(kernel, sample));
      for (int s = 0; s < (two ? 2 : 1); ++s) {
        for (int t = s; t < (two ? 2 : 1); ++t) {
          for (std::int64_t i = 0; i < sample.n[s]; ++i) {
            for (std::int64_t j = 0; j < sample.n[t]; ++j) {
              pairs[s][t].push_back(kernel_value(kernel, sample, pair_of(sample, s, i, t, j)));
            }
          }
        }
      }
    }
  }
  const PairValue& at(std::size_t kernel, int s, std::int64_t i, int t, std::int64_t j) const {
    const std::int64_t n = sample.n[s], m = sample.n[t];
    return pairs[s][t][(static_cast<std::int64_t>(kernel) * n + i) * m + j];
  }
};

}  // namespace fastgen::test
