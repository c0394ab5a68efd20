// Engines at work: the switch from int8 to float32, engines stopped half-way, several at once on
// one prepared set, and in a caller's odd floating-point mode.
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tests/check.hpp"
#include "tests/engines.hpp"
#include "tests/problems.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Path;

// Rows of a Hadamard matrix and their negatives, each several times with some noise: nearly all
// distances tie.
Matrix tying_rows(Random& random, std::int64_t n, std::int64_t d) {
  std::vector<double> values(static_cast<std::size_t>(n * d));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      const bool odd = __builtin_parityll(static_cast<unsigned long long>(i % d & j));
      values[i * d + j] = (odd != (i / d % 2 == 0) ? 1.0 : -1.0) + 1e-3 * random.normal();
    }
  }
  return make_matrix(values, d, DType::float32, Layout::padded);
}

// Sets on which int8 cannot tell pairs apart: the automatic path gives it up half-way.
void switch_to_float() {
  if (kEmulated) return;  // it takes a million pairs
  Random random(2);
  const std::int64_t d = 64;
  Problem p;
  p.x = tying_rows(random, 1500, d);
  p.y = tying_rows(random, 1400, d);
  const std::int64_t n = p.x.n, m = p.y.n;
  const Neighbours want = brute_neighbours(p.x, nullptr, {1, 14});
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < m; ++j) p.sq.push_back(canonical(p.x.row(i), p.y.row(j), d));
  }
  // A tenth of the balls have edges that run through all the other rows.
  for (std::int64_t i = 0; i < n; ++i)
    p.radii_x.push_back(i % 10 ? 1e-3 : p.sq[i * m + (i + 1) % m]);
  for (std::int64_t j = 0; j < m; ++j) p.radii_y.push_back(j % 20 ? 1e-3 : p.sq[(j + 1) * m + j]);
  const BallCounts counts = brute_balls(p, p.radii_x, p.radii_y, true);
  std::int64_t knn_looks[2] = {}, ball_looks[2] = {};
  const auto solve = [&](const cpu::Kernels* k, Path path) {
    const Way way{k, path, 1, 0.0};
    const About about(describe(way));
    const auto x = prepare(p.x, way), y = prepare(p.y, way);
    std::vector<double> sq(want.sq.size());
    std::vector<std::int64_t> indices(sq.size());
    cpu::Knn knn(*x, nullptr, want.ranks, sq.data(), indices.data(), way.threads);
    complete(knn, way.step);
    CHECK_ARRAYS(sq, want.sq);
    CHECK_ARRAYS(indices, want.indices);
    cpu::Balls balls(*x, *y, p.radii_x.data(), p.radii_y.data(), 1, true, way.threads);
    complete(balls, way.step);
    std::vector<std::int64_t> y_in_x(n), x_in_y(m);
    balls.y_in_x(y_in_x.data());
    balls.x_in_y(x_in_y.data());
    CHECK_ARRAYS(y_in_x, counts.y_in_x);
    CHECK_ARRAYS(x_in_y, counts.x_in_y);
    knn_looks[path == Path::automatic] = knn.rechecked();
    ball_looks[path == Path::automatic] = balls.rechecked();
  };
  solve(all_kernels().front(), Path::int8);
  solve(all_kernels().front(), Path::automatic);
  CHECK(knn_looks[1] < knn_looks[0]);  // or this tests nothing
  CHECK(ball_looks[1] < ball_looks[0]);
  solve(all_kernels()[all_kernels().size() / 2], Path::automatic);
}

Problem small_problem(const std::string& name, double size, DType dtype) {
  Random random(3);
  const std::int64_t d = 20, n = kEmulated ? 100 : 300;
  return make_problem(name, make_matrix(normals(random, n * d, size), d, dtype),
                      make_matrix(normals(random, n / 2 * d, size), d, dtype));
}

// Engines may go at any time, before the first step and between two.
void abandoned_half_way() {
  const Problem p = small_problem("abandoned", 1.0, DType::float32);
  for (const Path path : {Path::int8, Path::float32, Path::scan}) {
    const Way way{all_kernels().front(), path, 3, 0.0};
    const About about(describe(way));
    for (int steps = 0; steps < 12; ++steps) {
      cpu::Prepared unfinished(p.x.view(), path, *way.kernels, way.threads);
      for (int i = 0; i < steps; ++i) unfinished.advance(0.0);
    }
    const auto x = prepare(p.x, way), y = prepare(p.y, way);
    for (int steps = 0; steps < 12; ++steps) {
      std::vector<double> sq(static_cast<std::size_t>(p.x.n));
      cpu::Knn knn(*x, nullptr, {3}, sq.data(), nullptr, way.threads);
      cpu::Balls balls(*x, *y, p.radii_x.data(), p.radii_y.data(), 2, true, way.threads);
      cpu::Realism realism(*x, *y, p.ratio_radii.data(), way.threads);
      for (int i = 0; i < steps; ++i) {
        const bool finished = knn.advance(0.0) == 1.0;
        CHECK_EQUAL(finished, knn.done());
        balls.advance(0.0);
        realism.advance(0.0);
      }
    }
  }
}

