// Streamed moments, for every instruction set: the tile's products against their definition to the last
// bit, means and scatter matrices against long double, and the same bits for any batches and threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/scatter.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {
namespace {

using cpu::Scatter;

// Features on a tile's side, one more than whole panels of any instruction set, one below a tile, ...
const std::int64_t kWidths[] = {1, 2, 23, 24, 25, 49, 191, 192, 193, 230};

void finish(Scatter& work, double seconds = 60.0) {
  while (work.advance(cpu::deadline_after(seconds)) < 1.0) {
  }
}

void update(Scatter& moments, const RowView& rows, double seconds = 60.0) {
  moments.begin_update(rows);
  finish(moments, seconds);
  moments.commit();
}

RowView part(const Matrix& matrix, std::int64_t begin, std::int64_t end) {
  RowView rows = matrix.view();
  rows.data += begin * rows.row_stride;
  rows.n = end - begin;
  return rows;
}

// Mean less origin, origin and scatter, waiting rows included.
struct Found {
  std::vector<double> origin, shift, scatter;
};

Found found(Scatter& moments) {
  const std::int64_t d = moments.d();
  moments.begin_flush(false);
  finish(moments);
  Found result;
  result.origin.assign(moments.origin(), moments.origin() + d);
  result.shift.assign(moments.shift(), moments.shift() + d);
  result.scatter.resize(static_cast<std::size_t>(d * d));
  moments.scatter(1.0, result.scatter.data());
  moments.rollback();
  return result;
}

void check_same(const Found& got, const Found& want) {
  CHECK_ARRAYS(got.origin, want.origin);
  CHECK_ARRAYS(got.shift, want.shift);
  CHECK_ARRAYS(got.scatter, want.scatter);
}

// Two passes in long double. Returns the largest errors of the mean, in deviations from the first row, and
// of the scatter, in n s_i s_j.
void check_close(const Found& got, const Matrix& x, std::int64_t n, double limit) {
  const std::int64_t d = x.d;
  std::vector<long double> mean(static_cast<std::size_t>(d)),
      scatter(static_cast<std::size_t>(d * d));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t f = 0; f < d; ++f) mean[f] += static_cast<long double>(x.row(i)[f]) / n;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t f = 0; f < d; ++f) {
      const long double z = x.row(i)[f] - mean[f];
      for (std::int64_t g = 0; g <= f; ++g) scatter[f * d + g] += z * (x.row(i)[g] - mean[g]);
    }
  }
  double worst_mean = 0, worst = 0;
  bool symmetric = true;
  for (std::int64_t f = 0; f < d; ++f) {
    const double s = std::sqrt(static_cast<double>(scatter[f * d + f] / n));
    const long double shift = mean[f] - got.origin[f];
    const double off = std::fabs(static_cast<double>(got.shift[f] - shift));
    worst_mean = std::max(worst_mean, off / (s + std::fabs(static_cast<double>(shift)) + 1e-300));
    for (std::int64_t g = 0; g <= f; ++g) {
      const double t = std::sqrt(static_cast<double>(scatter[g * d + g] / n));
      const double value = got.scatter[f * d + g];
      const double error = std::fabs(static_cast<double>(value - scatter[f * d + g]));
      worst = std::max(worst, error / (static_cast<double>(n) * s * t + 1e-300));
      symmetric = symmetric && same(value, got.scatter[g * d + f]);
    }
  }
  CHECK_AT_MOST(worst_mean, limit);
  CHECK_AT_MOST(worst, limit);
  CHECK(symmetric);
}

// Packed rows and their products, each chain of kTileDepth in order, added to what was there.
void tiles() {
  Random random(1);
  for (const cpu::Kernels* table : all_kernels()) {
    const cpu::ScatterKernels& kernels = table->scatter;
    const bool fused = fuses(*table);
    for (const int depth : {1, 127, 128, 129, 300}) {
      const std::int64_t d = 67, width = 72;
      const About about(std::string(table->name) + " depth " + show(depth));
      const Matrix x = make_matrix(normals(random, depth * d), d, DType::float32, Layout::reversed);
      const auto origin = normals(random, width), mean = normals(random, width);
      const std::int64_t items = width * kTileDepth, blocks = (depth + kTileDepth - 1) / kTileDepth;
      auto packed = nan_buffer<double>(items * blocks);
      kernels.pack({x.view(), 0, depth, 0, static_cast<int>(width), origin.data()}, mean.data(), 0,
                   items, packed.data());
      std::vector<double> z(static_cast<std::size_t>(width * depth)), sums(width), want_sums(width);
      for (std::int64_t f = 0; f < width; ++f) {
        for (std::int64_t i = 0; i < depth; ++i) {
          const double value = f < d ? x.row(i)[f] : 0.0, moved = value - origin[f];
          z[f * depth + i] = moved - mean[f];
          want_sums[f] += moved;
        }
      }
      kernels.add_columns({x.view(), 0, depth, 0, static_cast<int>(width), origin.data()},
                          sums.data());
      CHECK_ARRAYS(sums, want_sums);
      // The second half of the rows by the whole, and the whole's diagonal tile.
      for (const bool diagonal : {false, true}) {
        const int first = diagonal ? 0 : 24, rows = diagonal ? 72 : 48;
        const auto before = normals(random, rows * width);
        AlignedBuffer<double> out(rows * width);
        std::copy(before.begin(), before.end(), out.data());
        kernels.multiply({packed.data() + first * kTileDepth, packed.data(), rows,
                          static_cast<int>(width), depth, items, diagonal, out.data(), width});
        int wrong = 0;
        for (int r = 0; r < rows; ++r) {
          for (int c = 0; c < (diagonal ? r + 1 : width); ++c) {
            double want = before[r * width + c];
            for (int k = 0; k < depth; k += kTileDepth) {
              const double* a = z.data() + (first + r) * depth + k;
              const double* b = z.data() + std::int64_t{c} * depth + k;
              want += chained_product(a, b, std::min(kTileDepth, depth - k), fused);
            }
            wrong += !same(out[r * width + c], want);
          }
        }
        CHECK_EQUAL(wrong, 0);
      }
    }
  }
}

