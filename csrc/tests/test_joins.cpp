// Neighbours, balls and realism against brute force over the canonical distance, to the last bit:
// every instruction set and path, 1 to 4 threads, and sets of every shape that has a rule of its
// own.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/engines.hpp"
#include "tests/problems.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using Values = std::vector<double>;

// Fewer rows where an emulator runs them.
std::int64_t rows(std::int64_t n) { return kEmulated && n > 100 ? n / 2 : n; }

void solve(const std::string& name, const Values& x, const Values& y, std::int64_t d, DType dtype,
           const Ranks& ranks = {1, 1, 4}, bool thorough = false) {
  check_all_ways(make_problem(name, make_matrix(x, d, dtype, Layout::padded),
                              make_matrix(y, d, dtype, Layout::reversed), ranks),
                 thorough);
}

// Values with a function applied.
template <class Function>
Values mapped(Values values, Function function) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = function(values[i], i);
  return values;
}

// `n` rows drawn from the rows of `pool`.
Values drawn(Random& random, const Values& pool, std::int64_t d, std::int64_t n) {
  const std::int64_t available = static_cast<std::int64_t>(pool.size()) / d;
  Values values;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = pool.begin() + random.below(available) * d;
    values.insert(values.end(), row, row + d);
  }
  return values;
}

Values joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void shapes() {
  Random random(1);
  for (const std::int64_t d : {1, 2, 9, 33}) {
    for (const std::int64_t n : {1, 2, 17, 40}) {
      const std::int64_t m = n == 17 ? 1 : n + 3;
      solve("normal n=" + std::to_string(n) + " d=" + std::to_string(d), normals(random, n * d),
            normals(random, m * d), d, d % 2 ? DType::float32 : DType::float64);
    }
  }
}

void several_blocks() {
  Random random(2);
  // A block holds up to 384 columns.
  const std::int64_t n = rows(790), m = rows(391);
  solve("normal d=3", normals(random, n * 3), normals(random, m * 3), 3, DType::float32, {1, 3, 5});
  solve("normal d=64", normals(random, n * 64), normals(random, m * 64), 64, DType::float32, {1, 5},
        true);
  solve("large k", normals(random, rows(240) * 16), normals(random, rows(160) * 16), 16,
        DType::float64, {1, 30, kEmulated ? 65 : 130});
}

void wide_rows() {
  Random random(3);
  const Values x = normals(random, rows(101) * 2048), y = normals(random, rows(50) * 2048);
  const auto positive = [](double value, std::size_t) { return value > 0 ? value : 0.0; };
  solve("normal d=2048", x, y, 2048, DType::float32);
  solve("positive d=2048", mapped(x, positive), mapped(y, positive), 2048, DType::float16);
}

void features() {
  Random random(4);
  const std::int64_t n = rows(250), m = rows(150), d = 100;
  const Values x = normals(random, n * d), y = normals(random, m * d);
  const auto both = [&](const std::string& name, DType dtype, auto function) {
    solve(name, mapped(x, function), mapped(y, function), d, dtype);
  };
  both("float16", DType::float16, [](double value, std::size_t) { return value; });
  both("heavy tails", DType::float32, [](double value, std::size_t) { return std::pow(value, 7); });
  both("one huge dimension", DType::float32,
       [](double value, std::size_t i) { return i % 100 == 42 ? 1e4 * value : value; });
  both("far from zero", DType::float32, [](double value, std::size_t) { return 1e4 + value; });
  both("sparse", DType::float64,
       [&](double value, std::size_t) { return random.below(12) ? 0.0 : value; });
  both("many ties", DType::float32,
       [](double value, std::size_t i) { return i % 100 < 6 ? std::nearbyint(value) : 0.0; });
}

