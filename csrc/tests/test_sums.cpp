// Kernel sums against plain long double arithmetic, for every instruction set and shape.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/sum_checks.hpp"
#include "tests/sum_problems.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {
namespace {

void sizes() {
  const DType dtypes[] = {DType::float32, DType::float16, DType::float64};
  const Size all[] = {{1, 1},   {1, 65},  {2, 63},   {63, 64},   {64, 65},
                      {130, 2}, {65, 65}, {400, 64}, {130, 130}, {63, 400}};
  const int blocks[] = {64, 128, 192, 384}, threads[] = {1, 2, 5};
  int turn = 0;
  for (const Size& size : all) {
    if (kEmulated && (size.n > 70 || size.m > 70)) continue;
    ++turn;
    const std::int64_t d = size.n * size.m > 10000 ? 5 : 19;
    Random random(static_cast<std::uint64_t>(turn));
    const Matrix x = make_matrix(features(random, size.n * d), d, dtypes[turn % 3],
                                 static_cast<Layout>(turn % 3));
    const Matrix y = make_matrix(features(random, size.m * d), d, dtypes[turn / 3 % 3],
                                 static_cast<Layout>(turn / 3 % 3));
    const bool wide = x.dtype == DType::float64 || y.dtype == DType::float64;
    const std::vector<KernelOf> kernels =
        kEmulated || size.n * size.m > 10000 ? few_kernels(d) : every_kernel(d);
    const Reference both(x, &y, kernels), alone(x, nullptr, kernels);
    int part = turn;
    for (const cpu::Kernels* table : sum_tables()) {
      ++part;
      const About about(name_of(*table, x, y));
      SumRun run;
      run.block = blocks[part % 4];
      run.threads = threads[part % 3];
      run.float64 = !wide && part % 4 == 0;
      run.labels = some_labels(random, size.n + size.m, part % 4 * 3);
      check_run(*table, x, &y, both, run, wide || run.float64);
      run.labels.clear();
      run.within = false;
      if (part % 2) check_run(*table, x, &y, both, run, wide || run.float64);
      check_run(*table, x, nullptr, alone, run, x.dtype == DType::float64 || run.float64);
    }
  }
}

// Widths around the blocks of features.
void widths() {
  for (const std::int64_t d : {1, 2, 16, 127, 128, 129, 300, 2048}) {
    if (kEmulated && d > 300) continue;
    Random random(static_cast<std::uint64_t>(d));
    const Matrix x = make_matrix(features(random, 20 * d), d, DType::float16, Layout::padded);
    const Matrix y = make_matrix(features(random, 9 * d), d, DType::float32, Layout::reversed);
    const Reference want(x, &y, few_kernels(d));
    for (const cpu::Kernels* table : sum_tables()) {
      for (const bool float64 : {false, true}) {
        const About about(name_of(*table, x, y) + " d=" + show(d));
        SumRun run;
        run.float64 = float64;
        check_run(*table, x, &y, want, run, float64);
      }
    }
  }
}

// What sums are for: small differences of large means. Of features off the origin, with h left out,
// in float32.
void estimates() {
  for (const double apart : {0.0, 0.01, 0.05, 0.5}) {
    Random random(7);
    const std::int64_t d = 32, n = kEmulated ? 40 : 160, m = kEmulated ? 30 : 120;
    const Matrix x = make_matrix(features(random, n * d, 2), d, DType::float32);
    const Matrix y = make_matrix(features(random, m * d, 2 + apart), d, DType::float32);
    const Reference want(x, &y, few_kernels(d));
    SumRun run;
    run.kernels = want.kernels;
    for (const cpu::Kernels* table : sum_tables()) {
      const SumResult got = run_sums(*table, x, &y, run);
      for (std::size_t k = 0; k < run.kernels.size(); ++k) {
        const KernelResult& r = got.kernels[k];
        const auto total = [](const Values& values) {
          Long sum = 0;
          for (const double value : values) sum += value;
          return sum;
        };
        const Long a = static_cast<Long>(n), b = static_cast<Long>(m);
        const Long value = (total(r.row_sums[0][0]) - total(r.diagonal[0])) / (a * (a - 1)) +
                           (total(r.row_sums[1][1]) - total(r.diagonal[1])) / (b * (b - 1)) -
                           2 * total(r.row_sums[0][1]) / (a * b);
        Long exact = 0, size = 0;
        for (int s = 0; s < 2; ++s) {
          for (int t = s; t < 2; ++t) {
            const std::int64_t rows = want.sample.n[s], columns = want.sample.n[t];
            const Long pairs = static_cast<Long>(rows * (s == t ? columns - 1 : columns));
            for (std::int64_t i = 0; i < rows; ++i) {
              for (std::int64_t j = 0; j < columns; ++j) {
                if (s == t && i == j) continue;
                const Long pair = want.at(k, s, i, t, j).value / pairs;
                exact += s == t ? pair : -2 * pair;
                size += std::fabs(pair);
              }
            }
          }
        }
        // 1e-9 of the means are seen, where the differences are 1e-3 of them.
        const About about(std::string(table->name) + " apart " + show(apart) + " kernel " +
                          show(k));
        CHECK_AT_MOST(static_cast<double>(std::fabs(value - exact) / size), 0x1p-26);
      }
    }
  }
}

void subsets() {
  Random random(3);
  const std::int64_t d = 13, n = kEmulated ? 30 : 90, m = kEmulated ? 40 : 150;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32, Layout::padded);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16);
  const Reference want(x, &y, few_kernels(d));
  for (const cpu::Kernels* table : sum_tables()) {
    for (const Size& size : {Size{1, 1}, Size{2, 70}, Size{64, 65}, Size{100, 20}}) {
      const About about(std::string(table->name) + " " + show(size.n) + " and " + show(size.m));
      SumRun run;
      run.count = 3;
      run.x = some_rows(random, n, run.count * size.n);
      run.y = some_rows(random, m, run.count * size.m);
      run.threads = 2;
      run.block = 64;
      check_run(*table, x, &y, want, run, false);
    }
  }
}