// A prepared set is only read: joins of several threads share it.
void shared_sets() {
  const Problem p = small_problem("shared", 1.0, DType::float32);
  for (const Path path : {Path::int8, Path::float32}) {
    const Way way{all_kernels().front(), path, 2, 0.01};
    const auto x = prepare(p.x, way), y = prepare(p.y, way);
    std::vector<std::thread> threads;
    threads.emplace_back([&] { check_knn(*x, nullptr, p.self, true, way); });
    threads.emplace_back([&] { check_knn(*x, y.get(), p.cross, false, way); });
    threads.emplace_back([&] {
      check_balls(*x, *y, p.radii_x.data(), p.radii_y.data(), p.radii, true, p.closed, way);
    });
    threads.emplace_back([&] { check_realism(*x, *y, p.ratio_radii, p.ratios, way); });
    for (std::thread& thread : threads) thread.join();
  }
}

#if defined(__SSE2__)
// Libraries built with -ffast-math leave their threads flushing subnormals to zero: answers stay.
void flush_to_zero() {
  const unsigned plain = _mm_getcsr(), flushing = plain | 0x8040;
  std::vector<Problem> problems;
  problems.push_back(small_problem("normal", 1.0, DType::float32));
  problems.push_back(small_problem("subnormal float32", 1e-42, DType::float32));
  problems.push_back(small_problem("subnormal halves", 1e-6, DType::float16));
  problems.push_back(small_problem("subnormal float64", 1e-310, DType::float64));
  problems.push_back(small_problem("subnormal squares", 1e-158, DType::float64));
  // A quarter of the rows far off, the rest so close to each other that squares are subnormal.
  Random random(4);
  std::vector<double> x = normals(random, 300 * 20, 0x1p-515),
                      y = normals(random, 300 * 20, 0x1p-515);
  for (std::int64_t i = 0; i < 300; i += 4)
    x[i * 20 + 5] = y[i * 20 + 7] = 0x1p-448 * random.normal();
  problems.push_back(make_problem("near the centre", make_matrix(x, 20, DType::float64),
                                  make_matrix(y, 20, DType::float64)));
  // Copies with radii of their own, which differ in subnormal squares only.
  const std::vector<double> once = normals(random, 30 * 20, 1e-158);
  std::vector<double> copies = once;
  for (int i = 0; i < 3; ++i) copies.insert(copies.end(), once.begin(), once.end());
  problems.push_back(
      make_problem("copies", make_matrix(copies, 20, DType::float64),
                   make_matrix(normals(random, 90 * 20, 1e-158), 20, DType::float64)));
  for (const Problem& p : problems) {
    for (const Path path : {Path::int8, Path::float32, Path::scan}) {
      const Way way{all_kernels().front(), path, 2, 0.5};
      check_problem(p, way, false);
      const About about("flushing to zero");
      _mm_setcsr(flushing);
      check_problem(p, way, true);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(plain);
      CHECK_EQUAL(after & 0xffc0u, flushing & 0xffc0u);
    }
  }
}
// Ratios may be subnormal too.
void flush_ratios() {
  const unsigned plain = _mm_getcsr(), flushing = plain | 0x8040;
  const Problem p = small_problem("subnormal ratios", 1.0, DType::float64);
  std::vector<double> radii = p.own_x;
  for (double& radius : radii) radius *= 1e-311;
  const std::vector<double> want = brute_ratios(p, radii);
  for (const Path path : {Path::int8, Path::float32, Path::scan}) {
    const Way way{all_kernels().front(), path, 1, 0.5};
    const auto x = prepare(p.x, way), y = prepare(p.y, way);
    check_realism(*x, *y, radii, want, way);
    const About about("flushing to zero");
    _mm_setcsr(flushing);
    check_realism(*x, *y, radii, want, way);
    _mm_setcsr(plain);
  }
}
#else
void flush_ratios() { CHECK(true); }
void flush_to_zero() { CHECK(true); }
#endif

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"switch_to_float", switch_to_float},
                    {"abandoned_half_way", abandoned_half_way},
                    {"shared_sets", shared_sets},
                    {"flush_to_zero", flush_to_zero},
                    {"flush_ratios", flush_ratios}},
                   argc, argv);
}
