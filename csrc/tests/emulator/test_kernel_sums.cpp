// The device's kernel sums against plain long double arithmetic; and the same to the last bit for every
// window, share, interruption and order of threads, for either order of two sets, for a set against itself
// or a copy, and for subsets alone or among others.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/emulator/device_sums.hpp"
#include "tests/rows.hpp"
#include "tests/sum_checks.hpp"
#include "tests/sum_problems.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {
namespace {

void sizes() {
  const DType dtypes[] = {DType::float32, DType::float16, DType::float64};
  int turn = 0;
  for (const Size& size : {Size{1, 1}, Size{1, 65}, Size{2, 63}, Size{31, 32}, Size{33, 129},
                           Size{128, 64}, Size{130, 2}, Size{160, 128}}) {
    ++turn;
    const std::int64_t d = size.n * size.m > 10000 ? 5 : 19;
    Random random(static_cast<std::uint64_t>(turn));
    const Matrix x = make_matrix(features(random, size.n * d), d, dtypes[turn % 3],
                                 static_cast<Layout>(turn % 3));
    const Matrix y = make_matrix(features(random, size.m * d), d, dtypes[turn / 3 % 3],
                                 static_cast<Layout>(turn / 3 % 3));
    const bool wide = x.dtype == DType::float64 || y.dtype == DType::float64;
    const std::vector<KernelOf> kernels = turn % 2 ? every_kernel(d) : few_kernels(d);
    const Reference both(x, &y, kernels), alone(x, nullptr, kernels);
    const About about(name_of(x, y));
    SumRun run;
    run.labels = some_labels(random, size.n + size.m, turn % 4 * 5);
    check_on_device(x, &y, both, run, wide);
    run.float64 = true;
    if (!wide) check_on_device(x, &y, both, run, true);
    run.float64 = wide || turn % 3 == 0;
    run.labels.clear();
    run.within = false;
    check_on_device(x, &y, both, run, run.float64);
    check_on_device(x, nullptr, alone, run, run.float64);
  }
}

// Widths around the slices of 16 and 32 features.
void widths() {
  for (const std::int64_t d : {1, 2, 15, 16, 17, 31, 32, 33, 96, 300, 2048}) {
    Random random(static_cast<std::uint64_t>(d));
    const Matrix x = make_matrix(features(random, 20 * d), d, DType::float16, Layout::padded);
    const Matrix y = make_matrix(features(random, 9 * d), d, DType::float32, Layout::reversed);
    const Reference want(x, &y, few_kernels(d));
    for (const bool float64 : {false, true}) {
      const About about(name_of(x, y) + " d=" + show(d));
      SumRun run;
      run.float64 = float64;
      check_on_device(x, &y, want, run, float64);
    }
  }
}

// Both kinds of tensor cores, at a width where they add up a lot.
void ampere() {
  Random random(11);
  const std::int64_t d = 1024;
  const Matrix x = make_matrix(features(random, 12 * d), d, DType::float32);
  const Reference want(x, nullptr, few_kernels(d));
  emulator::set_tensor_cores(emulator::TensorCores::ampere);
  check_on_device(x, nullptr, want, SumRun{}, false);
  emulator::set_tensor_cores(emulator::TensorCores::hopper);
}

// Windows, shares, interruptions and the order of threads do not show.
void same_bits() {
  Random random(1);
  const std::int64_t d = 40, n = 300, m = 150;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16);
  for (const bool float64 : {false, true}) {
    for (const bool chosen : {false, true}) {
      SumRun run;
      run.kernels = {{polynomial(3, 1.0 / d, 1)}, {gaussian(std::sqrt(d)), laplacian(3)}};
      run.float64 = float64;
      choose(run, random, n, m, chosen);
      const Values want = run_on_device(x, &y, run).all();
      const auto compare = [&](const char* what, const DeviceRun& how) {
        const About about(std::string(what) + (chosen ? ", subsets" : ", labels") +
                          (float64 ? ", float64" : ", float32"));
        CHECK_ARRAYS(run_on_device(x, &y, run, how).all(), want);
      };
      run.seconds = 0;
      compare("windows of one block", {1, 1});
      run.seconds = 3600;
      // Two blocks of 128 rows a window.
      compare("windows of two", {4 * 128 * 384, 1});
      compare("three shares", {0, 3});
      compare("two shares of windows", {1, 2});
      for (const std::uint64_t seed : {1, 2}) {
        emulator::set_seed(seed);
        compare("another order", {0, 1});
      }
      emulator::set_seed(0);
    }
  }
}

