// Products of centred rows by tiles, for every instruction set: equal to their definition to the last
// bit, and so the same at every place of every tile; close to the exact product; and nothing left
// out of a diagonal tile but what the engine does without.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/kernels.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {
namespace {

// Rows of one set with what the tile needs to know of them.
template <class Real>
struct Rows {
  Matrix matrix;
  std::vector<double> factors;
  std::vector<Real> z;

  Rows(Matrix m, std::vector<double> f, const std::vector<Real>& centre)
      : matrix(std::move(m)), factors(std::move(f)), z(centred_rows(matrix, factors, centre)) {}
  const Real* row(std::int64_t i) const { return z.data() + i * matrix.d; }
};

std::vector<double> factors_of(Random& random, std::int64_t n, bool powers_of_two) {
  std::vector<double> factors(static_cast<std::size_t>(n), 0.25);
  for (double& factor : factors) {
    if (!powers_of_two) factor = 0.5 + random.uniform();
  }
  return factors;
}

template <class Real>
std::vector<Real> some_centre(Random& random, std::int64_t d) {
  std::vector<Real> centre;
  for (std::int64_t i = 0; i < d; ++i) centre.push_back(static_cast<Real>(random.normal() / 3));
  return centre;
}

template <class Real>
Rows<Real> some_rows(Random& random, std::int64_t n, std::int64_t d, DType dtype, Layout layout,
                     const std::vector<Real>& centre, bool powers_of_two) {
  return {make_matrix(normals(random, n * d), d, dtype, layout),
          factors_of(random, n, powers_of_two), centre};
}

// Where rows [row, row + rows) of x meet rows [column, column + columns) of y.
struct Place {
  std::int64_t row;
  int rows;
  std::int64_t column;
  int columns;
  bool diagonal;
};

template <class Real>
std::vector<Real> products(const cpu::Kernels& table, const Rows<Real>& x, const Rows<Real>& y,
                           const std::vector<Real>& centre, const Place& place) {
  const cpu::SumKernels& kernels = sum_kernels<Real>(table);
  const Side<Real> a(x.matrix, place.row, place.rows, x.factors, centre);
  const Side<Real> b(y.matrix, place.column, place.columns, y.factors, centre);
  const AlignedBuffer<Real> rows = a.packed(kernels), columns = b.packed(kernels);
  AlignedBuffer<Real> out = nan_buffer<Real>(kTile * kTile);
  const cpu::Tile tile{rows.data(),    columns.data(),  place.rows,      place.columns, x.matrix.d,
                       place.diagonal, a.spread.data(), b.spread.data(), out.data()};
  kernels.multiply(&tile);
  return {out.data(), out.data() + kTile * kTile};
}

// Every `step`-th product that the tile owes, against the definition.
template <class Real>
void check_tile(const cpu::Kernels& table, const Rows<Real>& x, const Rows<Real>& y,
                const std::vector<Real>& centre, const Place& place, int step = 1) {
  const std::vector<Real> got = products(table, x, y, centre, place);
  const bool fused = fuses(table);
  int wrong = 0, place_of_pair = 0;
  for (int r = 0; r < place.rows; ++r) {
    for (int c = place.diagonal ? r / kRun * kRun : 0; c < place.columns; ++c) {
      if (++place_of_pair % step) continue;
      const Real want =
          chained_product(x.row(place.row + r), y.row(place.column + c), x.matrix.d, fused);
      wrong += !same(got[r * kTile + c], want);
    }
  }
  CHECK_EQUAL(wrong, 0);
}

std::string dtypes_of(const Matrix& x, const Matrix& y) {
  return std::string(name_of(x.dtype)) + " by " + name_of(y.dtype);
}

// Widths around everything that a loop steps by, few rows.
template <class Real>
void widths() {
  Random random(1);
  const DType dtypes[] = {DType::float16, DType::float32, DType::float64};
  const int types = std::is_same_v<Real, float> ? 2 : 3;
  int turn = 0;
  for (std::int64_t d = 1; d <= 260; ++d) {
    const std::int64_t past = d % 16;
    if (d > 20 && past > 1 && past < 15) continue;
    if (kEmulated && d > 20 && d % 64 > 1) continue;
    const std::vector<Real> centre = some_centre<Real>(random, d);
    for (const cpu::Kernels* table : all_kernels()) {
      ++turn;
      const Rows<Real> x = some_rows(random, 19, d, dtypes[turn % types],
                                     static_cast<Layout>(turn % 3), centre, turn % 2);
      const Rows<Real> y = some_rows(random, 53, d, dtypes[turn / 3 % types],
                                     static_cast<Layout>(turn / 3 % 3), centre, turn % 4 > 1);
      const About about(std::string(table->name) + " " + kRealName<Real> + " d=" + show(d) + " " +
                        dtypes_of(x.matrix, y.matrix));
      check_tile(*table, x, y, centre, {0, 19, 0, 53, false});
    }
  }
}

// Tile sizes around everything that rows and columns are stepped by, whole tiles too.
template <class Real>
void sizes() {
  Random random(2);
  const std::int64_t d = 21;
  const std::vector<Real> centre = some_centre<Real>(random, d);
  const std::int64_t n = kTile + 40;
  const Rows<Real> x = some_rows(random, n, d, DType::float32, Layout::padded, centre, false);
  const Rows<Real> y = some_rows(random, n, d, DType::float16, Layout::reversed, centre, true);
  const int counts[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16,  23,  24,   25,
                        47, 48, 49, 63, 64, 65, 95, 96, 97, 200, 383, kTile};
  for (const cpu::Kernels* table : all_kernels()) {
    for (const int rows : counts) {
      const int columns = counts[random.below(25)];
      const Place place{random.below(n - rows + 1), rows, random.below(n - columns + 1), columns,
                        false};
      const About about(std::string(table->name) + " " + kRealName<Real> + " " + show(rows) +
                        " x " + show(columns));
      check_tile(*table, x, y, centre, place, kEmulated ? 7 : 1);
    }
    const About about(std::string(table->name) + " whole tile");
    check_tile(*table, x, y, centre, {11, kTile, 40, kTile, false}, kEmulated ? 31 : 3);
  }
}

// The same pair at several places, in tiles of several sizes and with sides exchanged.
template <class Real>
void places() {
  Random random(3);
  const std::int64_t d = 150, n = 200;
  const std::vector<Real> centre = some_centre<Real>(random, d);
  const Rows<Real> x = some_rows(random, n, d, DType::float32, Layout::dense, centre, false);
  const Rows<Real> y = some_rows(random, n, d, DType::float16, Layout::padded, centre, false);
  for (const cpu::Kernels* table : all_kernels()) {
    const About about(std::string(table->name) + " " + kRealName<Real>);
    const std::vector<Real> whole = products(*table, x, y, centre, {0, 200, 0, 200, false});
    const std::vector<Real> exchanged = products(*table, y, x, centre, {0, 200, 0, 200, false});
    int wrong = 0;
    for (int r = 0; r < n; ++r) {
      for (int c = 0; c < n; ++c) wrong += !same(whole[r * kTile + c], exchanged[c * kTile + r]);
    }
    CHECK_EQUAL(wrong, 0);
    for (int turn = 0; turn < 8; ++turn) {
      const int rows = static_cast<int>(1 + random.below(130));
      const int columns = static_cast<int>(1 + random.below(130));
      const Place place{random.below(n - rows + 1), rows, random.below(n - columns + 1), columns,
                        false};
      const std::vector<Real> part = products(*table, x, y, centre, place);
      for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c) {
          wrong += !same(part[r * kTile + c], whole[(place.row + r) * kTile + place.column + c]);
        }
      }
    }
    CHECK_EQUAL(wrong, 0);
  }
}

