// The walk over pairs and its bounds, for every instruction set: each pair comes once, and all
// bounds, the kernels' in float32 and the join's in float64, contain the distance.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "common/rounding.hpp"
#include "cpu/join.hpp"
#include "tests/check.hpp"
#include "tests/engines.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Path;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
    for (int c = 0; c < range.columns; ++c) worker.column_threshold[c] = -kInfinity;
    const int hits = emit(join, worker, strip);
    for (int h = 0; h < hits; ++h) {
      const cpu::Hit& hit = worker.hits[h];
      const std::int64_t i = x_row(join, range, hit.row), j = y_row(join, range, hit.column);
      ++seen_[i * y_.n + j];
      const double scaled = sq_[i * y_.n + j] * join.sq_unit();
      const double canonical_scaled = canonical(x_.row(i), y_.row(j), x_.d) * join.sq_unit();
      const cpu::Interval bounds =
          join.bounds(range.row + hit.row, range.column + hit.column, hit.dot);
      if (!(bounds.low <= scaled && scaled <= bounds.high)) ++outside_;
      if (!(bounds.low <= canonical_scaled && canonical_scaled <= bounds.high)) ++outside_;
      width_.store(std::max(width_.load(), (bounds.high - bounds.low) / (std::fabs(scaled) + 1)));
    }
    check_kernels(join, worker, strip, range);
  }

  // Pairs that have no bounds come with the canonical distance.
  void pair(const cpu::Join& join, cpu::Worker&, std::int64_t x_slot, std::int64_t y_slot,
            double sq) override {
    const std::int64_t i = join.x().set->first_row(x_slot), j = join.y().set->first_row(y_slot);
    ++seen_[i * y_.n + j];
    if (!same(sq, canonical(x_.row(i), y_.row(j), x_.d))) ++outside_;
  }

  void check(bool self) const {
    CHECK_EQUAL(outside_.load(), 0);
    CHECK_EQUAL(missed_.load(), 0);
    CHECK_EQUAL(below_.load(), 0);
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
  static std::int64_t x_row(const cpu::Join& join, const cpu::StripRange& range, int row) {
    return join.x().set->first_row(range.row + row);
  }
  static std::int64_t y_row(const cpu::Join& join, const cpu::StripRange& range, int column) {
    return join.y().set->first_row(range.column + column);
  }
  static int emit(const cpu::Join& join, cpu::Worker& worker, const cpu::Strip& strip) {
    cpu::EmitStrip task{strip,
                        worker.row_threshold.data(),
                        worker.row_weight.data(),
                        worker.column_threshold.data(),
                        worker.hits.data(),
                        0};
    (join.float_path() ? join.kernels().emit_float : join.kernels().emit_int8)(&task);
    return task.hit_count;
  }
  // The kernels' own bounds, in float32: a pair whose distance is its threshold is emitted, and no
  // upper bound is below the distance.
  void check_kernels(const cpu::Join& join, cpu::Worker& worker, cpu::Strip strip,
                     const cpu::StripRange& range) {
    strip.diagonal = -(std::int64_t{1} << 40);
    const auto scaled = [&](int r, int c) {
      return sq_[x_row(join, range, r) * y_.n + y_row(join, range, c)] * join.sq_unit();
    };
    for (int c = 0; c < range.columns; c += 53) {
      for (int r = 0; r < range.rows; ++r) worker.row_threshold[r] = round_up(scaled(r, c));
      const int hits = emit(join, worker, strip);
      missed_ += range.rows;
      for (int h = 0; h < hits; ++h) missed_ -= worker.hits[h].column == c;
    }
    std::vector<float> upper(static_cast<std::size_t>(cpu::kStripRows) * cpu::kMaxBlockColumns);
    cpu::UpperStrip task{strip, upper.data()};
    (join.float_path() ? join.kernels().upper_float : join.kernels().upper_int8)(&task);
    for (int r = 0; r < range.rows; ++r) {
      for (int c = 0; c < range.columns; ++c) {
        below_ += !(upper[r * cpu::kMaxBlockColumns + c] >= scaled(r, c));
      }
    }
  }

  const Matrix &x_, &y_;
  const std::vector<double>& sq_;
  std::vector<std::atomic<int>> seen_;
  std::atomic<int> outside_{0}, missed_{0}, below_{0};
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
    const std::int64_t n = d == 64 && !kEmulated ? 400 : 120, m = 90;
    std::vector<double> x = normals(random, n * d), y = normals(random, m * d);
    for (std::int64_t i = 0; i < n; ++i) function(x.data() + i * d, i, d, -1.0);
    for (std::int64_t i = 0; i < m; ++i) function(y.data() + i * d, i, d, 1.0);
    all.push_back({name, make_matrix(x, d, dtype), make_matrix(y, d, dtype), {}, {}});
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
  add("outlying rows", 30, DType::float64,
      [&](double* row, std::int64_t i, std::int64_t d, double side) {
        times(row, d, i % 50 == 0 ? 1e30 : i % 50 == 7 ? side * 1e15 : 1.0);
      });
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

// Two rows that are their own centres: the distance is all offset, and adding one square many times
// rounds the same way every time.
void single_rows() {
  for (const std::int64_t d : {33, 4096, kEmulated ? 30000 : 131072}) {
    for (const double value : {0.1, 0.3, 0.7, 1.1, 1.7}) {
      const std::vector<double> zeros(d, 0.0), values(d, value);
      Sets sets{"",
                make_matrix(zeros, d, DType::float64),
                make_matrix(values, d, DType::float64),
                {},
                {}};
      sets.sq_cross = true_distances(sets.y, sets.x);
      for (const Path path : {Path::int8, Path::float32}) {
        const Way way{all_kernels().front(), path, 1, 0.5};
        const About about("d=" + std::to_string(d) + " value " + show(value) + ": " +
                          describe(way));
        walk(sets, false, way);
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"bounds_hold", bounds_hold}, {"single_rows", single_rows}}, argc, argv);
}
