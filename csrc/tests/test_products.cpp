// Strips of products and what is made of them, for every instruction set and both paths: exact
// integer dots, float32 dots within their bound, the right pairs emitted, and balls counted.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "common/rounding.hpp"
#include "cpu/kernels.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/strips.hpp"

namespace fastgen::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Runs emit and checks its hits: no pair twice, none outside, each with the right dot. Returns the
// emitted pairs as flags.
std::vector<char> emitted(const Kernels& k, const Case& c, Operands& operands,
                          const cpu::Strip& strip, const std::vector<float>& row_threshold,
                          const std::vector<float>& row_weight,
                          const std::vector<float>& column_threshold) {
  cpu::EmitStrip task{
      strip, row_threshold.data(), row_weight.data(), column_threshold.data(), operands.hits.data(),
      -1};
  (c.float_path ? k.emit_float : k.emit_int8)(&task);
  std::vector<char> seen(c.dot.size(), 0);
  int wrong = 0;
  for (int h = 0; h < task.hit_count; ++h) {
    const cpu::Hit& hit = operands.hits[h];
    if (hit.row >= strip.row_count || hit.column >= strip.column_count ||
        hit.column <= hit.row + strip.diagonal || seen[c.at(hit.row, hit.column)]++) {
      ++wrong;
      continue;
    }
    const double want = c.dot[c.at(hit.row, hit.column)];
    if (c.float_path) {
      float dot;
      std::memcpy(&dot, &hit.dot, 4);
      const double limit = float_product_error(c.depth) * c.rows.magnitude[hit.row] *
                           c.columns.magnitude[hit.column];
      wrong += !(std::fabs(dot - want) <= limit);
    } else {
      wrong += hit.dot != want;
    }
  }
  CHECK_EQUAL(wrong, 0);
  return seen;
}

void check_emit(const Kernels& k, const Case& c, Random& random) {
  Operands operands(k, c);
  const int n = c.rows.count, m = c.columns.count;
  std::vector<float> row(n + kStripRows, kNotANumber), weight(row),
      column(m + kMaxBlockColumns, kNotANumber);
  const auto fill = [&](float rows, float columns) {
    std::fill_n(row.begin(), n, rows);
    std::fill_n(weight.begin(), n, 1.0f);
    std::fill_n(column.begin(), m, columns);
  };
  const auto run = [&](int rows, int columns, std::int64_t diagonal) {
    const About about("rows " + show(rows) + " columns " + show(columns) + " diagonal " +
                      show(diagonal));
    return emitted(k, c, operands, operands.strip(rows, columns, diagonal), row, weight, column);
  };
  const auto expect = [&](const std::vector<char>& got, const auto& want) {
    int wrong = 0;
    for (int r = 0; r < n; ++r) {
      for (int j = 0; j < m; ++j) wrong += got[c.at(r, j)] != (want(r, j) ? 1 : 0);
    }
    CHECK_EQUAL(wrong, 0);
  };
  // All pairs, or none, of whole and ragged strips, with and without a diagonal.
  const int row_counts[] = {1, n / 3, n - 1, n}, column_counts[] = {1, m / 2, m - 1, m};
  for (int i = 0; i < 4; ++i) {
    const int rows = std::max(row_counts[i], 1), columns = std::max(column_counts[3 - i], 1);
    const std::int64_t diagonals[] = {kEverything, -n, -n / 2, -1, 0, 5, m - 3, m + 7};
    const std::int64_t diagonal = diagonals[random.below(8)];
    for (const std::int64_t cut : {kEverything, diagonal}) {
      fill(kInfinity, -kInfinity);
      expect(run(rows, columns, cut),
             [&](int r, int j) { return r < rows && j < columns && j > r + cut; });
      fill(-kInfinity, -kInfinity);
      expect(run(rows, columns, cut), [](int, int) { return false; });
    }
  }
  // One row's or one column's threshold reaches that row or column only.
  const int one = static_cast<int>(random.below(n)), other = static_cast<int>(random.below(m));
  fill(-kInfinity, -kInfinity);
  row[one] = kInfinity;
  column[other] = kInfinity;
  expect(run(n, m, kEverything), [&](int r, int j) { return r == one || j == other; });
  // Thresholds among the distances: right wherever rounding cannot matter, and never a pair missed.
  for (const double quantile : {0.01, 0.3}) {
    std::vector<double> sorted = c.sq;
    const std::size_t place =
        static_cast<std::size_t>(quantile * static_cast<double>(sorted.size()));
    std::nth_element(sorted.begin(), sorted.begin() + place, sorted.end());
    fill(0.0f, 0.0f);
    for (int r = 0; r < n; ++r) {
      row[r] = static_cast<float>(sorted[place] * (0.8 + 0.4 * random.uniform()));
      weight[r] = static_cast<float>(0.5 + random.uniform());
    }
    for (int j = 0; j < m; ++j) column[j] = static_cast<float>(sorted[place] * random.uniform());
    const std::vector<char> got = run(n, m, kEverything);
    int missed = 0, wrong = 0;
    for (int r = 0; r < n; ++r) {
      for (int j = 0; j < m; ++j) {
        const double reach = std::max<double>(row[r], weight[r] * column[j]);
        const double distance = c.low(r, j) - reach;
        missed += c.sq[c.at(r, j)] <= reach && !got[c.at(r, j)];
        if (std::fabs(distance) > c.rounding(r, j))
          wrong += got[c.at(r, j)] != (distance < 0 ? 1 : 0);
      }
    }
    CHECK_EQUAL(missed, 0);
    CHECK_EQUAL(wrong, 0);
  }
}

