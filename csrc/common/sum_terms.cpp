#include "common/sum_terms.hpp"

#include <algorithm>
#include <cmath>

namespace fastgen {

namespace {

constexpr double kSteepest = 1e300;

// The kernel's argument below 1, where it falls to about 1 / e at 1, for a squared distance.
double decay(const SumTerm& term, double square) {
  switch (term.shape) {
    case Shape::gaussian:
      return -term.scale * square;
    case Shape::rational_quadratic:
      return term.exponent * std::log1p(term.scale * square);
    case Shape::laplacian:
      return -term.scale * std::sqrt(square);
    default:
      return 0;
  }
}

// Share of |z|^2 below which squared distances matter to the kernel; 0 where there is no such edge.
double square_width(const SumTerm& term) {
  switch (term.shape) {
    case Shape::gaussian:
      return -1 / term.scale;
    case Shape::rational_quadratic:
      return 1 / term.scale;
    case Shape::laplacian:
      return 1 / (term.scale * term.scale);
    default:
      return 0;
  }
}

}  // namespace

SumTerm resolve_term(const KernelTerm& given, const SumData& data) {
  SumTerm term{given.shape, given.degree, false, 0, 0, 0};
  const double length = given.scale * data.unit;
  switch (given.shape) {
    case Shape::polynomial:
      term.scale = given.scale / data.unit / data.unit;
      term.offset = term.scale * data.centre_square + given.coefficient;
      return term;
    case Shape::gaussian:
      term.scale = -0.5 / length / length;
      break;
    case Shape::rational_quadratic:
      term.scale = 0.5 / given.coefficient / length / length;
      term.exponent = given.coefficient;
      break;
    case Shape::laplacian:
      term.scale = -1 / length;
      break;
    case Shape::energy:
      term.scale = -1 / data.unit;
      break;
  }
  // A kernel narrower than any distance is 0 away from it, and never infinity times 0.
  term.scale = std::max(-kSteepest, std::min(kSteepest, term.scale));
  // Two rows are 2 |z|^2 apart on average. Near 1 the kernel's deviation from 1 carries its digits,
  // near 0 its own value does.
  term.less_one = term.shape != Shape::energy && decay(term, 2 * data.mean_square) < 1;
  return term;
}

bool needs_distances(const SumTerm& term) { return term.shape != Shape::polynomial; }

bool needs_look(const SumTerm& term, const SumData& data, bool float64) {
  if (term.shape == Shape::laplacian || term.shape == Shape::energy) return true;
  return float64 && needs_distances(term) && square_width(term) < 0x1p-12 * data.mean_square;
}

bool needs_float64(const SumTerm& term, const SumData& data) {
  // A product's rounding, 2^-24 of |z|^2, moves a kernel of width 2^-6 |z|^2 by 2^-18 of its value.
  if (needs_distances(term) && term.shape != Shape::energy &&
      square_width(term) < 0x1p-6 * data.mean_square) {
    return true;
  }
  double largest = 0;
  for (int s = 0; s < 2; ++s) {
    for (int t = 0; t < 2; ++t) {
      largest =
          std::max(largest, term_bound(term, data.peak_square[s], data.peak_along[s], data, t));
    }
  }
  const double scale = std::fabs(term.scale);
  return largest > 0x1p100 || (largest < 0x1p-60 && largest > 0) || scale > 0x1p100 ||
         scale < 0x1p-100;
}

double term_bound(const SumTerm& term, double square, double along, const SumData& data,
                  int other) {
  constexpr double kRounding = 1.01;  // of float32 products and values
  const double reach = std::sqrt(square) + std::sqrt(data.peak_square[other]);
  if (term.shape == Shape::polynomial) {
    const double inner = std::sqrt(square) * std::sqrt(data.peak_square[other]);
    const double base =
        std::fabs(term.offset) +
        term.scale * (std::fabs(along) + data.peak_along[other] + inner * kRounding);
    return 4 * std::pow(base, term.degree) * kRounding;
  }
  if (term.shape == Shape::energy) return -term.scale * reach * kRounding;
  return term.less_one ? std::min(1.0, decay(term, reach * reach) * kRounding) : 1.0;
}

double term_shift(const SumTerm& term, double along) {
  if (term.shape == Shape::polynomial) {
    return std::pow(term.offset + term.scale * along, term.degree) -
           0.5 * std::pow(term.offset, term.degree);
  }
  return term.less_one ? 0.5 : 0.0;
}

}  // namespace fastgen
