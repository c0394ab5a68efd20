// Neighbours, balls and realism on a device against brute force over the canonical distance, to the last
// bit: every path, shares of the tiles, small lists, and sets of every shape that has a rule of its own.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/balls.hpp"
#include "cuda/knn.hpp"
#include "cuda/prepared.hpp"
#include "cuda/realism.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/problems.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cuda::Path;
using Values = std::vector<double>;

// How a problem is solved.
struct Way {
  Path path = Path::automatic;
  int shares = 1;
  std::int64_t capacity = 0;  // of the lists
  bool fine_soon = false;     // finer products from the second batch on
  double step = 1.0;          // seconds per call of `advance`
};

const char* name_of(Path path) {
  constexpr const char* kNames[] = {"automatic", "int8", "fine", "direct", "exact"};
  return kNames[static_cast<int>(path)];
}

template <class Engine>
void complete(Engine& engine, double step) {
  std::int64_t calls = 1;
  bool in_range = true;
  for (;; ++calls) {
    const double fraction = engine.advance(step);
    if (fraction == 1.0) break;
    in_range = in_range && fraction >= 0.0 && fraction < 1.0;
    if (calls == 100000) break;
  }
  CHECK(in_range && calls < 100000);
  CHECK_EQUAL(engine.advance(step), 1.0);  // and stays there
}

template <class Engine>
void solve(Engine& engine, const Way& way) {
  if (way.fine_soon) {
    cuda::ProductChoice choice;
    choice.open = true;
    choice.least_pairs = 1;
    choice.share = 0;
    engine.set_choice(choice);
  }
  complete(engine, way.step);
}

// A set on the device, ready for joins.
struct DeviceSet {
  DeviceSet(const Matrix& matrix, const Way& way, const cuda::Stream& stream)
      : rows(matrix, stream), set(rows.view, way.path, stream) {
    complete(set, way.step);
    CHECK(set.ready());
  }
  DeviceMatrix rows;
  cuda::Prepared set;
};

// The first ranks of several lists of neighbours, each sorted.
Neighbours merged(const std::vector<Neighbours>& parts, const Ranks& ranks, std::int64_t n) {
  Neighbours found{ranks, {}, {}};
  std::vector<std::pair<double, std::int64_t>> row;
  for (std::int64_t i = 0; i < n; ++i) {
    row.clear();
    for (const Neighbours& part : parts) {
      const std::size_t k = part.ranks.size();
      for (std::size_t r = 0; r < k; ++r) {
        const std::size_t at = static_cast<std::size_t>(i) * k + r;
        const std::int64_t index = part.indices.empty() ? 0 : part.indices[at];
        if (index >= 0) row.emplace_back(part.sq[at], index);
      }
    }
    std::sort(row.begin(), row.end());
    for (const std::int64_t rank : ranks) {
      const bool there = rank <= static_cast<std::int64_t>(row.size());
      found.sq.push_back(there ? row[static_cast<std::size_t>(rank - 1)].first
                               : std::numeric_limits<double>::infinity());
      found.indices.push_back(there ? row[static_cast<std::size_t>(rank - 1)].second : -1);
    }
  }
  return found;
}

void check_knn(const cuda::Prepared& x, const cuda::Prepared* y, const Neighbours& want,
               bool indices, const Way& way) {
  const About about(std::string(y ? "knn in y" : "knn in x") + (indices ? " with indices" : ""));
  Ranks all;
  for (std::int64_t rank = 1; rank <= want.ranks.back(); ++rank) all.push_back(rank);
  const Ranks& ranks = way.shares > 1 ? all : want.ranks;
  const std::size_t size = static_cast<std::size_t>(x.rows().n) * ranks.size();
  std::vector<Neighbours> parts;
  for (int share = 0; share < way.shares; ++share) {
    Neighbours part{ranks, Values(size, -1.0), {}};
    if (indices) part.indices.assign(size, -2);
    cuda::Knn knn(x, y, ranks, indices, {share, way.shares}, way.capacity);
    solve(knn, way);
    knn.finish(part.sq.data(), indices ? part.indices.data() : nullptr);
    parts.push_back(std::move(part));
  }
  const Neighbours found = way.shares > 1 ? merged(parts, want.ranks, x.rows().n) : parts[0];
  CHECK_ARRAYS(found.sq, want.sq);
  if (indices) CHECK_ARRAYS(found.indices, want.indices);
}

