// Runs the engines in steps and compares what they find with a problem's truth.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpu/balls.hpp"
#include "cpu/knn.hpp"
#include "cpu/prepared.hpp"
#include "cpu/realism.hpp"
#include "tests/check.hpp"
#include "tests/problems.hpp"

namespace fastgen::test {

// How a problem is solved.
struct Way {
  const cpu::Kernels* kernels;
  cpu::Path path;
  int threads;
  double step;  // seconds per call of `advance`
};

inline const char* name_of(cpu::Path path) {
  switch (path) {
    case cpu::Path::automatic:
      return "automatic";
    case cpu::Path::int8:
      return "int8";
    case cpu::Path::float32:
      return "float32";
    case cpu::Path::scan:
      return "scan";
  }
  return "?";
}

inline std::string describe(const Way& way) {
  return std::string(way.kernels->name) + " " + name_of(way.path) + " " +
         std::to_string(way.threads) + " threads" + (way.step == 0 ? " in small steps" : "");
}

// Advances to the end; the number of calls it took.
template <class Engine>
std::int64_t complete(Engine& engine, double step) {
  constexpr std::int64_t kLimit = 1000000;
  std::int64_t calls = 1;
  bool in_range = true;
  for (;; ++calls) {
    const double fraction = engine.advance(step);
    if (fraction == 1.0) break;
    in_range = in_range && fraction >= 0.0 && fraction < 1.0;
    if (calls == kLimit) break;
  }
  CHECK(in_range);
  CHECK(calls < kLimit);
  CHECK_EQUAL(engine.advance(step), 1.0);  // and stays there
  return calls;
}

inline std::unique_ptr<cpu::Prepared> prepare(const Matrix& rows, const Way& way) {
  auto prepared = std::make_unique<cpu::Prepared>(rows.view(), way.path, *way.kernels, way.threads);
  complete(*prepared, way.step);
  CHECK(prepared->ready());
  return prepared;
}

inline void check_knn(const cpu::Prepared& x, const cpu::Prepared* y, const Neighbours& want,
                      bool indices, const Way& way) {
  const About about(std::string(y ? "knn in y" : "knn in x") + (indices ? " with indices" : ""));
  std::vector<double> sq(want.sq.size(), -1.0);
  std::vector<std::int64_t> found(want.indices.size(), -1);
  CHECK_EQUAL(x.rows().n * static_cast<std::int64_t>(want.ranks.size()),
              static_cast<std::int64_t>(sq.size()));
  cpu::Knn knn(x, y, want.ranks, sq.data(), indices ? found.data() : nullptr, way.threads);
  complete(knn, way.step);
  CHECK_ARRAYS(sq, want.sq);
  if (indices) CHECK_ARRAYS(found, want.indices);
}

// Null radii: that side is not asked for.
inline void check_balls(const cpu::Prepared& x, const cpu::Prepared& y, const double* radii_x,
                        const double* radii_y, std::int64_t radii, bool closed,
                        const BallCounts& want, const Way& way) {
  const About about(std::string(closed ? "closed" : "open") + " balls" + (radii_x ? " of x" : "") +
                    (radii_y ? " of y" : ""));
  cpu::Balls balls(x, y, radii_x, radii_y, radii, closed, way.threads);
  complete(balls, way.step);
  std::vector<std::int64_t> y_in_x(want.y_in_x.size(), -1),
      x_balls_of_y(want.x_balls_of_y.size(), -1);
  std::vector<std::int64_t> x_in_y(want.x_in_y.size(), -1),
      y_balls_of_x(want.y_balls_of_x.size(), -1);
  if (radii_x) {
    balls.y_in_x(y_in_x.data());
    balls.x_balls_of_y(x_balls_of_y.data());
    CHECK_ARRAYS(y_in_x, want.y_in_x);
    CHECK_ARRAYS(x_balls_of_y, want.x_balls_of_y);
  }
  if (radii_y) {
    balls.x_in_y(x_in_y.data());
    balls.y_balls_of_x(y_balls_of_x.data());
    CHECK_ARRAYS(x_in_y, want.x_in_y);
    CHECK_ARRAYS(y_balls_of_x, want.y_balls_of_x);
  }
}

inline void check_realism(const cpu::Prepared& x, const cpu::Prepared& y,
                          const std::vector<double>& radii, const std::vector<double>& want,
                          const Way& way) {
  const About about("realism");
  cpu::Realism realism(x, y, radii.data(), way.threads);
  complete(realism, way.step);
  std::vector<double> ratios(want.size(), -1.0);
  realism.finish(ratios.data());
  CHECK_ARRAYS(ratios, want);
}

// Every engine, every answer. `everything` adds the rarer ways to ask.
inline void check_problem(const Problem& p, const Way& way, bool everything) {
  const About about(p.name + ": " + describe(way));
  const auto x = prepare(p.x, way), y = prepare(p.y, way);
  if (p.x.n > 1) {
    check_knn(*x, nullptr, p.self, true, way);
    check_knn(*x, nullptr, p.self, false, way);
  }
  check_knn(*x, y.get(), p.cross, true, way);
  check_balls(*x, *y, p.radii_x.data(), p.radii_y.data(), p.radii, true, p.closed, way);
  check_realism(*x, *y, p.ratio_radii, p.ratios, way);
  if (!everything) return;
  check_knn(*x, y.get(), p.cross, false, way);
  check_balls(*x, *y, p.radii_x.data(), nullptr, p.radii, false, p.open, way);
  check_balls(*x, *y, nullptr, p.radii_y.data(), p.radii, false, p.open, way);
  check_balls(*x, *y, p.own_x.data(), p.own_y.data(), 1, true, p.own, way);
  check_realism(*x, *y, p.own_x, p.own_ratios, way);
}

// Every instruction set on one path, in turn int8 and float32, and where `thorough` on both; the
// paths that differ above the kernels only on the first set. Threads, steps and questions take
// turns too.
inline void check_all_ways(const Problem& p, bool thorough) {
  static int problem = 0;
  int turn = ++problem;
  const auto solve = [&](const cpu::Kernels* k, cpu::Path path) {
    ++turn;
    check_problem(p, {k, path, (turn + problem / 3) % 4 + 1, turn % 3 ? 0.5 : 0.0}, turn % 5 < 2);
  };
  for (const cpu::Kernels* k : all_kernels()) {
    const bool odd = turn % 2;
    if (thorough || odd) solve(k, cpu::Path::int8);
    if (thorough || !odd) solve(k, cpu::Path::float32);
  }
  if (thorough || problem % 2) solve(all_kernels().front(), cpu::Path::automatic);
  if (thorough || p.x.n * p.y.n < 60000) solve(all_kernels().front(), cpu::Path::scan);
}

}  // namespace fastgen::test