// Devices with different memory have different windows, but the same pairs.
void unlike_shares() {
  Random random(4);
  const std::int64_t d = 6, n = 1040, m = 150;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float32);
  SumRun run;
  run.kernels = {{polynomial(3, 1.0 / d, 1)}};
  run.float64 = false;
  const Values want = run_on_device(x, &y, run).all();
  for (const int shares : {2, 3}) {
    const About about(show(shares) + " shares");
    CHECK_ARRAYS(run_on_device(x, &y, run, {1, shares, true}).all(), want);
  }
}

// A set against itself, or a copy; and two sets in either order.
void copies() {
  Random random(2);
  const std::int64_t d = 11;
  for (const std::int64_t n : {1, 33, 200}) {
    const Values values = features(random, n * d);
    for (const DType dtype : {DType::float32, DType::float64}) {
      const Matrix x = make_matrix(values, d, dtype);
      const Matrix copy = make_matrix(values, d, dtype, Layout::reversed);
      const Matrix y = make_matrix(features(random, 70 * d), d, DType::float16);
      const About about(name_of(x, y));
      SumRun run;
      run.kernels = every_kernel(d);
      const SumResult alone = run_on_device(x, nullptr, run);
      const SumResult both = run_on_device(x, &copy, run);
      const SumResult one = run_on_device(x, &y, run), other = run_on_device(y, &x, run);
      check_same_set_twice(alone, both);
      check_either_order(one, other);
    }
  }
}

// Rows that occur many times: no distance between them, however the products round.
void duplicates() {
  Random random(12);
  const std::int64_t d = 70, n = 140;
  Values values = features(random, n * d);
  for (std::int64_t i = 0; i < n; i += 3) std::copy_n(values.begin(), d, values.begin() + i * d);
  const Matrix x = make_matrix(values, d, DType::float32);
  SumRun run;
  run.kernels = {
      {gaussian(0.2 * std::sqrt(d))}, {rational_quadratic(1, 1)}, {energy()}, {laplacian(2)}};
  check_on_device(x, nullptr, Reference(x, nullptr, run.kernels), run, false);
  const Matrix same = make_matrix(Values(values.begin(), values.begin() + d), d, DType::float32);
  run.within = false;
  const SumResult got = run_on_device(x, &same, run);
  for (std::size_t k = 0; k < run.kernels.size(); ++k) {
    const double h = got.kernels[k].shift[0][0];
    for (std::int64_t i = 0; i < n; i += 3) {
      CHECK_EQUAL(got.kernels[k].row_sums[0][1][i] + 2 * h, k == 2 ? 0.0 : 1.0);
    }
  }
}

// Subsets by definition, the same alone as among others, and all rows in order the same as none.
void subsets() {
  Random random(3);
  const std::int64_t d = 13, n = 90, m = 150;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32, Layout::padded);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16);
  const Reference want(x, &y, few_kernels(d));
  SumRun run;
  run.kernels = want.kernels;
  for (const Size& size : {Size{1, 1}, Size{2, 70}, Size{64, 65}, Size{140, 20}}) {
    const About about(show(size.n) + " and " + show(size.m));
    SumRun several = run;
    several.count = 3;
    several.x = some_rows(random, n, several.count * size.n);
    several.y = some_rows(random, m, several.count * size.m);
    const SumResult together = check_on_device(x, &y, want, several, false);
    for (std::int64_t g = 0; g < several.count; ++g) {
      SumRun one = run;
      one.x = rows_of(several.x, g, several.count, n);
      one.y = rows_of(several.y, g, several.count, m);
      const SumResult found = run_on_device(x, &y, one);
      for (std::size_t k = 0; k < run.kernels.size(); ++k) {
        CHECK_EQUAL(found.kernels[k].squares[0][1][0], together.kernels[k].squares[0][1][g]);
        for (int s = 0; s < 2; ++s) {
          for (int t = 0; t < 2; ++t) {
            const Values& all = together.kernels[k].row_sums[s][t];
            const std::int64_t rows = s == 0 ? size.n : size.m;
            CHECK_ARRAYS(found.kernels[k].row_sums[s][t],
                         Values(all.begin() + g * rows, all.begin() + (g + 1) * rows));
          }
        }
      }
    }
  }
  SumRun all = run;
  for (std::int64_t i = 0; i < n; ++i) all.x.push_back(i);
  for (std::int64_t i = 0; i < m; ++i) all.y.push_back(i);
  CHECK_ARRAYS(run_on_device(x, &y, all).all(), run_on_device(x, &y, run).all());
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
    const About about(name_of(x, y));
    SumRun run;
    run.normalise = true;
    check_on_device(x, &y, want, run, dtype == DType::float64);
    // Rows without a direction are named, the first of each set.
    Values zeros = b;
    std::fill_n(zeros.begin() + 11 * d, 12 * d, 0.0);
    run.kernels = kernels;
    const Matrix bad = make_matrix(zeros, d, DType::float16);
    const SumResult second = run_on_device(x, &bad, run), first = run_on_device(bad, &x, run);
    CHECK_EQUAL(second.zero_row[0], std::int64_t{-1});
    CHECK_EQUAL(second.zero_row[1], std::int64_t{11});
    CHECK_EQUAL(first.zero_row[0], std::int64_t{11});
  }
}