// Values that half precision holds give the same products whatever type holds them.
template <class Real>
void dtypes() {
  Random random(4);
  const std::int64_t d = 77, n = 70;
  const std::vector<Real> centre = some_centre<Real>(random, d);
  std::vector<double> values = normals(random, n * d);
  for (std::size_t i = 0; i < values.size(); i += 5) values[i] *= 0x1p-16;  // subnormal halves too
  const Matrix half = make_matrix(values, d, DType::float16, Layout::padded);
  const std::vector<double> factors = factors_of(random, n, false);
  for (const cpu::Kernels* table : all_kernels()) {
    const About about(std::string(table->name) + " " + kRealName<Real>);
    std::vector<std::vector<Real>> got;
    for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
      if (dtype == DType::float64 && std::is_same_v<Real, float>) continue;
      const Rows<Real> x(make_matrix(half.values, d, dtype), factors, centre);
      got.push_back(products(*table, x, x, centre, {0, 70, 0, 70, false}));
    }
    for (const std::vector<Real>& other : got) {
      int wrong = 0;
      for (int r = 0; r < n; ++r) {
        for (int c = 0; c < n; ++c) wrong += !same(other[r * kTile + c], got[0][r * kTile + c]);
      }
      CHECK_EQUAL(wrong, 0);
    }
  }
}