void check_balls(const cuda::Prepared& x, const cuda::Prepared& y, const Values& radii_x,
                 const Values& radii_y, std::int64_t radii, bool closed, const BallCounts& want,
                 const Way& way) {
  const About about(std::string(closed ? "closed" : "open") + " balls" +
                    (radii_x.empty() ? "" : " of x") + (radii_y.empty() ? "" : " of y"));
  BallCounts found;
  found.y_in_x.assign(want.y_in_x.size(), 0);
  found.y_balls_of_x = found.y_in_x;
  found.x_in_y.assign(want.x_in_y.size(), 0);
  found.x_balls_of_y = found.x_in_y;
  for (int share = 0; share < way.shares; ++share) {
    cuda::Balls balls(x, y, radii_x.empty() ? nullptr : radii_x.data(),
                      radii_y.empty() ? nullptr : radii_y.data(), radii, closed,
                      {share, way.shares});
    solve(balls, way);
    const auto add = [&](std::vector<std::int64_t>& total,
                         void (cuda::Balls::*get)(std::int64_t*) const) {
      std::vector<std::int64_t> counts(total.size(), -1);
      (balls.*get)(counts.data());
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += counts[i];
    };
    if (!radii_x.empty()) {
      add(found.y_in_x, &cuda::Balls::y_in_x);
      add(found.x_balls_of_y, &cuda::Balls::x_balls_of_y);
    }
    if (!radii_y.empty()) {
      add(found.x_in_y, &cuda::Balls::x_in_y);
      add(found.y_balls_of_x, &cuda::Balls::y_balls_of_x);
    }
  }
  if (!radii_x.empty()) {
    CHECK_ARRAYS(found.y_in_x, want.y_in_x);
    CHECK_ARRAYS(found.x_balls_of_y, want.x_balls_of_y);
  }
  if (!radii_y.empty()) {
    CHECK_ARRAYS(found.x_in_y, want.x_in_y);
    CHECK_ARRAYS(found.y_balls_of_x, want.y_balls_of_x);
  }
}

void check_realism(const cuda::Prepared& x, const cuda::Prepared& y, const Values& radii,
                   const Values& want, const Way& way) {
  const About about("realism");
  Values largest(want.size(), 0.0);
  for (int share = 0; share < way.shares; ++share) {
    cuda::Realism realism(x, y, radii.data(), {share, way.shares}, way.capacity);
    solve(realism, way);
    Values ratios(want.size(), -1.0);
    realism.finish(ratios.data());
    for (std::size_t i = 0; i < ratios.size(); ++i) {
      CHECK(ratios[i] >= 0);
      largest[i] = std::max(largest[i], ratios[i]);
    }
  }
  CHECK_ARRAYS(largest, want);
}

// Every engine, every answer.
void check_problem(const Problem& p, const Way& way) {
  const About about(p.name + ": " + name_of(way.path) + ", " + std::to_string(way.shares) +
                    " shares" + (way.capacity ? ", small lists" : "") +
                    (way.fine_soon ? ", fine soon" : ""));
  const cuda::Stream stream = cuda::Stream::make(0);
  const DeviceSet x(p.x, way, stream), y(p.y, way, stream);
  if (p.x.n > 1) {
    check_knn(x.set, nullptr, p.self, true, way);
    check_knn(x.set, nullptr, p.self, false, way);
  }
  check_knn(x.set, &y.set, p.cross, true, way);
  check_balls(x.set, y.set, p.radii_x, p.radii_y, p.radii, true, p.closed, way);
  check_realism(x.set, y.set, p.ratio_radii, p.ratios, way);
  check_knn(x.set, &y.set, p.cross, false, way);
  check_balls(x.set, y.set, p.radii_x, {}, p.radii, false, p.open, way);
  check_balls(x.set, y.set, {}, p.radii_y, p.radii, false, p.open, way);
  check_balls(x.set, y.set, p.own_x, p.own_y, 1, true, p.own, way);
  check_realism(x.set, y.set, p.own_x, p.own_ratios, way);
  // No ball, everything, nothing.
  Values odd_x = p.own_x, odd_y = p.own_y;
  const double infinity = std::numeric_limits<double>::infinity();
  const double odd[] = {std::numeric_limits<double>::quiet_NaN(), infinity, -1.0, 0.0, -infinity};
  for (std::size_t i = 0; i < odd_x.size(); i += 2) odd_x[i] = odd[i / 2 % 5];
  for (std::size_t i = 1; i < odd_y.size(); i += 2) odd_y[i] = odd[i / 2 % 5];
  const About about_radii("odd radii");
  check_balls(x.set, y.set, odd_x, odd_y, 1, false, brute_balls(p, odd_x, odd_y, false), way);
}

