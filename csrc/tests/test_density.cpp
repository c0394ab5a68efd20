// The density engine against long double: every path, instruction set and type, with weights, without
// each point itself, with several bandwidths, near and far; and the same to the last bit for every
// number of threads and interruption.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/densities.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

constexpr DType kTypes[] = {DType::float32, DType::float64, DType::float16};

struct Size {
  std::int64_t n, m;
};

// Sizes around the blocks of every path, in turns with all that may be asked.
void sizes() {
  const Size all[] = {{1, 1},     {1, 513},   {2, 255},   {255, 2},   {256, 512}, {257, 511},
                      {191, 385}, {192, 384}, {193, 383}, {513, 257}, {3, 1025},  {700, 1}};
  int turn = 0;
  for (const Size& size : all) {
    if (kEmulated && size.n * size.m > 3100) continue;
    ++turn;
    const std::int64_t d = turn % 5 + 1;
    Random random(static_cast<std::uint64_t>(turn));
    Densities problem;
    problem.points = make_matrix(normals(random, size.n * d), d, kTypes[turn % 3],
                                 static_cast<Layout>(turn / 3 % 3));
    problem.samples = make_matrix(normals(random, size.m * d), d, kTypes[turn % 3],
                                  static_cast<Layout>(turn % 3));
    const double width = 0.5 * std::sqrt(static_cast<double>(d));
    problem.bandwidths = turn % 2 ? Values{width} : grid(1.7, 3, width);
    if (turn % 4 < 2) problem.weights = some_weights(random, size.m, 1e-6);
    const About name(describe(problem));
    check_paths(problem, tables());
    // So few pairs are all taken.
    const cpu::Kernels& table = *tables()[0];
    CHECK_ARRAYS(run_density(table, problem, {DensityPath::automatic, 2, 0}).logs,
                 run_density(table, problem, {DensityPath::direct, 1, 3600}).logs);
  }
}

// Each sample without itself, for sizes around the blocks.
void without_self() {
  int turn = 0;
  for (const std::int64_t n : {2, 3, 255, 257, 384, 385, 512, 600}) {
    if (kEmulated && n > 100) continue;
    for (const int count : {1, 3}) {
      ++turn;
      const std::int64_t d = 1 + turn % 4;
      Random random(static_cast<std::uint64_t>(turn));
      Densities problem;
      problem.samples = make_matrix(normals(random, n * d), d, kTypes[turn / 2 % 3],
                                    static_cast<Layout>(turn % 3));
      problem.points = problem.samples;
      problem.leave_one_out = true;
      problem.bandwidths = grid(std::sqrt(2.0), count, 0.4);
      if (turn % 4 < 2) problem.weights = some_weights(random, n, 1e-3);
      const About name(describe(problem));
      check_paths(problem, one_table());
    }
  }
  // Nothing is left of one sample.
  Densities one;
  one.samples = one.points = make_matrix({1, 2}, 2, DType::float32);
  one.leave_one_out = true;
  one.bandwidths = {1};
  check_paths(one);
}

// Widths of all paths.
void widths() {
  for (const std::int64_t d : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 128, 300}) {
    const std::int64_t n = d > 100 || kEmulated ? 20 : 60, m = d > 100 || kEmulated ? 30 : 90;
    for (const DType dtype : kTypes) {
      if (kEmulated && (d + static_cast<int>(dtype)) % 3) continue;
      Random random(static_cast<std::uint64_t>(d));
      Densities problem;
      problem.points = make_matrix(normals(random, n * d), d, dtype, Layout::padded);
      problem.samples = make_matrix(normals(random, m * d), d, dtype, Layout::reversed);
      for (const int count : {1, 6}) {
        problem.bandwidths = grid(std::sqrt(2.0), count, 0.7 * std::pow(d, 0.4));
        const About name(describe(problem));
        check_paths(problem, one_table());
      }
    }
  }
}