// A diagonal tile owes the columns from each row's own run on. What lies before may be skipped, and
// is right where it is not.
template <class Real>
void diagonals() {
  Random random(5);
  const std::int64_t d = 40;
  const std::vector<Real> centre = some_centre<Real>(random, d);
  const Rows<Real> x = some_rows(random, kTile, d, DType::float32, Layout::dense, centre, true);
  for (const cpu::Kernels* table : all_kernels()) {
    for (const int count : {1, 63, 64, 65, 130, 200, 383, kTile}) {
      const About about(std::string(table->name) + " " + kRealName<Real> + " " + show(count));
      const Place place{0, count, 0, count, true};
      check_tile(*table, x, x, centre, place, kEmulated ? 31 : 1);
      const std::vector<Real> got = products(*table, x, x, centre, place);
      int wrong = 0;
      std::int64_t skipped = 0, before = 0;
      for (int r = 0; r < count; ++r) {
        for (int c = 0; c < r / kRun * kRun; ++c) {
          const Real value = got[r * kTile + c];
          ++before;
          skipped += value != value;
          wrong += value == value && !same(value, got[c * kTile + r]);
        }
      }
      CHECK_EQUAL(wrong, 0);
      CHECK(skipped >= before / 2);
    }
  }
}

// Within (chain + blocks + 1) roundings of the sum of magnitudes of the exact product of the rows
// in the engine's units; typical errors are a tenth of that.
template <class Real>
void accuracy() {
  Random random(6);
  double largest = 0;
  for (const std::int64_t d : {1, 40, 128, 300, 2048}) {
    const std::vector<Real> centre = some_centre<Real>(random, d);
    const Rows<Real> x = some_rows(random, 20, d, DType::float32, Layout::dense, centre, false);
    const Rows<Real> y = some_rows(random, 30, d, DType::float16, Layout::dense, centre, false);
    for (const cpu::Kernels* table : all_kernels()) {
      const About about(std::string(table->name) + " " + kRealName<Real> + " d=" + show(d));
      const std::vector<Real> got = products(*table, x, y, centre, {0, 20, 0, 30, false});
      const double roundings = static_cast<double>(std::min<std::int64_t>(d, kTileDepth) +
                                                   (d + kTileDepth - 1) / kTileDepth + 1);
      double worst = 0;
      for (int r = 0; r < 20; ++r) {
        for (int c = 0; c < 30; ++c) {
          long double sum = 0, size = 0;
          for (std::int64_t k = 0; k < d; ++k) {
            const long double product = static_cast<long double>(x.row(r)[k]) * y.row(c)[k];
            sum += product;
            size += std::fabs(product);
          }
          const long double error = std::fabs(got[r * kTile + c] - sum);
          worst = std::max(worst, static_cast<double>(error / size) / kRounding<Real>);
        }
      }
      CHECK_AT_MOST(worst, roundings);
      largest = std::max(largest, worst / roundings);
    }
  }
  std::printf("  %s products: %.3f of the bound\n", kRealName<Real>, largest);
}

