// Logarithms of Gaussian-kernel sums by definition, and the density engine run to its end.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cpu/density.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using Long = long double;
using Values = std::vector<double>;
using cpu::DensityPath;

inline const char* name_of(DensityPath path) {
  switch (path) {
    case DensityPath::automatic:
      return "automatic";
    case DensityPath::direct:
      return "direct";
    case DensityPath::ordered:
      return "ordered";
    default:
      return "tiles";
  }
}

// Those that a width has, besides the automatic choice.
inline std::vector<DensityPath> paths_of(std::int64_t d) {
  std::vector<DensityPath> paths = {DensityPath::tiles};
  if (d <= cpu::kDirectFeatures) paths.push_back(DensityPath::direct);
  if (d <= cpu::kOrderedFeatures) paths.push_back(DensityPath::ordered);
  return paths;
}

struct Densities {
  Matrix points, samples;
  Values bandwidths, weights;  // none: all 1
  bool leave_one_out = false;  // then points are the samples
};

inline Values grid(double ratio, int count, double middle) {
  Values bandwidths;
  for (int i = 0; i < count; ++i) bandwidths.push_back(middle * std::pow(ratio, i - count / 2));
  return bandwidths;
}

inline Values some_weights(Random& random, std::int64_t n, double lightest) {
  Values weights;
  for (std::int64_t i = 0; i < n; ++i) weights.push_back(std::pow(lightest, random.uniform()));
  weights[random.below(n)] = 1;
  return weights;
}

// AMX has the sums of AVX-512.
inline std::vector<const cpu::Kernels*> tables() {
  std::vector<const cpu::Kernels*> all = all_kernels();
  if (std::string(all[0]->name) == "amx") all.erase(all.begin());
  return all;
}

// Instruction sets in turns.
inline std::vector<const cpu::Kernels*> one_table() {
  static std::size_t turn = 0;
  return {tables()[++turn % tables().size()]};
}

inline std::string describe(const Densities& problem) {
  return show(problem.points.n) + " points, " + show(problem.samples.n) + " samples, d " +
         show(problem.samples.d) + " " + name_of(problem.samples.dtype) +
         (problem.weights.empty() ? "" : " weighted") +
         (problem.leave_one_out ? " without self" : "") + ", " + show(problem.bandwidths.size()) +
         " bandwidths";
}

// Everything by definition.
struct DensityReference {
  std::vector<Long> logs, nearest, share;  // [n, bandwidths]: of the nearest sample's exponent, and
                                           // of the largest term in the sum

  explicit DensityReference(const Densities& problem) {
    const Matrix &x = problem.points, &y = problem.samples;
    std::vector<Long> squares(y.n);
    for (std::int64_t i = 0; i < x.n; ++i) {
      Long least = std::numeric_limits<Long>::infinity();
      for (std::int64_t j = 0; j < y.n; ++j) {
        Long square = 0;
        for (std::int64_t f = 0; f < x.d; ++f) {
          const Long t = static_cast<Long>(x.row(i)[f]) - static_cast<Long>(y.row(j)[f]);
          square += t * t;
        }
        squares[j] = square;
        if (!problem.leave_one_out || i != j) least = std::min(least, square);
      }
      for (const double bandwidth : problem.bandwidths) {
        const Long rate = 0.5L / bandwidth / bandwidth;
        Long sum = 0, largest = 0;
        for (std::int64_t j = 0; j < y.n; ++j) {
          const double e = static_cast<double>((squares[j] - least) * rate);
          if ((problem.leave_one_out && i == j) || e > 700) continue;
          // Exponentials in double: 2^-52 of what is to be checked to 2^-33.
          const Long weight = problem.weights.empty() ? 1.0L : Long{problem.weights[j]};
          const Long term = weight * std::exp(-e);
          sum += term;
          largest = std::max(largest, term);
        }
        logs.push_back(std::log(sum) - (sum > 0 ? least * rate : 0));
        nearest.push_back(sum > 0 ? least * rate : 0);
        share.push_back(sum > 0 ? largest / sum : 0);
      }
    }
  }
};

struct DensityRun {
  DensityPath path = DensityPath::automatic;
  int threads = 1;
  double seconds = 3600;
};

struct DensityResult {
  Values logs;                          // [n, bandwidths]
  std::vector<std::int64_t> dominated;  // [bandwidths]
  Values shares;                        // [n, bandwidths] of what dominates; none: not asked for
  std::int64_t calls = 0;
};