// Grids of bandwidths in any order, and as far apart as the engine takes them.
void bandwidths() {
  const std::vector<Values> all = {grid(std::sqrt(2.0), 20, 0.3),
                                   {0.5, 0.5, 0.1, 3, 0.5, 0.25, 0.125},
                                   grid(10, 9, 0.1),
                                   {1e-6, 1e6},
                                   {1e7, 1e-7, 1},
                                   {1e15, 1e-14},
                                   {1e-6},
                                   {1e6}};
  for (const std::int64_t d : {2, 20}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      Random random(static_cast<std::uint64_t>(d));
      const std::int64_t n = kEmulated ? 12 : 40, m = kEmulated ? 20 : 70;
      Densities problem;
      problem.samples = make_matrix(normals(random, m * d), d, dtype);
      // Some are samples.
      Values points = normals(random, n * d);
      std::copy_n(problem.samples.values.begin(), 10 * d, points.begin() + d);
      problem.points = make_matrix(points, d, dtype);
      for (const Values& widths : all) {
        problem.bandwidths = widths;
        const About name(describe(problem) + " such as " + show(widths[0]));
        check_paths(problem, one_table());
      }
    }
  }
}

// Rows that are hard on the arithmetic.
void hard() {
  for (const std::int64_t d : {1, 3, 6, 24}) {
    if (kEmulated && d % 2 == 0) continue;
    for (const DType dtype : {DType::float32, DType::float64}) {
      const std::int64_t n = kEmulated ? 8 : 14, m = kEmulated ? 12 : 24;
      Random random(static_cast<std::uint64_t>(d));
      const Values x = normals(random, n * d), y = normals(random, m * d);
      const auto check = [&](const char* what, const Values& points, const Values& samples,
                             const Values& widths) {
        Densities problem;
        problem.points = make_matrix(points, d, dtype);
        problem.samples = make_matrix(samples, d, dtype);
        problem.bandwidths = widths;
        const About name(std::string(what) + " such as " + show(points[0]) + ", bandwidth " +
                         show(widths[0]) + ", " + describe(problem));
        check_paths(problem, one_table());
      };
      const auto moved = [](Values values, double factor, double shift) {
        for (double& value : values) value = factor * value + shift;
        return values;
      };
      for (const double far : {30.0, 1e3, 1e4, 1e9, 1e15}) {
        check("far points", moved(x, 1, far), y, {1});
        check("far points", moved(x, 1, far), y, {1, 2, 8});
        check("far samples", x, moved(y, 1, -far), {0.5});
      }
      Values outlier = y;
      outlier[d] = 1e6;
      check("an outlier", x, outlier, {1});
      check("an outlier", outlier, x, {1, 1.5});
      check("equal rows", Values(n * d, 0.3), Values(m * d, 0.3), {1e-3});
      check("equal samples", x, Values(m * d, 0.7), {0.1, 3});
      check("zeros", Values(n * d, 0.0), Values(m * d, 0.0), {1, 2});
      for (const double shift : {100.0, 1e4, 1e6}) {
        check("off the origin", moved(x, 1, shift), moved(y, 1, shift), {1});
        check("off the origin", moved(x, 1, shift), moved(y, 1, shift), {0.3, 1.1});
      }
      // Two clusters, whose own distances are what is left of much larger numbers.
      Values two = y, near_two = x;
      for (std::size_t i = 0; i < two.size(); ++i) two[i] = 1e-3 * two[i] + (i / d % 2 ? 50 : -50);
      for (std::size_t i = 0; i < near_two.size(); ++i) {
        near_two[i] = 1e-3 * near_two[i] + (i / d % 2 ? 50 : -50);
      }
      check("two clusters", near_two, two, {1e-3});
      check("two clusters", near_two, two, {1e-4, 1e-2});
      for (const double size : {1e-30, 1e-18, 1e18, 1e30}) {
        check("size", moved(x, size, 0), moved(y, size, 0), {size});
        check("size", moved(x, size, 0), moved(y, size, 0), {0.2 * size, 1e-5 * size});
      }
      if (dtype == DType::float32) continue;
      for (const double size : {1e-150, 1e-100, 1e100, 1e150}) {
        check("size", moved(x, size, 0), moved(y, size, 0), {size});
        check("size", moved(x, size, 0), moved(y, size, 0), {0.2 * size, 1e-4 * size});
      }
    }
  }
}