// |z|^2 is the product of z with itself, and z . centre its definition, to the last bit.
template <class Real>
void terms() {
  Random random(7);
  for (const std::int64_t d : {1, 15, 16, 17, 100, 128, 129, 300}) {
    const std::vector<Real> centre = some_centre<Real>(random, d);
    for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
      if (dtype == DType::float64 && std::is_same_v<Real, float>) continue;
      for (const int n : {1, 7, 16, 37}) {
        const Rows<Real> x = some_rows(random, n, d, dtype, Layout::reversed, centre, false);
        const Side<Real> side(x.matrix, 0, n, x.factors, centre);
        for (const cpu::Kernels* table : all_kernels()) {
          const About about(std::string(table->name) + " " + kRealName<Real> + " d=" + show(d) +
                            " " + name_of(dtype) + " n=" + show(n));
          std::vector<double> squares(n), along(n), want_squares, want_along;
          sum_kernels<Real>(*table).squares(side.side, squares.data());
          sum_kernels<Real>(*table).along(side.side, along.data());
          for (int i = 0; i < n; ++i) {
            want_squares.push_back(
                static_cast<double>(chained_product(x.row(i), x.row(i), d, fuses(*table))));
            want_along.push_back(strided_product(x.row(i), centre.data(), d));
          }
          CHECK_ARRAYS(squares, want_squares);
          CHECK_ARRAYS(along, want_along);
        }
      }
    }
  }
}

// Rows multiplied by numbers of their own, which are taken out of the products again.
template <class Real>
void spreads() {
  Random random(9);
  const int n = 100, m = 60;
  const std::int64_t d = 200;
  const std::vector<Real> centre = some_centre<Real>(random, d);
  const Rows<Real> x = some_rows(random, n, d, DType::float32, Layout::dense, centre, true);
  const Rows<Real> y = some_rows(random, m, d, DType::float16, Layout::dense, centre, true);
  std::vector<float> spread(n);
  for (float& s : spread) s = 1.0f + static_cast<float>(random.uniform()) * 0.99f;
  for (const cpu::Kernels* table : all_kernels()) {
    const About about(std::string(table->name) + " " + kRealName<Real>);
    const cpu::SumKernels& kernels = sum_kernels<Real>(*table);
    const Side<Real> a(x.matrix, 0, n, x.factors, centre, spread);
    const Side<Real> b(y.matrix, 0, m, y.factors, centre, spread);
    const AlignedBuffer<Real> rows = a.packed(kernels), columns = b.packed(kernels);
    AlignedBuffer<Real> out = nan_buffer<Real>(kTile * kTile);
    const cpu::Tile tile{rows.data(),     columns.data(),  n,         m, d, false,
                         a.spread.data(), b.spread.data(), out.data()};
    kernels.multiply(&tile);
    std::vector<double> squares(n);
    kernels.squares(a.side, squares.data());
    int wrong = 0;
    std::vector<Real> u(d), v(d);
    for (int r = 0; r < n; ++r) {
      const Real own = static_cast<Real>(spread[r]), inverse = Real(1) / own;
      for (std::int64_t k = 0; k < d; ++k) u[k] = x.row(r)[k] * own;
      for (int c = 0; c < m; ++c) {
        const Real other = static_cast<Real>(spread[c]), both = inverse * (Real(1) / other);
        for (std::int64_t k = 0; k < d; ++k) v[k] = y.row(c)[k] * other;
        const Real product = chained_product(u.data(), v.data(), d, fuses(*table));
        wrong += !same(out[static_cast<std::int64_t>(r) * kTile + c], product * both);
      }
      const Real square = chained_product(u.data(), u.data(), d, fuses(*table));
      wrong += !same(squares[r], static_cast<double>(square * (inverse * inverse)));
    }
    CHECK_EQUAL(wrong, 0);
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"widths_float", widths<float>},
                    {"widths_double", widths<double>},
                    {"sizes_float", sizes<float>},
                    {"sizes_double", sizes<double>},
                    {"places_float", places<float>},
                    {"places_double", places<double>},
                    {"dtypes_float", dtypes<float>},
                    {"dtypes_double", dtypes<double>},
                    {"diagonals_float", diagonals<float>},
                    {"diagonals_double", diagonals<double>},
                    {"accuracy_float", accuracy<float>},
                    {"accuracy_double", accuracy<double>},
                    {"spreads_float", spreads<float>},
                    {"spreads_double", spreads<double>},
                    {"terms_float", terms<float>},
                    {"terms_double", terms<double>}},
                   argc, argv);
}