// What sums are for: small differences of large means. Of features off the origin, with h left out, in
// float32.
void estimates() {
  for (const double apart : {0.0, 0.01, 0.5}) {
    Random random(7);
    const std::int64_t d = 32, n = 160, m = 120;
    const Matrix x = make_matrix(features(random, n * d, 2), d, DType::float32);
    const Matrix y = make_matrix(features(random, m * d, 2 + apart), d, DType::float32);
    const Reference want(x, &y, few_kernels(d));
    SumRun run;
    run.kernels = want.kernels;
    const SumResult got = run_on_device(x, &y, run);
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
      const About about("apart " + show(apart) + " kernel " + show(k));
      CHECK_AT_MOST(static_cast<double>(std::fabs(value - exact) / size), 0x1p-26);
    }
  }
}

void check_hard(const std::vector<Hard>& sets) {
  for (const Hard& set : sets) {
    const Matrix x = make_matrix(set.x, set.d, set.dtype), y = make_matrix(set.y, set.d, set.dtype);
    const Reference want(x, &y, set.kernels);
    for (std::size_t k = 0; k < set.kernels.size(); ++k) {
      const About about(std::string(set.name) + " such as " + show(set.x[2]) + ", " +
                        name_of(x, y) + ", kernel " + show(k));
      SumRun run;
      run.kernels = {set.kernels[k]};
      const SumResult got = run_on_device(x, &y, run);
      CHECK(!got.overflow);
      if (got.overflow) continue;
      check_kernel(want, k, got.kernels[0], run, 0, got.float64 ? 0x1p-53 : 0x1p-24);
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
  for (const std::vector<KernelOf>& kernels :
       {std::vector<KernelOf>{{polynomial(3, 1, 1)}},
        std::vector<KernelOf>{{gaussian(1e100)}, {energy(), polynomial(2, 1, 1)}}}) {
    run.kernels = kernels;
    CHECK(run_on_device(x, &y, run).overflow);
    CHECK(run_on_device(y, &x, run).overflow);
  }
  run.kernels = {{polynomial(1, 1e-100, 1), gaussian(1e100)}};
  CHECK(!run_on_device(x, &y, run).overflow);
  CHECK(!run_on_device(y, nullptr, run).overflow);
}

void ranges() {
  // The inverse of its norm is beyond float64: such a row has no direction.
  const Matrix small = make_matrix({3e-310, 4e-310, 1, 2}, 2, DType::float64);
  SumRun run;
  run.kernels = {{gaussian(1)}};
  run.normalise = true;
  CHECK(run_on_device(small, nullptr, run).zero_row[0] == 0);
  check_hard(range_sets());
}

// Too little memory is an error that leaves the device usable: 128 packed rows and as many zeros take the
// gigabyte that there is.
void memory() {
  Random random(9);
  const Matrix x = make_matrix(normals(random, 3 << 20), 1 << 20, DType::float32);
  const Matrix y = make_matrix(normals(random, 70 * 3), 3, DType::float32);
  SumRun run;
  run.kernels = {{polynomial(3, 1.0, 1)}};
  const Values want = run_on_device(y, nullptr, run).all();
  CHECK_THROWS(run_on_device(x, nullptr, run), cuda::OutOfMemory);
  CHECK_ARRAYS(run_on_device(y, nullptr, run).all(), want);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  const int status = run_tests({{"sizes", sizes},
                                {"widths", widths},
                                {"ampere", ampere},
                                {"same_bits", same_bits},
                                {"unlike_shares", unlike_shares},
                                {"copies", copies},
                                {"duplicates", duplicates},
                                {"subsets", subsets},
                                {"normalised", normalised},
                                {"estimates", estimates},
                                {"hard", hard},
                                {"overflows", overflows},
                                {"ranges", ranges},
                                {"memory", memory}},
                               argc, argv);
  std::printf("at most %.2f roundings\n", fastgen::test::roundings_seen);
  return status;
}