// One path after the other; the rest takes turns.
void check_all(const std::string& name, const Values& x, const Values& y, std::int64_t d,
               DType x_type, DType y_type, const Ranks& ranks = {1, 1, 4}) {
  static int turn = 0;
  const Problem p = make_problem(name, make_matrix(x, d, x_type, Layout::padded),
                                 make_matrix(y, d, y_type, Layout::reversed), ranks);
  for (const Path path : {Path::automatic, Path::int8, Path::fine, Path::exact, Path::direct}) {
    if (path == Path::direct && d > cuda::kDirectFeatures) continue;
    ++turn;
    Way way;
    way.path = path;
    way.shares = turn % 4 == 1 ? 3 : 1;
    way.capacity = turn % 3 == 1 && p.x.n * p.y.n < 6000 ? 5 : 0;
    way.fine_soon = path == Path::int8 || (path == Path::automatic && turn % 2);
    way.step = turn % 2 ? 1.0 : 0.0;
    check_problem(p, way);
  }
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
  for (const std::int64_t d : {1, 9, 33}) {
    for (const std::int64_t n : {1, 2, 17}) {
      const std::int64_t m = n == 17 ? 1 : n + 3;
      check_all("normal n=" + std::to_string(n) + " d=" + std::to_string(d), normals(random, n * d),
                normals(random, m * d), d, DType::float32, DType::float64);
    }
  }
}

void several_tiles() {
  Random random(2);
  check_all("normal d=24", normals(random, 260 * 24), normals(random, 140 * 24), 24, DType::float32,
            DType::float32, {1, 3, 20});
  check_all("normal d=4", normals(random, 140 * 4), normals(random, 260 * 4), 4, DType::float16,
            DType::float32, {1, 5});
}

void features() {
  Random random(3);
  const std::int64_t d = 150, n = 70, m = 50;
  Values x = normals(random, n * d), y = normals(random, m * d);
  const auto both = [&](const std::string& name, DType type, auto function) {
    Values a = x, b = y;
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = function(a[i], i);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = function(b[i], i);
    check_all(name, a, b, d, type, type);
  };
  both("heavy tails", DType::float32, [](double value, std::size_t) { return std::pow(value, 7); });
  both("far from zero", DType::float64, [](double value, std::size_t) { return 1e4 + value; });
  both("many ties", DType::float32,
       [](double value, std::size_t i) { return i % 150 < 4 ? std::nearbyint(value) : 0.0; });
}

void duplicates() {
  Random random(4);
  const std::int64_t d = 8;
  const Values pool = normals(random, 20 * d), one = normals(random, d);
  check_all("few distinct rows", drawn(random, pool, d, 90), drawn(random, pool, d, 70), d,
            DType::float32, DType::float64, {1, 3, 20});
  check_all("all rows equal", drawn(random, one, d, 40), drawn(random, one, d, 30), d,
            DType::float32, DType::float32);
  check_all("half the rows equal", joined(drawn(random, one, d, 40), normals(random, 40 * d)),
            joined(normals(random, 30 * d), drawn(random, one, d, 30)), d, DType::float32,
            DType::float32);
  // Distances that tie without being copies, k from the middle of the ties.
  Values corners;
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 6; ++j) corners.push_back(i >> j & 1);
  }
  check_all("corners of a cube", corners, drawn(random, corners, 6, 50), 6, DType::float16,
            DType::float16, {1, 4, 9, 20});
}

void scales() {
  Random random(5);
  const std::int64_t d = 20;
  // Differences whose squares underflow: distinct rows at distance 0.
  Values tiny = normals(random, 30 * d);
  for (double& value : tiny) value *= 1e-200;
  check_all("below the smallest square", tiny, drawn(random, tiny, d, 20), d, DType::float64,
            DType::float64);
  const Values copies = joined(tiny, Values(tiny.begin(), tiny.begin() + 15 * d));
  for (const Ranks& ranks : {Ranks{1}, Ranks{1, 3}}) {
    check_all("below the smallest square, with copies", copies, drawn(random, tiny, d, 20), d,
              DType::float64, DType::float64, ranks);
  }
  // A few rows far out, which no scale serves together with the rest.
  Values outliers = normals(random, 80 * d);
  for (std::int64_t i = 0; i < 3 * d; ++i) outliers[static_cast<std::size_t>(i)] *= 1e30;
  Values others = normals(random, 60 * d);
  for (std::int64_t i = 0; i < d; ++i) others[static_cast<std::size_t>(i)] *= 1e25;
  check_all("outliers", outliers, others, d, DType::float64, DType::float64);
}

void tight_clusters() {
  Random random(6);
  const std::int64_t d = 32;
  const Values centres = normals(random, 3 * d);
  for (const double spread : {1e-2, 1e-5}) {
    Values x = drawn(random, centres, d, 150), y = drawn(random, centres, d, 60);
    for (double& value : x) value += spread * random.normal();
    for (double& value : y) value += spread * random.normal();
    check_all("clusters of " + std::to_string(spread), x, y, d, DType::float64, DType::float64);
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"shapes", shapes},
                    {"several_tiles", several_tiles},
                    {"features", features},
                    {"duplicates", duplicates},
                    {"scales", scales},
                    {"tight_clusters", tight_clusters}},
                   argc, argv);
}