void check_upper(const Kernels& k, const Case& c) {
  Operands operands(k, c);
  std::vector<float> upper(static_cast<std::size_t>(kStripRows) * kMaxBlockColumns, -1.0f);
  cpu::UpperStrip task{operands.strip(c.rows.count, c.columns.count, kEverything), upper.data()};
  (c.float_path ? k.upper_float : k.upper_int8)(&task);
  int below = 0, loose = 0;
  for (int r = 0; r < c.rows.count; ++r) {
    for (int j = 0; j < c.columns.count; ++j) {
      const double got = upper[r * kMaxBlockColumns + j];
      below += !(got >= c.sq[c.at(r, j)]);
      loose += !(std::fabs(got - c.high(r, j)) <= c.rounding(r, j));
    }
  }
  CHECK_EQUAL(below, 0);
  CHECK_EQUAL(loose, 0);
}

// Counts are for pairs that were not emitted, and right for those; `decided` gathers how many.
void check_balls(const Kernels& k, const Case& c, Random& random, std::int64_t* decided) {
  constexpr int kRadii = 2;
  const int n = c.rows.count, m = c.columns.count;
  Operands operands(k, c);
  std::vector<double> sorted = c.sq;
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> row_radius(kRadii * kStripRows), column_radius(kRadii * kMaxBlockColumns);
  const auto thresholds = [&](std::vector<double>& radii, std::int64_t stride, int count,
                              std::vector<float>& inside, std::vector<float>& outside,
                              std::vector<float>& reach, std::vector<std::int32_t>& copies) {
    inside.assign(kRadii * stride + kMaxBlockColumns, kNotANumber);
    outside = inside;
    reach.assign(stride + kMaxBlockColumns, kNotANumber);
    copies.assign(stride + kMaxBlockColumns, -1000);
    for (int i = 0; i < count; ++i) {
      reach[i] = -kInfinity;
      copies[i] = static_cast<std::int32_t>(1 + random.below(5));
      for (int s = 0; s < kRadii; ++s) {
        // Distances themselves, exact ties with some pair; none at all (null radii) now and then.
        const bool none = random.below(9) == 0;
        radii[s * stride + i] =
            none ? -1.0 : sorted[random.below(static_cast<std::int64_t>(sorted.size()))];
        inside[s * stride + i] = none ? -kInfinity : round_down(radii[s * stride + i]);
        outside[s * stride + i] = none ? -kInfinity : round_up(radii[s * stride + i]);
        reach[i] = std::max(reach[i], outside[s * stride + i]);
      }
    }
  };
  std::vector<float> row_inside, row_outside, row_reach, column_inside, column_outside,
      column_reach;
  std::vector<std::int32_t> row_copies, column_copies;
  thresholds(row_radius, kStripRows, n, row_inside, row_outside, row_reach, row_copies);
  thresholds(column_radius, kMaxBlockColumns, m, column_inside, column_outside, column_reach,
             column_copies);
  std::vector<std::int32_t> columns_in_row(kRadii * kStripRows), balls_of_row(columns_in_row);
  std::vector<std::int32_t> rows_in_column(kRadii * kMaxBlockColumns),
      balls_of_column(rows_in_column);
  std::vector<std::int32_t> want_in_row(columns_in_row), want_of_row(columns_in_row);
  std::vector<std::int32_t> want_in_column(rows_in_column), want_of_column(rows_in_column);

  cpu::BallStrip task{};
  task.strip = operands.strip(n, m, kEverything);
  task.radii = kRadii;
  task.row_stride = kStripRows;
  task.column_stride = task.threshold_stride = kMaxBlockColumns;
  task.row_inside = row_inside.data();
  task.row_outside = row_outside.data();
  task.column_inside = column_inside.data();
  task.column_outside = column_outside.data();
  task.row_reach = row_reach.data();
  task.column_reach = column_reach.data();
  task.row_copies = row_copies.data();
  task.column_copies = column_copies.data();
  task.columns_in_row = columns_in_row.data();
  task.balls_of_column = balls_of_column.data();
  task.rows_in_column = rows_in_column.data();
  task.balls_of_row = balls_of_row.data();
  task.hits = operands.hits.data();
  (c.float_path ? k.balls_float : k.balls_int8)(&task);

  std::vector<char> seen(c.sq.size(), 0);
  int twice = 0;
  for (int h = 0; h < task.hit_count; ++h)
    twice += seen[c.at(task.hits[h].row, task.hits[h].column)]++;
  CHECK_EQUAL(twice, 0);
  for (int r = 0; r < n; ++r) {
    for (int j = 0; j < m; ++j) {
      if (seen[c.at(r, j)]) {
        ++decided[2];
        continue;
      }
      const double sq = c.sq[c.at(r, j)];
      for (int s = 0; s < kRadii; ++s) {
        const int i = s * kStripRows + r, l = s * kMaxBlockColumns + j;
        const bool in_row = sq <= row_radius[i], in_column = sq <= column_radius[l];
        ++decided[in_row];
        want_in_row[i] += in_row ? column_copies[j] : 0;
        want_of_column[l] += in_row ? row_copies[r] : 0;
        want_in_column[l] += in_column ? row_copies[r] : 0;
        want_of_row[i] += in_column ? column_copies[j] : 0;
      }
    }
  }
  CHECK_ARRAYS(columns_in_row, want_in_row);
  CHECK_ARRAYS(balls_of_column, want_of_column);
  CHECK_ARRAYS(rows_in_column, want_in_column);
  CHECK_ARRAYS(balls_of_row, want_of_row);
}