inline DensityResult run_density(const cpu::Kernels& table, const Densities& problem,
                                 const DensityRun& run) {
  constexpr std::int64_t kLimit = 100000;
  cpu::LogSums engine(problem.points.view(), problem.samples.view(), problem.bandwidths,
                      problem.weights.empty() ? nullptr : problem.weights.data(),
                      problem.leave_one_out, run.path, table, run.threads);
  DensityResult result;
  double fraction = 0;
  bool rises = true;
  while (!engine.done() && result.calls < kLimit) {
    const double now = engine.advance(run.seconds);
    rises = rises && fraction <= now && now <= 1 && engine.done() == (now == 1);
    fraction = now;
    ++result.calls;
  }
  CHECK(rises);
  CHECK(engine.done());
  CHECK_EQUAL(engine.advance(run.seconds), 1.0);  // and stays there
  if (!engine.done()) return result;
  result.logs.assign(problem.points.n * problem.bandwidths.size(), -5.0);
  result.dominated.assign(problem.bandwidths.size(), -5);
  engine.log_sums(result.logs.data());
  engine.dominated(result.dominated.data());
  return result;
}

// The largest share of the bound that was seen.
inline double share_seen[2] = {0, 0};

// Within 1e-5 (float64: 1e-10) and 2^-44 of the nearest sample's exponent.
inline void check_density(const DensityReference& want, const DensityResult& got,
                          const Densities& problem) {
  const bool wide = problem.samples.dtype == DType::float64;
  const std::size_t bandwidths = problem.bandwidths.size();
  double worst = 0;
  std::size_t place = 0;
  std::vector<std::int64_t> least(bandwidths, 0), most(bandwidths, 0), shares_count(bandwidths, 0);
  double share_worst = 0;
  for (std::size_t i = 0; i < want.logs.size() && i < got.logs.size(); ++i) {
    const Long limit = (wide ? 1e-10L : 1e-5L) + 0x1p-44L * want.nearest[i];
    const Long off = want.logs[i] < -1.7e308L ? (got.logs[i] < -1.7e308 ? 0.0L : 1e30L)
                                              : std::fabs(got.logs[i] - want.logs[i]);
    const double share = static_cast<double>(off / limit);
    if (!(share <= worst)) {
      worst = std::isnan(share) ? 1e30 : share;
      place = i;
    }
    // Which sample is the nearest is not known where exponents are that large, and there may be none.
    const bool known = 0x1p-44L * want.nearest[i] < 1e-5L;
    least[i % bandwidths] += known && want.share[i] > 0.5001L;
    most[i % bandwidths] += !known || want.share[i] > 0.4999L;
    if (got.shares.empty()) continue;
    const double got_share = got.shares[i];
    shares_count[i % bandwidths] += got_share > 0;
    const Long share_off = std::fabs(got_share - want.share[i]);
    if (known && got_share > 0) share_worst = std::max(share_worst, static_cast<double>(share_off));
  }
  share_seen[wide] = std::max(share_seen[wide], worst);
  CHECK_EQUAL(got.logs.size(), want.logs.size());
  if (got.logs.size() != want.logs.size()) return;
  const About about("point " + show(place / bandwidths) + " bandwidth " +
                    show(problem.bandwidths[place % bandwidths]) + " got " + show(got.logs[place]) +
                    ", want " + show(static_cast<double>(want.logs[place])) + " exponent " +
                    show(static_cast<double>(want.nearest[place])));
  CHECK_AT_MOST(worst, 1.0);
  // Off by what the exponents of both are.
  CHECK_AT_MOST(share_worst, 2e-5);
  if (!got.shares.empty()) CHECK_ARRAYS(shares_count, got.dominated);
  for (std::size_t b = 0; b < bandwidths; ++b) {
    const About dominated("dominated at bandwidth " + show(problem.bandwidths[b]));
    CHECK_AT_MOST(static_cast<double>(least[b]), static_cast<double>(got.dominated[b]));
    CHECK_AT_MOST(static_cast<double>(got.dominated[b]), static_cast<double>(most[b]));
  }
}

// Every path by every instruction set, in turns with several threads and interruptions.
inline void check_paths(const Densities& problem,
                        const std::vector<const cpu::Kernels*>& tables = all_kernels()) {
  const DensityReference want(problem);
  int turn = 0;
  for (const cpu::Kernels* table : tables) {
    for (const DensityPath path : paths_of(problem.samples.d)) {
      ++turn;
      const About about(std::string(table->name) + " " + name_of(path));
      check_density(want,
                    run_density(*table, problem, {path, 1 + turn % 3, turn % 2 ? 0.0 : 3600.0}),
                    problem);
    }
  }
}

}  // namespace fastgen::test