void normalised() {
  Random random(4);
  const std::int64_t d = 24;
  Values a = features(random, 40 * d), b = features(random, 30 * d);
  for (std::int64_t i = 0; i < d; ++i) a[3 * d + i] *= 1e-20, a[7 * d + i] *= 1e20;
  const std::vector<KernelOf> kernels = {
      {gaussian(10)}, {gaussian(1)}, {energy()}, {polynomial(3, 1, 0)}};
  for (const DType dtype : {DType::float32, DType::float64}) {
    const Matrix x = make_matrix(a, d, dtype), y = make_matrix(b, d, DType::float16);
    const Reference want(x, &y, kernels, true);
    for (const cpu::Kernels* table : sum_tables()) {
      const About about(name_of(*table, x, y));
      SumRun run;
      run.normalise = true;
      run.threads = 2;
      check_run(*table, x, &y, want, run, dtype == DType::float64);
      // Rows without a direction are named, the first of each set.
      Values zeros = b;
      std::fill_n(zeros.begin() + 11 * d, 12 * d, 0.0);
      run.kernels = kernels;
      const Matrix bad = make_matrix(zeros, d, DType::float16);
      const SumResult second = run_sums(*table, x, &bad, run),
                      first = run_sums(*table, bad, &x, run);
      CHECK_EQUAL(second.zero_row[0], std::int64_t{-1});
      CHECK_EQUAL(second.zero_row[1], std::int64_t{11});
      CHECK_EQUAL(first.zero_row[0], std::int64_t{11});
    }
  }
}

void check_hard(const std::vector<Hard>& sets) {
  for (const Hard& set : sets) {
    const Matrix x = make_matrix(set.x, set.d, set.dtype), y = make_matrix(set.y, set.d, set.dtype);
    const Reference want(x, &y, set.kernels);
    for (const cpu::Kernels* table : sum_tables()) {
      for (std::size_t k = 0; k < set.kernels.size(); ++k) {
        const About about(std::string(set.name) + " such as " + show(set.x[2]) + ", " +
                          name_of(*table, x, y) + ", kernel " + show(k));
        SumRun run;
        run.block = 64;
        run.kernels = {set.kernels[k]};
        const SumResult got = run_sums(*table, x, &y, run);
        CHECK(!got.overflow);
        if (got.overflow) continue;
        check_kernel(want, k, got.kernels[0], run, 0, got.float64 ? 0x1p-53 : 0x1p-24);
      }
    }
  }
}

void hard() { check_hard(hard_sets()); }

// Values beyond 2^480 are said to be so.
void overflows() {
  Random random(8);
  const Values values = normals(random, 20 * 6);
  const Matrix x = make_matrix(scaled(values, 1e100), 6, DType::float64);
  const Matrix y = make_matrix(values, 6, DType::float32);
  SumRun run;
  for (const cpu::Kernels* table : sum_tables()) {
    const About about(table->name);
    for (const std::vector<KernelOf>& kernels :
         {std::vector<KernelOf>{{polynomial(3, 1, 1)}},
          std::vector<KernelOf>{{gaussian(1e100)}, {energy(), polynomial(2, 1, 1)}}}) {
      run.kernels = kernels;
      CHECK(run_sums(*table, x, &y, run).overflow);
      CHECK(run_sums(*table, y, &x, run).overflow);
    }
    run.kernels = {{polynomial(1, 1e-100, 1), gaussian(1e100)}};
    CHECK(!run_sums(*table, x, &y, run).overflow);
    CHECK(!run_sums(*table, y, nullptr, run).overflow);
  }
}

void ranges() {
  // The norm of subnormal numbers has no inverse.
  const Matrix small = make_matrix({3e-310, 4e-310, 1, 2}, 2, DType::float64);
  SumRun run;
  run.kernels = {{gaussian(1)}};
  run.normalise = true;
  // The inverse of its norm is beyond float64: such a row has no direction.
  CHECK(run_sums(*sum_tables()[0], small, nullptr, run).zero_row[0] == 0);
  check_hard(range_sets());
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  const int status = run_tests({{"sizes", sizes},
                                {"widths", widths},
                                {"subsets", subsets},
                                {"normalised", normalised},
                                {"estimates", estimates},
                                {"hard", hard},
                                {"overflows", overflows},
                                {"ranges", ranges}},
                               argc, argv);
  std::printf("at most %.2f roundings\n", fastgen::test::roundings_seen);
  return status;
}