void accuracy() {
  Random random(2);
  int turn = 0;
  for (const std::int64_t d : kWidths) {
    const std::int64_t chunk = Scatter::chunk_rows(d);
    const std::int64_t n = d > 30 ? chunk + 70 : 2 * chunk + 3;
    if (kEmulated && d > 30) continue;
    for (const cpu::Kernels* table : all_kernels()) {
      ++turn;
      const DType dtype = static_cast<DType>(turn % 3);
      const About about(std::string(table->name) + " d=" + show(d) + " " + name_of(dtype));
      auto values = normals(random, n * d);
      for (std::int64_t i = 0; i < n * d; ++i) values[i] = values[i] * (1 + i % d) + 3;
      const Matrix x = make_matrix(values, d, dtype, static_cast<Layout>(turn / 3 % 3));
      Scatter moments(d, *table, 1 + turn % 3);
      update(moments, x.view());
      CHECK_EQUAL(moments.count(), n);
      CHECK_EQUAL(moments.waiting(), n % chunk);
      check_close(found(moments), x, n, 1e-14);
    }
  }
}

void batches() {
  Random random(3);
  for (const std::int64_t d : {std::int64_t{5}, std::int64_t{200}}) {
    if (kEmulated && d > 30) continue;
    const std::int64_t n = 2 * Scatter::chunk_rows(d) + 40;
    const Matrix x = make_matrix(normals(random, n * d), d, DType::float32, Layout::padded);
    for (const cpu::Kernels* table : all_kernels()) {
      const About about(std::string(table->name) + " d=" + show(d));
      Scatter whole(d, *table, 1);
      update(whole, x.view());
      const Found want = found(whole);
      for (const int threads : {1, 2, 5}) {
        // Deadlines that have passed: one task at a time.
        Scatter cut(d, *table, threads);
        std::int64_t begin = 0;
        while (begin < n) {
          const std::int64_t end = std::min(n, begin + 1 + random.below(2 * n / 3));
          // What is given up leaves no trace.
          cut.begin_update(part(x, 0, n));
          for (int step = 0; step < 3; ++step) cut.advance(cpu::deadline_after(0));
          update(cut, part(x, begin, end), 0.0);
          begin = end;
          cut.begin_flush(true);
          finish(cut);
        }
        CHECK_EQUAL(cut.count(), n);
        check_same(found(cut), want);
      }
    }
  }
}

void merges() {
  Random random(4);
  const std::int64_t d = 30, n = 5000;
  auto values = normals(random, n * d);
  for (std::int64_t i = 0; i < n * d; ++i) values[i] += static_cast<double>(i / d) * 1e-3;
  const Matrix x = make_matrix(values, d, DType::float64);
  for (const cpu::Kernels* table : all_kernels()) {
    const About about(table->name);
    Scatter total(d, *table, 2);
    for (const auto& ends : {std::pair<int, int>{0, 7}, {7, 3000}, {3000, 3000}, {3000, 5000}}) {
      Scatter one(d, *table, 1);
      update(one, part(x, ends.first, ends.second));
      total.begin_merge(one);
      finish(total, 0.0);
      total.commit();
      CHECK_EQUAL(total.count(), std::int64_t{ends.second});
    }
    check_close(found(total), x, n, 1e-14);
  }
}

void restoring() {
  Random random(5);
  const std::int64_t d = 205, n = Scatter::chunk_rows(d) + 30;
  const Matrix x = make_matrix(normals(random, 2 * n * d), d, DType::float32);
  const cpu::Kernels& table = *all_kernels().front();
  Scatter first(d, table, 2);
  update(first, part(x, 0, n));
  std::vector<double> scatter(static_cast<std::size_t>(d * d));
  first.scatter(1.0, scatter.data());
  Scatter second(d, table, 2);
  second.restore(first.folded(), first.origin(), first.shift(), scatter.data(),
                 first.waiting_rows(), first.waiting());
  for (Scatter* moments : {&first, &second}) update(*moments, part(x, n, 2 * n));
  check_same(found(second), found(first));
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"tiles", tiles},
                    {"accuracy", accuracy},
                    {"batches", batches},
                    {"merges", merges},
                    {"restoring", restoring}},
                   argc, argv);
}