void duplicates() {
  Random random(5);
  const std::int64_t d = 16, n = rows(600), m = rows(350);
  const Values pool = normals(random, 40 * d);
  // Ties between copies go by index, and copies of several rows interleave.
  solve("few distinct rows", drawn(random, pool, d, n), drawn(random, pool, d, m), d,
        DType::float32, {1, 3, 20});
  const Values one = normals(random, d);
  solve("all rows equal", drawn(random, one, d, rows(120)), drawn(random, one, d, rows(90)), d,
        DType::float32);
  solve("all rows equal, sets apart", drawn(random, one, d, 50),
        drawn(random, normals(random, d), d, 60), d, DType::float64);
  solve("half the rows equal", joined(drawn(random, one, d, n / 2), normals(random, n / 2 * d)),
        joined(normals(random, m / 2 * d), drawn(random, one, d, m / 2)), d, DType::float32);
  const Values original = normals(random, rows(300) * d);
  solve("a set and its copy", original, original, d, DType::float32);
  solve("zeros of both signs",
        mapped(drawn(random, pool, d, 80),
               [](double value, std::size_t i) { return value > 0 ? value
                                                        : i % 3   ? -0.0
                                                                  : 0.0; }),
        mapped(drawn(random, pool, d, 80),
               [](double value, std::size_t) { return value > 0 ? value : 0.0; }),
        d, DType::float32);
  // Distances that tie without being copies, k from the middle of the ties.
  Values corners;
  for (int i = 0; i < 128; ++i) {
    for (int j = 0; j < 7; ++j) corners.push_back(i >> j & 1);
  }
  solve("corners of a cube", corners, drawn(random, corners, 7, 150), 7, DType::float32,
        {1, 4, 9, 20});
}

// Rows around `count` centres; the spread is relative to the centres' distances.
Values clusters(Random& random, const Values& centres, std::int64_t d, std::int64_t n,
                double spread) {
  Values values = drawn(random, centres, d, n);
  for (double& value : values) value += spread * random.normal();
  return values;
}

void tight_clusters() {
  Random random(6);
  const std::int64_t d = 64, n = rows(480), m = rows(288);
  const Values centres = normals(random, 6 * d), others = normals(random, 3 * d);
  for (const double spread : {1e-2, 1e-4, 1e-6}) {
    const Values x = clusters(random, centres, d, n, spread);
    const Values y = joined(clusters(random, centres, d, m / 2, spread),
                            clusters(random, others, d, m / 2, spread));
    if (!kEmulated && spread == 1e-4) {  // this is what parts are for
      const Way way{all_kernels()[0], cpu::Path::int8, 2, 0.5};
      CHECK(prepare(make_matrix(x, d, DType::float64), way)->parts().size() >= 6);
    }
    solve("clusters of spread " + show(spread), x, y, d, DType::float64);
  }
}

void sets_apart() {
  Random random(7);
  const std::int64_t d = 40, n = rows(220), m = rows(150);
  const auto moved = [](double by) {
    return [by](double value, std::size_t) { return value + by; };
  };
  const Values x = normals(random, n * d), y = normals(random, m * d);
  for (const double by : {3.0, 1e3, 1e9}) {
    solve("apart by " + show(by), mapped(x, moved(-by)), mapped(y, moved(by)), d, DType::float64);
  }
  // One set is a point to the other.
  const auto scaled = [](double by) {
    return [by](double value, std::size_t) { return value * by; };
  };
  solve("of different size", mapped(x, scaled(1e-9)), mapped(y, scaled(1e9)), d, DType::float64);
  solve("near zero and far", mapped(x, scaled(1e-30)), mapped(y, scaled(1e30)), d, DType::float32);
  const Problem mixed = make_problem("float16 against float64", make_matrix(x, d, DType::float16),
                                     make_matrix(y, d, DType::float64));
  check_all_ways(mixed, true);
}

void extreme_values() {
  Random random(8);
  const std::int64_t d = 24, n = rows(140), m = rows(110);
  const Values x = normals(random, n * d), y = normals(random, m * d);
  const auto both = [&](const std::string& name, double size, DType dtype) {
    const auto scaled = [size](double value, std::size_t) { return value * size; };
    solve(name, mapped(x, scaled), mapped(y, scaled), d, dtype);
  };
  both("about 1e-200", 1e-200, DType::float64);  // every square is zero
  both("about 1e-158", 1e-158, DType::float64);  // squares are subnormal
  both("about 1e-130", 1e-130, DType::float64);
  both("about 2^497", 0x1p497, DType::float64);
  both("about 1e-310", 1e-310, DType::float64);
  both("about 1e-42", 1e-42, DType::float32);
  both("about 1e37", 1e37, DType::float32);
  both("subnormal halves", 1e-6, DType::float16);
  // Most rows at one end of the range, some distances below the smallest number.
  const auto mixed = [](double value, std::size_t i) {
    return i / 24 % 5 == 0 ? value : value * std::ldexp(1.0, -static_cast<int>(i / 24 % 7) * 90);
  };
  solve("every size", mapped(x, mixed), mapped(y, mixed), d, DType::float64);
}

