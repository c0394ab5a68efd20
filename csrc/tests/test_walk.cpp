// The walk over pairs and its bounds, the switch from int8 to float32, and engines in company:
// stopped half-way, several at once on one prepared set, in a caller's odd floating-point mode.
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpu/join.hpp"
#include "tests/check.hpp"
#include "tests/engines.hpp"
#include "tests/problems.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Path;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Matrix matrix_of(std::vector<double> values, std::int64_t d, DType dtype) {
  return make_matrix(values, d, dtype, Layout::padded);
}

// Squared distances [n, m] in long double, rounded once.
std::vector<double> true_distances(const Matrix& x, const Matrix& y) {
  std::vector<double> all;
  for (std::int64_t i = 0; i < x.n; ++i) {
    for (std::int64_t j = 0; j < y.n; ++j) {
      long double sq = 0;
      for (std::int64_t k = 0; k < x.d; ++k) {
        const long double t = static_cast<long double>(x.row(i)[k]) - y.row(j)[k];
        sq += t * t;
      }
      all.push_back(static_cast<double>(sq));
    }
  }
  return all;
}

// Two sets and their true distances: among x, and from y to x.
struct Sets {
  std::string name;
  Matrix x, y;
  std::vector<double> sq_self, sq_cross;
};

// Has every pair emitted and compares its bounds with the true and with the canonical distance.
class Bounds final : public cpu::Consumer {
 public:
  Bounds(const Matrix& x, const Matrix& y, const std::vector<double>& sq)
      : x_(x), y_(y), sq_(sq), seen_(sq.size()) {
    for (auto& count : seen_) count.store(0);
  }

  void strip(const cpu::Join& join, cpu::Worker& worker, int, const cpu::Strip& strip,
             const cpu::StripRange& range) override {
    for (int r = 0; r < range.rows; ++r) {
      worker.row_threshold[r] = kInfinity;
      worker.row_weight[r] = 1.0f;
    }
    for (int c = 0; c < range.columns; ++c) worker.column_threshold[c] = kInfinity;
    cpu::EmitStrip task{strip,
                        worker.row_threshold.data(),
                        worker.row_weight.data(),
                        worker.column_threshold.data(),
                        worker.hits.data(),
                        0};
    (join.float_path() ? join.kernels().emit_float : join.kernels().emit_int8)(&task);
    for (int h = 0; h < task.hit_count; ++h) {
      const cpu::Hit& hit = worker.hits[h];
      const std::int64_t x_slot = range.row + hit.row, y_slot = range.column + hit.column;
      const std::int64_t i = join.x().set->first_row(x_slot), j = join.y().set->first_row(y_slot);
      ++seen_[i * y_.n + j];
      const double scaled = sq_[i * y_.n + j] * join.sq_unit();
      const double canonical_scaled = canonical(x_.row(i), y_.row(j), x_.d) * join.sq_unit();
      const cpu::Interval bounds = join.bounds(x_slot, y_slot, hit.dot);
      if (!(bounds.low <= scaled && scaled <= bounds.high)) ++outside_;
      if (!(bounds.low <= canonical_scaled && canonical_scaled <= bounds.high)) ++outside_;
      width_.store(std::max(width_.load(), (bounds.high - bounds.low) / (std::fabs(scaled) + 1)));
    }
  }

  void check(bool self) const {
    CHECK_EQUAL(outside_.load(), 0);
    int wrong = 0;
    for (std::int64_t i = 0; i < x_.n; ++i) {
      for (std::int64_t j = 0; j < y_.n; ++j) {
        const int times = seen_[i * y_.n + j];
        if (self) {
          wrong +=
              times + (i == j ? 1 : seen_[j * y_.n + i].load()) != 1;  // each unordered pair once
        } else {
          wrong += times != 1;
        }
      }
    }
    CHECK_EQUAL(wrong, 0);
  }
  double widest() const { return width_.load(); }

 private:
  const Matrix &x_, &y_;
  const std::vector<double>& sq_;
  std::vector<std::atomic<int>> seen_;
  std::atomic<int> outside_{0};
  std::atomic<double> width_{0};  // a guide for the reader of a failure, not exact with threads
};

