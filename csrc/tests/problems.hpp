// Pairs of sets with every answer the join engine gives, by brute force over the canonical
// distance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/rows.hpp"

namespace fastgen::test {

using Ranks = std::vector<std::int64_t>;

struct Neighbours {
  Ranks ranks;
  std::vector<double> sq;             // [n, ranks]
  std::vector<std::int64_t> indices;  // [n, ranks]
};

// Ties by index, self left out by index: the definition.
inline Neighbours brute_neighbours(const Matrix& x, const Matrix* y, const Ranks& ranks) {
  const Matrix& other = y ? *y : x;
  Neighbours found{ranks, {}, {}};
  std::vector<std::pair<double, std::int64_t>> row(static_cast<std::size_t>(other.n));
  for (std::int64_t i = 0; i < x.n; ++i) {
    row.clear();
    for (std::int64_t j = 0; j < other.n; ++j) {
      if (y || i != j) row.emplace_back(canonical(x.row(i), other.row(j), x.d), j);
    }
    std::partial_sort(row.begin(), row.begin() + ranks.back(), row.end());
    for (const std::int64_t rank : ranks) {
      found.sq.push_back(row[rank - 1].first);
      found.indices.push_back(row[rank - 1].second);
    }
  }
  return found;
}

struct BallCounts {
  std::vector<std::int64_t> y_in_x, x_balls_of_y;  // [radii, n], [radii, m]
  std::vector<std::int64_t> x_in_y, y_balls_of_x;  // [radii, m], [radii, n]
};

// What a join of x and y is asked, and what it must answer.
struct Problem {
  std::string name;
  Matrix x, y;
  std::vector<double> sq;  // [n, m] canonical distances
  Neighbours self, cross;  // `self` has no ranks where x has one row
  std::int64_t radii = 0;
  std::vector<double> radii_x, radii_y;  // squares, [radii, n] and [radii, m]
  BallCounts closed, open;
  std::vector<double> ratio_radii, ratios;  // [n] with NaN, [m]

  // Radii that differ among identical rows.
  std::vector<double> own_x, own_y;
  BallCounts own;
  std::vector<double> own_ratios;
};

inline BallCounts brute_balls(const Problem& p, const std::vector<double>& radii_x,
                              const std::vector<double>& radii_y, bool closed) {
  const std::int64_t n = p.x.n, m = p.y.n, radii = static_cast<std::int64_t>(radii_x.size()) / n;
  BallCounts counts;
  counts.y_in_x.assign(radii * n, 0);
  counts.y_balls_of_x = counts.y_in_x;
  counts.x_in_y.assign(radii * m, 0);
  counts.x_balls_of_y = counts.x_in_y;
  for (std::int64_t r = 0; r < radii; ++r) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < m; ++j) {
        const double sq = p.sq[i * m + j], a = radii_x[r * n + i], b = radii_y[r * m + j];
        const bool in_x = closed ? sq <= a : sq < a, in_y = closed ? sq <= b : sq < b;
        counts.y_in_x[r * n + i] += in_x;
        counts.x_balls_of_y[r * m + j] += in_x;
        counts.x_in_y[r * m + j] += in_y;
        counts.y_balls_of_x[r * n + i] += in_y;
      }
    }
  }
  return counts;
}

inline std::vector<double> brute_ratios(const Problem& p, const std::vector<double>& sq_radii) {
  std::vector<double> ratios(static_cast<std::size_t>(p.y.n), 0.0);
  for (std::int64_t i = 0; i < p.x.n; ++i) {
    if (std::isnan(sq_radii[i])) continue;
    for (std::int64_t j = 0; j < p.y.n; ++j) {
      const double sq = p.sq[i * p.y.n + j];
      double ratio = sq_radii[i] / sq;
      if (sq == 0) ratio = sq_radii[i] > 0 ? std::numeric_limits<double>::infinity() : 1.0;
      ratios[j] = std::max(ratios[j], ratio);
    }
  }
  return ratios;
}

// Of the wanted ranks those that exist, and the last one of all when there are few rows.
inline Ranks possible_ranks(const Ranks& wanted, std::int64_t available) {
  Ranks ranks;
  for (const std::int64_t rank : wanted) {
    if (rank <= available) ranks.push_back(rank);
  }
  if (available <= 40 && available > 0) ranks.push_back(available);
  return ranks;
}

// Radii of a set: distances to near rows of the same set, then to some row of the other, both ties.
inline std::vector<double> some_radii(const Problem& p, const Matrix& set, const Neighbours& self,
                                      bool first) {
  std::vector<double> radii;
  for (std::int64_t i = 0; i < set.n; ++i)
    radii.push_back(self.sq.empty() ? 0.0 : self.sq[i * self.ranks.size()]);
  for (std::int64_t i = 0; i < set.n; ++i) {
    // The same for identical rows: their first neighbours' distances do not tell them apart.
    const std::int64_t j = static_cast<std::int64_t>(p.sq.size()) / set.n / 3;
    radii.push_back(first ? p.sq[i * p.y.n + j] : p.sq[j * p.y.n + i]);
  }
  return radii;
}

inline Problem make_problem(const std::string& name, Matrix x, Matrix y,
                            const Ranks& wanted = {1, 1, 4}) {
  Problem p;
  p.name = name;
  p.x = std::move(x);
  p.y = std::move(y);
  const std::int64_t n = p.x.n, m = p.y.n;
  p.sq.reserve(static_cast<std::size_t>(n * m));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < m; ++j) p.sq.push_back(canonical(p.x.row(i), p.y.row(j), p.x.d));
  }
  if (n > 1) p.self = brute_neighbours(p.x, nullptr, possible_ranks(wanted, n - 1));
  p.cross = brute_neighbours(p.x, &p.y, possible_ranks(wanted, m));
  Neighbours y_self;
  if (m > 1 && m < 2000)
    y_self = brute_neighbours(p.y, nullptr, {std::min<std::int64_t>(m - 1, 3)});
  p.radii = 2;
  p.radii_x = some_radii(p, p.x, p.self, true);
  p.radii_y = some_radii(p, p.y, y_self, false);
  p.closed = brute_balls(p, p.radii_x, p.radii_y, true);
  p.open = brute_balls(p, p.radii_x, p.radii_y, false);

  // Realism leaves out rows above the median radius.
  p.ratio_radii.assign(p.radii_x.begin(), p.radii_x.begin() + n);
  std::vector<double> sorted = p.ratio_radii;
  std::nth_element(sorted.begin(), sorted.begin() + n / 2, sorted.end());
  for (double& radius : p.ratio_radii) {
    if (radius > sorted[n / 2]) radius = std::numeric_limits<double>::quiet_NaN();
  }
  p.ratios = brute_ratios(p, p.ratio_radii);

  Random random(77);
  for (std::int64_t i = 0; i < n; ++i) p.own_x.push_back(p.sq[i * m + random.below(m)]);
  for (std::int64_t j = 0; j < m; ++j) p.own_y.push_back(p.sq[random.below(n) * m + j]);
  p.own = brute_balls(p, p.own_x, p.own_y, true);
  p.own_ratios = brute_ratios(p, p.own_x);
  return p;
}

}  // namespace fastgen::test
