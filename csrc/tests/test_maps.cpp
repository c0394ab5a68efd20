// Kernel values of the sum engine against long double, for every instruction set: the elementary
// functions within their bounds in units in the last place, polynomials within a bound that nothing
// cancels in, and those exactly symmetric.
//
// Largest errors seen on 9 10^6 arguments, in units in the last place of float32 and float64:
// exp 1.05 and 0.99, expm1 0.85 and 1.15, log1p 2.8 and 2.8 (as expm1 of a tiny multiple of it),
// expm1(-log1p) 4.0 and 3.5.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cpu/kernels.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {
namespace {

// Wide enough that the four powers of a centred polynomial may cancel.
#if defined(__x86_64__)
__extension__ typedef __float128 Wide;
#else
typedef long double Wide;
#endif

// One pair: its product, squared distance, and both rows along the centre.
template <class Real>
struct Pair {
  Real product, square, row_along, column_along;
};

// Kernel values of pairs with one column_along, each from a tile of one column: the limbs of a row's
// sum, on a grid fitted to the value that is expected, hold it exactly.
template <class Real>
std::vector<double> values_of(const cpu::Kernels& table, const SumTerm& term,
                              const std::vector<Pair<Real>>& pairs,
                              const std::vector<double>& expected) {
  // NaN wherever the tile has no pair.
  AlignedBuffer<Real> products = nan_buffer<Real>(kTile * kTile);
  AlignedBuffer<Real> values = nan_buffer<Real>(kTile),
                      scratch = nan_buffer<Real>(cpu::kSumScratch);
  AlignedBuffer<double> partials = nan_buffer<double>(8 * kTile);
  AlignedBuffer<double> run_sums = nan_buffer<double>(kTile / kRun * kTile);
  std::vector<double> square(kTile), row_along(kTile), scale(kTile), diagonal(kTile);
  // A grid of 0 for what is not looked at.
  const std::vector<double> nothing(kRun, 0.0);
  std::vector<std::int64_t> high(kTile), low(kTile), column_high(kTile), column_low(kTile);
  std::vector<double> column_along(kRun, std::numeric_limits<double>::quiet_NaN());
  std::vector<double> found;
  for (std::size_t begin = 0; begin < pairs.size(); begin += kTile) {
    const int count = static_cast<int>(std::min<std::size_t>(kTile, pairs.size() - begin));
    for (int r = 0; r < count; ++r) {
      const Pair<Real>& pair = pairs[begin + r];
      products[r * kTile] = pair.product;
      square[r] = static_cast<double>(pair.square);
      row_along[r] = static_cast<double>(pair.row_along);
      const double size = std::fabs(expected[begin + r]);
      scale[r] = size > 0 ? std::ldexp(1.0, std::min(35 - std::ilogb(size), 1000)) : 1.0;
    }
    column_along[0] = static_cast<double>(pairs[begin].column_along);
    cpu::Tile tile{};
    tile.row_count = count;
    tile.column_count = 1;
    tile.d = 1;
    tile.products = products.data();
    cpu::SumTile sums{};
    sums.tile = &tile;
    sums.rows.count = count;
    sums.columns.count = 1;
    sums.terms = &term;
    sums.term_count = 1;
    sums.distances = term.shape != Shape::polynomial;
    sums.row_square = square.data();
    sums.column_square = nothing.data();
    sums.row_along = row_along.data();
    sums.column_along = column_along.data();
    sums.row_scale = scale.data();
    sums.column_scale = nothing.data();
    sums.square_scale = sums.form_scale = 0;
    sums.values = values.data();
    sums.scratch = scratch.data();
    sums.partials = partials.data();
    sums.run_sums = run_sums.data();
    sums.row_sums = {high.data(), low.data()};
    sums.column_sums = {column_high.data(), column_low.data()};
    sums.diagonal = diagonal.data();
    sum_kernels<Real>(table).sum(&sums);
    for (int r = 0; r < count; ++r) {
      found.push_back(static_cast<double>(high[r]) / scale[r] +
                      static_cast<double>(low[r]) * 0x1p-37 / scale[r]);
    }
  }
  return found;
}

// Kernels of a squared distance: nothing but the square varies.
template <class Real>
std::vector<double> values_of(const cpu::Kernels& table, const SumTerm& term,
                              const std::vector<Real>& squares,
                              const std::vector<double>& expected) {
  std::vector<Pair<Real>> pairs;
  for (const Real square : squares) pairs.push_back({0, square, 0, 0});
  return values_of(table, term, pairs, expected);
}

// |got - want| in units in the last place of the wanted number.
template <class Real>
double units(double got, long double want) {
  if (got != got) return std::numeric_limits<double>::infinity();
  using Limits = std::numeric_limits<Real>;
  const int exponent =
      want == 0 ? Limits::min_exponent - 1 : std::max(std::ilogb(want), Limits::min_exponent - 1);
  return static_cast<double>(std::fabs(got - want) /
                             std::ldexp(1.0L, exponent - (Limits::digits - 1)));
}

// Arguments of both signs of every size that the functions tell apart, without repetition.
template <class Real>
std::vector<Real> arguments(double least, double largest) {
  Random random(1);
  std::vector<Real> found = {0};
  const int count = kEmulated ? 1000 : 10000;
  for (int i = 0; i < count; ++i) {
    found.push_back(static_cast<Real>(least * std::pow(largest / least, random.uniform())));
  }
  for (int i = 0; i < count / 4; ++i) {
    found.push_back(static_cast<Real>(largest * random.uniform()));
    // Where the reduced argument changes sign or size, and next to powers of two.
    const double edge = 0.5 * static_cast<double>(1 + random.below(2400)) * 0.69314718055994531;
    const double power = std::ldexp(1.0, static_cast<int>(random.below(50)) - 40);
    for (const double near : {edge, power, 1 + power, 87.0, 708.0}) {
      const double value = near * (1 + (random.uniform() - 0.5) * 0x1p-20);
      if (value >= least && value <= largest) found.push_back(static_cast<Real>(value));
    }
  }
  return found;
}

// Checks a function of the squares and says how far it was off at most.
template <class Real, class Function>
void check_map(const char* name, const SumTerm& term, const std::vector<Real>& squares,
               double limit, Function exact) {
  std::vector<long double> want;
  std::vector<double> expected;
  for (const Real square : squares) {
    want.push_back(exact(static_cast<long double>(square)));
    expected.push_back(static_cast<double>(want.back()));
  }
  double largest = 0;
  for (const cpu::Kernels* table : all_kernels()) {
    const std::vector<double> got = values_of<Real>(*table, term, squares, expected);
    double worst = 0, outside = 0;
    std::size_t place = 0;
    for (std::size_t i = 0; i < squares.size(); ++i) {
      // The grid of the sums does not reach down to the digits of these.
      if (std::fabs(want[i]) < 0x1p-950L && std::fabs(got[i]) < 0x1p-949) continue;
      const double error = units<Real>(got[i], want[i]);
      if (!(error <= worst)) {
        worst = error;
        place = i;
      }
      // The engine's grids rely on it.
      if (term.shape != Shape::energy) outside += !(got[i] <= 1 && got[i] >= -1);
    }
    const About about(std::string(table->name) + " " + name + " " + kRealName<Real> +
                      " of a square of " + show(squares[place]));
    CHECK_AT_MOST(worst, limit);
    CHECK_EQUAL(outside, 0.0);
    largest = std::max(largest, worst);
  }
  std::printf("  %-28s %s: %.3f units in the last place\n", name, kRealName<Real>, largest);
}

SumTerm term_of(Shape shape, bool less_one, double scale, double exponent = 0) {
  return {shape, 0, less_one, scale, 0, exponent};
}

// Exponentials below this are the exponential of this: nothing, beside a sum that has a 1 in it.
template <class Real>
constexpr double kLowest = std::is_same_v<Real, float> ? -87 : -708;

template <class Real>
void exponentials() {
  const std::vector<Real> squares = arguments<Real>(1e-12, 800);
  check_map<Real>("exp", term_of(Shape::gaussian, false, -1), squares, 1.5,
                  [](long double q) { return std::exp(std::max<long double>(-q, kLowest<Real>)); });
  check_map<Real>("expm1", term_of(Shape::gaussian, true, -1), squares, 1.5, [](long double q) {
    return std::expm1(std::max<long double>(-q, kLowest<Real>));
  });
  const SumTerm exp = term_of(Shape::gaussian, false, -1);
  const SumTerm expm1 = term_of(Shape::gaussian, true, -1);
  for (const cpu::Kernels* table : all_kernels()) {
    const About about(table->name);
    CHECK_EQUAL(values_of<Real>(*table, exp, std::vector<Real>{0}, {1})[0], 1.0);
    CHECK_EQUAL(values_of<Real>(*table, expm1, std::vector<Real>{0}, {1})[0], 0.0);
  }
}

// A tiny exponent turns expm1(-exponent log1p(t)) into a multiple of log1p(t) with all its digits.
template <class Real>
void logarithms() {
  constexpr bool kFloat = std::is_same_v<Real, float>;
  const std::vector<Real> squares = arguments<Real>(1e-12, kFloat ? 1e30 : 1e200);
  const long double exponent = kFloat ? 0x1p-20L : 0x1p-40L;
  check_map<Real>("log1p, then expm1",
                  term_of(Shape::rational_quadratic, true, 1, kFloat ? 0x1p-20 : 0x1p-40), squares,
                  3.5, [&](long double q) { return std::expm1(-exponent * std::log1p(q)); });
  check_map<Real>("-t / (1 + t)", term_of(Shape::rational_quadratic, true, 1, 1), squares, 4.5,
                  [](long double q) { return -q / (1 + q); });
}

template <class Real>
void roots() {
  std::vector<Real> squares = arguments<Real>(1e-12, 1e6);
  check_map<Real>("-sqrt", term_of(Shape::energy, false, -1), squares, 0.5001,
                  [](long double q) { return -std::sqrt(q); });
  // Squares of short numbers have exact roots.
  squares.clear();
  Random random(2);
  for (int i = 0; i < (kEmulated ? 1000 : 10000); ++i) {
    const double root = std::ldexp(static_cast<double>(random.below(4096)), -4 - i % 20);
    squares.push_back(static_cast<Real>(root * root));
  }
  for (const bool less_one : {false, true}) {
    check_map<Real>(less_one ? "expm1(-sqrt)" : "exp(-sqrt)",
                    term_of(Shape::laplacian, less_one, -1), squares, 1.5, [&](long double q) {
                      const long double y = std::max<long double>(-std::sqrt(q), kLowest<Real>);
                      return less_one ? std::expm1(y) : std::exp(y);
                    });
  }
}

// (w + a + t + s)^p - (w + a)^p - (w + t)^p + w^p.
Wide centred_power(Wide w, Wide a, Wide t, Wide s, int degree) {
  const auto power = [&](Wide base) {
    Wide value = 1;
    for (int i = 0; i < degree; ++i) value *= base;
    return value;
  };
  return power(w + a + t + s) - power(w + a) - power(w + t) + power(w);
}

// Errors in half units in the last place of the same polynomial of the magnitudes, all of whose
// terms are positive: however small the product and the parts along the centre are beside w.
template <class Real>
void polynomials() {
  Random random(3);
  double largest = 0;
  for (const int degree : {1, 2, 3, 4, 5, 8, 16, 32}) {
    for (const double size : {1.0, 1e-3, 1e-6}) {
      for (int turn = 0; turn < (kEmulated ? 2 : 3); ++turn) {
        const Real offset = static_cast<Real>(turn % 3 == 0 ? 0.0 : 0.1 + random.uniform());
        // The engine leaves float32 where values could vanish in it.
        if (offset == 0 && degree * std::log2(size) < -55) continue;
        const SumTerm term{Shape::polynomial, degree, false, 0.25, static_cast<double>(offset), 0};
        const auto draw = [&] { return static_cast<Real>(size * random.normal()); };
        std::vector<Pair<Real>> pairs, exchanged;
        const Real column_along = turn == 1 ? Real(0) : draw();
        std::vector<double> expected;
        std::vector<Wide> want, bound;
        for (int i = 0; i < 300; ++i) {
          Pair<Real> pair{draw(), 0, draw(), column_along};
          pairs.push_back(pair);
          std::swap(pair.row_along, pair.column_along);
          exchanged.push_back(pair);
          const Wide a = pair.column_along, t = pair.row_along, s = pair.product;
          const auto size_of = [](Wide value) { return value < 0 ? -value : value; };
          want.push_back(centred_power(offset, a / 4, t / 4, s / 4, degree));
          bound.push_back(centred_power(size_of(offset), size_of(a) / 4, size_of(t) / 4,
                                        size_of(s) / 4, degree));
          expected.push_back(static_cast<double>(bound.back()));
        }
        for (const cpu::Kernels* table : all_kernels()) {
          const About about(std::string(table->name) + " " + kRealName<Real> + " degree " +
                            show(degree) + " size " + show(size));
          const std::vector<double> got = values_of(*table, term, pairs, expected);
          double worst = 0;
          for (std::size_t i = 0; i < pairs.size(); ++i) {
            Wide error = got[i] - want[i];
            if (error < 0) error = -error;
            const double relative =
                static_cast<double>(error / bound[i]) / (kRounding<Real> * degree);
            worst = relative <= worst ? worst : relative;
          }
          CHECK_AT_MOST(worst, 4.0);
          largest = std::max(largest, worst);
          // One tile per pair: its column's part along the centre is its own.
          if (turn > 0) continue;
          for (std::size_t i = 0; i < 20; ++i) {
            CHECK_EQUAL(
                values_of(*table, term, std::vector<Pair<Real>>{exchanged[i]}, {expected[i]})[0],
                got[i]);
          }
        }
      }
    }
  }
  std::printf("  polynomials %s: %.2f half units per degree\n", kRealName<Real>, largest);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"exponentials_float", exponentials<float>},
                    {"exponentials_double", exponentials<double>},
                    {"logarithms_float", logarithms<float>},
                    {"logarithms_double", logarithms<double>},
                    {"roots_float", roots<float>},
                    {"roots_double", roots<double>},
                    {"polynomials_float", polynomials<float>},
                    {"polynomials_double", polynomials<double>}},
                   argc, argv);
}