// A few rows so far out that no scale serves them and the rest.
void outlying_rows() {
  Random random(11);
  const std::int64_t d = 12;
  for (const double size : {1e6, 1e15, 1e40, 1e140}) {
    for (const std::int64_t n :
         {30, 180}) {  // for few rows all ranks: the outlying ones are neighbours
      Values x = normals(random, n * d), y = normals(random, n / 2 * d);
      for (std::int64_t i = 0; i < 3; ++i) {
        for (std::int64_t j = 0; j < d; ++j) {
          x[i * 9 * d + j] *= size;
          y[(i + 2) * d + j] *= i == 1 ? 1 / size : -size;
        }
      }
      std::copy_n(x.begin(), d, x.begin() + d);      // an outlying row and its copy,
      std::copy_n(x.begin(), d, y.begin() + 5 * d);  // one of them in the other set
      solve("outlying rows of " + show(size), x, y, d, DType::float64, {1, 4});
    }
  }
}

// More rows than one task takes of a block.
void many_rows() {
  Random random(9);
  const std::int64_t d = 5, n = kEmulated ? 1000 : 2050, m = 70;
  const Values x = normals(random, n * d), y = normals(random, m * d);
  const Problem p = make_problem("many columns", make_matrix(y, d, DType::float32),
                                 make_matrix(x, d, DType::float32));
  const Matrix rows = make_matrix(x, d, DType::float32);
  const Matrix columns = make_matrix(y, d, DType::float32);
  const Neighbours cross = brute_neighbours(rows, &columns, {1, 4});
  // Among all rows brute force would take long: the scan, checked by other tests, answers.
  const Way scan{all_kernels().front(), cpu::Path::scan, 4, 0.5};
  const auto scanned = prepare(rows, scan);
  Neighbours self{{1, 4}, Values(n * 2), std::vector<std::int64_t>(n * 2)};
  cpu::Knn knn(*scanned, nullptr, self.ranks, self.sq.data(), self.indices.data(), scan.threads);
  complete(knn, scan.step);
  for (const cpu::Kernels* k : all_kernels()) {
    for (const cpu::Path path : {cpu::Path::int8, cpu::Path::float32}) {
      const Way way{k, path, 3, 0.01};
      check_problem(p, way, false);
      const About about("many rows: " + describe(way));
      const auto a = prepare(rows, way), b = prepare(columns, way);
      check_knn(*a, b.get(), cross, true, way);
      if (k == all_kernels().front()) check_knn(*a, nullptr, self, true, way);
    }
  }
}

// Beyond 131,072 features int32 cannot hold the products, and float32 takes over.
void very_wide_rows() {
  Random random(10);
  const std::int64_t d = kEmulated ? 8200 : 131100;
  const Problem p =
      make_problem("very wide", make_matrix(normals(random, 7 * d), d, DType::float32),
                   make_matrix(normals(random, 5 * d), d, DType::float32), {1, 3});
  check_problem(p, {all_kernels().front(), cpu::Path::int8, 1, 0.5}, false);
  check_problem(p, {all_kernels().back(), cpu::Path::int8, 2, 0.0}, false);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"shapes", shapes},
                    {"several_blocks", several_blocks},
                    {"wide_rows", wide_rows},
                    {"features", features},
                    {"duplicates", duplicates},
                    {"tight_clusters", tight_clusters},
                    {"sets_apart", sets_apart},
                    {"extreme_values", extreme_values},
                    {"outlying_rows", outlying_rows},
                    {"many_rows", many_rows},
                    {"very_wide_rows", very_wide_rows}},
                   argc, argv);
}