// Walks the pairs of x with itself, or of y with x; the widest bound relative to its distance.
// `switched`: change over to float32 half-way, and tell whether there was a chance to.
double walk(const Sets& sets, bool self, const Way& way, bool* switched = nullptr) {
  const auto x = prepare(sets.x, way), y = prepare(sets.y, way);
  cpu::Join join(self ? *x : *y, self ? nullptr : x.get(), way.threads);
  Bounds bounds(self ? sets.x : sets.y, sets.x, self ? sets.sq_self : sets.sq_cross);
  const std::int64_t kLimit = 100000;
  std::int64_t calls = 0;
  while (!join.done() && ++calls < kLimit) {
    while (!join.prepare_segment(cpu::deadline_after(way.step)) && ++calls < kLimit) {
    }
    if (!join.advance(cpu::deadline_after(way.step), bounds) && switched && !join.float_path()) {
      join.use_float_path();
      *switched = true;
    }
    CHECK(join.fraction() >= 0 && join.fraction() <= 1);
  }
  CHECK(join.done());
  CHECK_EQUAL(join.fraction(), 1.0);
  bounds.check(self);
  return bounds.widest();
}

void bounds_hold() {
  Random random(1);
  std::vector<Sets> all;
  const auto add = [&](const std::string& name, std::int64_t d, DType dtype, auto function) {
    const std::int64_t n = d == 64 && !kEmulated ? 400 : 150, m = 110;
    std::vector<double> x = normals(random, n * d), y = normals(random, m * d);
    for (std::int64_t i = 0; i < n; ++i) function(x.data() + i * d, i, d, -1.0);
    for (std::int64_t i = 0; i < m; ++i) function(y.data() + i * d, i, d, 1.0);
    all.push_back({name, matrix_of(x, d, dtype), matrix_of(y, d, dtype), {}, {}});
    all.back().sq_self = true_distances(all.back().x, all.back().x);
    all.back().sq_cross = true_distances(all.back().y, all.back().x);
  };
  const auto times = [](double* row, std::int64_t d, double by) {
    for (std::int64_t i = 0; i < d; ++i) row[i] *= by;
  };
  const auto plus = [](double* row, std::int64_t d, double by) {
    for (std::int64_t i = 0; i < d; ++i) row[i] += by;
  };
  const auto nothing = [](double*, std::int64_t, std::int64_t, double) {};
  add("normal", 64, DType::float32, nothing);
  add("d=1", 1, DType::float64, nothing);
  add("d=200", 200, DType::float16, nothing);
  add("every size", 9, DType::float64, [&](double* row, std::int64_t i, std::int64_t d, double) {
    times(row, d, std::ldexp(1.0, -static_cast<int>(i % 90)));
  });
  add("tight clusters", 20, DType::float64,
      [&](double* row, std::int64_t i, std::int64_t d, double side) {
        times(row, d, 1e-5);
        row[i % 5] += side;
      });
  add("apart", 30, DType::float64,
      [&](double* row, std::int64_t, std::int64_t d, double side) { plus(row, d, 1e4 * side); });
  add("apart and small", 30, DType::float64,
      [&](double* row, std::int64_t, std::int64_t d, double side) {
        times(row, d, side < 0 ? 1e-9 : 1e6);
        plus(row, d, side);
      });
  add("huge", 30, DType::float64,
      [&](double* row, std::int64_t, std::int64_t d, double) { times(row, d, 0x1p497); });
  add("tiny", 30, DType::float64,
      [&](double* row, std::int64_t, std::int64_t d, double) { times(row, d, 1e-130); });
  int turn = 0;
  for (const Sets& sets : all) {
    for (const cpu::Kernels* k : all_kernels()) {
      for (const Path path : {Path::int8, Path::float32}) {
        ++turn;
        const Way way{k, path, turn % 3 + 1, turn % 2 ? 0.5 : 0.0};
        const About about(sets.name + ": " + describe(way));
        const double self = walk(sets, true, way), cross = walk(sets, false, way);
        if (sets.name == "normal")
          CHECK_AT_MOST(std::max(self, cross), path == Path::int8 ? 0.5 : 1e-3);
      }
      // int8 up to some block, float32 from there on.
      const Way way{k, Path::int8, 1, 0.0};
      const About about(sets.name + ": switched, " + describe(way));
      bool self_switched = false, cross_switched = false;
      walk(sets, true, way, &self_switched);
      walk(sets, false, way, &cross_switched);
      if (!kEmulated && sets.name == "normal") CHECK(self_switched && cross_switched);
    }
  }
}

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
  return matrix_of(values, d, DType::float32);
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
  // One row far off, the rest so close to each other that squared distances are subnormal.
  Random random(4);
  std::vector<double> x = normals(random, 300 * 20, 0x1p-515),
                      y = normals(random, 300 * 20, 0x1p-515);
  x[5] = 0x1p-448;
  y[7] = -0x1p-448;
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
#else
void flush_to_zero() { CHECK(true); }
#endif

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"bounds_hold", bounds_hold},
                    {"switch_to_float", switch_to_float},
                    {"abandoned_half_way", abandoned_half_way},
                    {"shared_sets", shared_sets},
                    {"flush_to_zero", flush_to_zero}},
                   argc, argv);
}