struct Shape {
  int rows, columns;
  std::int64_t depth;
};

void strips(bool float_path) {
  const Shape shapes[] = {{kStripRows, kMaxBlockColumns, 64},
                          {kStripRows - 1, 383, 128},
                          {33, 49, 192},
                          {17, 48, 768},
                          {8, 15, 2048},
                          {1, 1, 64},
                          {1, 97, 320},
                          {32, 33, 4096},
                          {9, 17, 4160},
                          {5, 50, 8256},
                          {3, 20, 12352}};
  std::int64_t decided[3] = {};  // pairs proven outside, inside; emitted
  for (const Shape& shape : shapes) {
    if (kEmulated && shape.rows * shape.columns * shape.depth > 4000000) continue;
    Random random(static_cast<std::uint64_t>(shape.depth));
    const Rows rows = make_rows(random, shape.rows, shape.depth, float_path, 0.3);
    const Rows columns = make_rows(random, shape.columns, shape.depth, float_path, 0.3);
    const Case c(rows, columns, shape.depth, float_path);
    for (const Kernels* k : all_kernels()) {
      const About about(std::string(k->name) + " " + show(shape.rows) + " x " +
                        show(shape.columns) + " of depth " + show(shape.depth));
      check_emit(*k, c, random);
      check_upper(*k, c);
      check_balls(*k, c, random, decided);
    }
  }
  for (const std::int64_t count : decided) CHECK(count > 20);  // all three have been tried
}

void int8_strips() { strips(false); }
void float_strips() { strips(true); }

// The widest rows of the int8 path with extreme levels: the sum fits 32 bits with 1.5 % to spare.
void int8_extremes() {
  const std::int64_t depth = kEmulated ? 16384 : 131072;
  Random random(9);
  Rows rows = make_rows(random, 2, depth, false, 0.0),
       columns = make_rows(random, 3, depth, false, 0.0);
  std::fill_n(rows.q.begin(), depth, std::uint8_t{255});
  std::fill_n(rows.q.begin() + rows.stride, depth, std::uint8_t{1});
  std::fill_n(columns.q.begin(), depth, std::uint8_t{255});
  std::fill_n(columns.q.begin() + columns.stride, depth, std::uint8_t{1});
  const Case c(rows, columns, depth, false);
  CHECK_EQUAL(c.dot[0], 127.0 * 127.0 * static_cast<double>(depth));
  for (const Kernels* k : all_kernels()) {
    const About about(k->name);
    Operands operands(*k, c);
    const std::vector<float> all(kMaxBlockColumns, kInfinity), weight(kStripRows, 1.0f);
    // NaN bounds of these made-up rows would hide pairs: only the dots are of interest.
    const std::vector<char> got =
        emitted(*k, c, operands, operands.strip(2, 3, kEverything), all, weight, all);
    CHECK_EQUAL(std::count(got.begin(), got.end(), 1), std::ptrdiff_t{6});
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"int8_strips", int8_strips},
                    {"float_strips", float_strips},
                    {"int8_extremes", int8_extremes}},
                   argc, argv);
}