// Weights that span more than float32 holds beside the nearest sample.
void weights() {
  for (const std::int64_t d : {1, 3, 18}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      for (const double lightest : {0.1, 1e-9, 1e-19, 1e-30, 1e-200}) {
        Random random(static_cast<std::uint64_t>(d));
        const std::int64_t n = kEmulated ? 10 : 30, m = kEmulated ? 20 : 60;
        Densities problem;
        problem.points = make_matrix(normals(random, n * d, 2), d, dtype);
        problem.samples = make_matrix(normals(random, m * d, 2), d, dtype);
        problem.weights = some_weights(random, m, lightest);
        for (const Values& widths : {Values{0.3}, Values{0.1, 0.2, 1, 40}}) {
          problem.bandwidths = widths;
          const About name(describe(problem) + " lightest " + show(lightest));
          check_paths(problem, one_table());
        }
      }
    }
  }
}

// Many terms of the same size, which float32 adds up for some time.
void many_equal() {
  if (kEmulated) return;
  const std::int64_t m = 2500;
  for (const std::int64_t d : {1, 2, 5}) {
    Random random(static_cast<std::uint64_t>(d));
    Densities problem;
    problem.points = make_matrix(normals(random, 40 * d, 2), d, DType::float32);
    problem.samples = make_matrix(Values(m * d, 0.0), d, DType::float32);
    problem.bandwidths = {1};
    const About name(describe(problem));
    check_paths(problem, tables());
  }
}

// Clusters so far apart that whole blocks do not matter: what the ordered walk passes over does not show.
void passed_over() {
  for (const std::int64_t d : {1, 2, 5}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      Random random(static_cast<std::uint64_t>(d));
      const std::int64_t m = kEmulated ? 1100 : 3500, n = kEmulated ? 20 : 90;
      const Values centres = normals(random, 9 * d, 6);
      const auto rows = [&](std::int64_t count) {
        Values values;
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t c = random.below(9);
          for (std::int64_t f = 0; f < d; ++f) {
            values.push_back(centres[c * d + f] + 0.3 * random.normal());
          }
        }
        return values;
      };
      Densities problem;
      problem.samples = make_matrix(rows(m), d, dtype);
      problem.points = make_matrix(rows(n), d, dtype);
      problem.weights = some_weights(random, m, 1e-5);
      for (const Values& widths : {Values{0.1}, Values{0.05, 0.08, 0.6}}) {
        problem.bandwidths = widths;
        const About name(describe(problem));
        check_paths(problem, kEmulated ? tables() : std::vector<const cpu::Kernels*>{tables()[0]});
      }
    }
  }
}

// Many samples within a bandwidth of each other, which polynomials stand for in 1 and 2 dimensions; some
// points are far from all.
void far_field() {
  for (const std::int64_t d : {1, 2}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      for (const bool self : {false, true}) {
        Random random(static_cast<std::uint64_t>(d));
        const std::int64_t m = kEmulated ? 600 : 1100, n = self ? m : 300;
        Densities problem;
        problem.samples = make_matrix(normals(random, m * d), d, dtype);
        Values points = normals(random, n * d);
        for (std::int64_t i = 0; i < 5 * d; ++i) points[i] *= 20;
        problem.points = self ? problem.samples : make_matrix(points, d, dtype);
        problem.leave_one_out = self;
        if (d == 2) problem.weights = some_weights(random, m, 1e-3);
        problem.bandwidths = {0.05, 0.3, 40};
        const DensityReference want(problem);
        for (const cpu::Kernels* table : self ? one_table() : tables()) {
          const About name(describe(problem) + " " + table->name);
          check_density(want, run_density(*table, problem, {DensityPath::ordered, 2, 3600}),
                        problem);
        }
      }
    }
  }
}

// Threads and interruptions do not show.
void same_bits() {
  const std::int64_t n = kEmulated ? 20 : 270, m = kEmulated ? 600 : 1030;
  int turn = 0;
  for (const std::int64_t d : {2, 20}) {
    for (const int count : {1, 4}) {
      for (const bool self : {false, true}) {
        ++turn;
        Random random(static_cast<std::uint64_t>(turn));
        Densities problem;
        const std::int64_t rows = self ? 2 * n : m;
        problem.samples = make_matrix(normals(random, rows * d), d, kTypes[turn % 2]);
        problem.points =
            self ? problem.samples : make_matrix(normals(random, n * d), d, kTypes[turn % 2]);
        problem.leave_one_out = self;
        problem.bandwidths = grid(1.5, count, 0.5);
        if (turn % 3 == 0) problem.weights = some_weights(random, rows, 1e-3);
        const cpu::Kernels& table = *tables()[turn % tables().size()];
        for (const DensityPath path : paths_of(d)) {
          const About name(describe(problem) + " " + table.name + " " + name_of(path));
          const DensityResult want = run_density(table, problem, {path, 1, 3600});
          for (const int threads : {1, 2, 3}) {
            const DensityResult got =
                run_density(table, problem, {path, threads, threads == 2 ? 3600.0 : 0.0});
            CHECK_ARRAYS(got.logs, want.logs);
            CHECK_ARRAYS(got.dominated, want.dominated);
            CHECK(threads == 2 || kEmulated || got.calls > 1);
          }
        }
      }
    }
  }
}

