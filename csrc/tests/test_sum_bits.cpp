// Kernel sums to the last bit: the same for every block size, thread count and interruption, for either
// order of two sets, for a set against itself or a copy, and for subsets alone or among others.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/sum_checks.hpp"
#include "tests/sum_problems.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {
namespace {

// Blocks, threads and interruptions do not show.
void same_bits() {
  Random random(1);
  const std::int64_t d = 7, n = kEmulated ? 130 : 390, m = kEmulated ? 70 : 130;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16);
  SumRun run;
  run.kernels = few_kernels(d);
  run.labels = some_labels(random, n + m, 9);
  for (const cpu::Kernels* table : sum_tables()) {
    for (const bool float64 : {false, true}) {
      run.float64 = float64;
      run.block = cpu::kTile;
      run.threads = 1;
      run.seconds = 3600;
      const Values want = run_sums(*table, x, &y, run).all();
      for (const int block : {64, 128, 192, 384}) {
        for (const int threads : {1, 2, 5}) {
          if (float64 && (block / 64 + threads) % 3) continue;
          const About about(std::string(table->name) + " block " + show(block) + " threads " +
                            show(threads) + (float64 ? " float64" : " float32"));
          run.block = block;
          run.threads = threads;
          run.seconds = threads == 5 ? 3600 : 0;
          const SumResult got = run_sums(*table, x, &y, run);
          CHECK_ARRAYS(got.all(), want);
          // One task per thread and call.
          if (run.seconds == 0) {
            const std::int64_t blocks = (n + block - 1) / block + (m + block - 1) / block;
            CHECK(got.calls * threads >= blocks * (blocks + 1) / 2);
          }
        }
      }
    }
  }
}

// Features that are 0 in every row change nothing but how many blocks of rows are packed at once.
void windows() {
  if (kEmulated) return;
  Random random(6);
  const cpu::Kernels& table = *sum_tables()[0];
  // Two blocks of 64 rows at once.
  const std::int64_t d = 5, wide = 44100, n = 129, m = 65;
  const auto widened = [&](const Values& values) {
    Values out(values.size() / d * wide, 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) out[i / d * wide + i % d] = values[i];
    return make_matrix(out, wide, DType::float32);
  };
  const Values a = features(random, n * d), b = features(random, m * d);
  const Matrix x = make_matrix(a, d, DType::float32), y = make_matrix(b, d, DType::float32);
  const Matrix wide_x = widened(a), wide_y = widened(b);
  const auto compare = [&](const char* name, SumRun run, bool two = true) {
    const About about(name);
    run.kernels = few_kernels(d);
    run.block = 64;
    run.threads = 2;
    CHECK_ARRAYS(run_sums(table, wide_x, two ? &wide_y : nullptr, run).all(),
                 run_sums(table, x, two ? &y : nullptr, run).all());
  };
  SumRun run;
  run.labels = some_labels(random, n + m, 3);
  compare("two sets", run);
  run.labels.clear();
  run.within = false;
  run.seconds = 0;
  compare("one set", run, false);
  run.within = true;
  run.count = 3;
  for (const Size& size : {Size{65, 2}, Size{40, 30}}) {
    run.x = some_rows(random, n, run.count * size.n);
    run.y = some_rows(random, m, run.count * size.m);
    compare("subsets", run);
  }
}

// A set against itself, or a copy; and two sets in either order.
void copies() {
  Random random(2);
  const std::int64_t d = 11;
  for (const std::int64_t n : {1, 64, 65, 200}) {
    const Values values = features(random, n * d);
    const Matrix x = make_matrix(values, d, DType::float32);
    const Matrix copy = make_matrix(values, d, DType::float32, Layout::reversed);
    const Matrix y = make_matrix(features(random, 70 * d), d, DType::float64);
    for (const cpu::Kernels* table : sum_tables()) {
      const About about(name_of(*table, x, y));
      SumRun run;
      run.kernels = every_kernel(d);
      run.block = 64;
      const SumResult alone = run_sums(*table, x, nullptr, run);
      const SumResult both = run_sums(*table, x, &copy, run);
      const SumResult one = run_sums(*table, x, &y, run), other = run_sums(*table, y, &x, run);
      check_same_set_twice(alone, both);
      check_either_order(one, other);
    }
  }
}

// Subsets are the same alone as among others, and all rows in order the same as no subset.
void subsets() {
  Random random(3);
  const std::int64_t d = 13, n = kEmulated ? 30 : 90, m = kEmulated ? 40 : 150;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32, Layout::padded);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16);
  SumRun run;
  run.kernels = few_kernels(d);
  for (const cpu::Kernels* table : sum_tables()) {
    for (const Size& size : {Size{1, 1}, Size{2, 70}, Size{64, 65}, Size{100, 20}}) {
      const About about(std::string(table->name) + " " + show(size.n) + " and " + show(size.m));
      SumRun several = run;
      several.count = 3;
      several.x = some_rows(random, n, several.count * size.n);
      several.y = some_rows(random, m, several.count * size.m);
      several.threads = 2;
      several.block = 64;
      const SumResult together = run_sums(*table, x, &y, several);
      for (std::int64_t g = 0; g < several.count; ++g) {
        SumRun one = run;
        one.x = rows_of(several.x, g, several.count, n);
        one.y = rows_of(several.y, g, several.count, m);
        const SumResult found = run_sums(*table, x, &y, one);
        for (std::size_t k = 0; k < run.kernels.size(); ++k) {
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
    CHECK_ARRAYS(run_sums(*table, x, &y, all).all(), run_sums(*table, x, &y, run).all());
  }
}

// Squares of one subset do not depend on the others of the run.
void squares() {
  Random random(9);
  const std::int64_t d = 5, n = 60;
  const Matrix x = make_matrix(features(random, n * d), d, DType::float32);
  SumRun several;
  several.kernels = few_kernels(d);
  several.count = 20;
  several.x = some_rows(random, n, several.count);
  several.y = some_rows(random, n, several.count);
  const cpu::Kernels& table = *sum_tables()[0];
  const SumResult together = run_sums(table, x, &x, several);
  for (std::int64_t g = 0; g < several.count; ++g) {
    SumRun one = several;
    one.count = 1;
    one.x = {several.x[g]};
    one.y = {several.y[g]};
    const SumResult alone = run_sums(table, x, &x, one);
    for (std::size_t k = 0; k < several.kernels.size(); ++k) {
      const About about("subset " + show(g) + " kernel " + show(k));
      CHECK_EQUAL(alone.kernels[k].squares[0][1][0], together.kernels[k].squares[0][1][g]);
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"same_bits", same_bits},
                    {"windows", windows},
                    {"copies", copies},
                    {"subsets", subsets},
                    {"squares", squares}},
                   argc, argv);
}