// Features that are 0 in every row change nothing but how many blocks are packed at once.
void windows() {
  if (kEmulated) return;
  Random random(1);
  const std::int64_t d = 5, wide = 16500, n = 193, m = 200;
  Densities narrow, problem;
  narrow.points = make_matrix(normals(random, n * d), d, DType::float32);
  narrow.samples = make_matrix(normals(random, m * d), d, DType::float32);
  narrow.bandwidths = problem.bandwidths = {0.6, 1};
  const auto widened = [&](const Matrix& rows) {
    Values out(rows.n * wide, 0.0);
    for (std::size_t i = 0; i < rows.values.size(); ++i) out[i / d * wide + i % d] = rows.values[i];
    return make_matrix(out, wide, DType::float32);
  };
  problem.points = widened(narrow.points);
  problem.samples = widened(narrow.samples);
  const DensityReference want(narrow);
  const DensityRun run{DensityPath::tiles, 2, 0};
  check_density(want, run_density(*tables()[0], problem, run), narrow);
}

// What would be out of bounds is refused.
void refused() {
  const Matrix x = make_matrix({1, 2, 3}, 1, DType::float32),
               y = make_matrix({1, 2}, 1, DType::float32);
  const Matrix wide = make_matrix(Values(18, 1.0), 9, DType::float32);
  const Matrix wider = make_matrix(Values(34, 1.0), 17, DType::float32);
  const Matrix doubles = make_matrix({1, 2, 3}, 1, DType::float64);
  const cpu::Kernels& table = *tables()[0];
  const auto make = [&](const Matrix& a, const Matrix& b, const Values& widths, const Values& heavy,
                        bool self, DensityPath path) {
    cpu::LogSums(a.view(), b.view(), widths, heavy.empty() ? nullptr : heavy.data(), self, path,
                 table, 1);
  };
  const DensityPath any = DensityPath::automatic;
  CHECK_THROWS(make(x, y, {}, {}, false, any), std::logic_error);
  CHECK_THROWS(make(x, y, {1, 0}, {}, false, any), std::logic_error);
  CHECK_THROWS(make(x, y, {1e16, 1e-16}, {}, false, any), std::logic_error);
  CHECK_THROWS(make(x, y, {1}, {1, 0}, false, any), std::logic_error);
  CHECK_THROWS(make(x, y, {1}, {1, 1.5}, false, any), std::logic_error);
  CHECK_THROWS(make(x, y, {1}, {}, true, any), std::logic_error);
  CHECK_THROWS(make(x, doubles, {1}, {}, false, any), std::logic_error);
  CHECK_THROWS(make(x, wide, {1}, {}, false, any), std::logic_error);
  CHECK_THROWS(make(wide, wide, {1}, {}, false, DensityPath::ordered), std::logic_error);
  CHECK_THROWS(make(wider, wider, {1}, {}, false, DensityPath::direct), std::logic_error);
  const cpu::LogSums engine(x.view(), y.view(), {1}, nullptr, false, any, table, 1);
  Values out(3);
  CHECK_THROWS(engine.log_sums(out.data()), std::logic_error);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  const int status = run_tests({{"sizes", sizes},
                                {"without_self", without_self},
                                {"widths", widths},
                                {"bandwidths", bandwidths},
                                {"hard", hard},
                                {"weights", weights},
                                {"many_equal", many_equal},
                                {"passed_over", passed_over},
                                {"far_field", far_field},
                                {"same_bits", same_bits},
                                {"windows", windows},
                                {"refused", refused}},
                               argc, argv);
  std::printf("at most %.3f of the bound, float64 %.3f\n", fastgen::test::share_seen[0],
              fastgen::test::share_seen[1]);
  return status;
}
