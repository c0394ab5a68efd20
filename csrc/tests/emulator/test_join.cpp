// The walk over tiles of pairs: every pair once, bounds that contain the distance, nothing missed and
// nothing emitted without need, shares.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/emulator/joins.hpp"

namespace fastgen::test {
namespace {

// Every product, in one pass and in small steps, with buffers that fill up.
void bounds_hold() {
  const Stream stream = Stream::make(0);
  Random random(1);
  const JoinLimits small{1, 0}, narrow{1 << 22, 1}, small_and_narrow{1, 1};
  int turn = 0;
  for (const Case& what : kCases) {
    // From 256 rows on there are clusters.
    const bool clusters = what.name == "tight clusters", large = what.d == 64;
    const Matrix x_rows = rows_of(what, large || clusters ? 300 : 150, -1.0, random);
    const Matrix y_rows = rows_of(what, large ? 520 : clusters ? 260 : 140, 1.0, random);
    for (const Path path : {Path::int8, Path::fine, Path::direct, Path::exact}) {
      if (path == Path::direct && what.d > cuda::kDirectFeatures) continue;
      const Set x(x_rows, path, stream), y(y_rows, path, stream);
      const JoinLimits limits[] = {{}, narrow, small, small_and_narrow};
      const Way way{path, limits[turn % 4], {0, turn % 3 + 1}, turn % 2 ? 1 : 1000, false};
      ++turn;
      const About about(what.name + ": " + describe(way));
      if (clusters && path != Path::exact) CHECK(x.prepared.parts().size() > 3);
      if (what.name == "outlying rows" && path != Path::exact) {
        CHECK(x.prepared.parts().back().outlying);
      }
      const double self = all_pairs(x, nullptr, way, stream);
      const double cross = all_pairs(x, &y, way, stream);
      if (what.name == "normal" && path != Path::exact) {
        CHECK_AT_MOST(std::max(self, cross), path == Path::int8 ? 0.5 : 0.004);
      }
      if (what.name == "d=1" && path == Path::direct) CHECK_AT_MOST(std::max(self, cross), 1e-3);
    }
  }
}

// int8 up to some band, finer products from there on.
void switched() {
  const Stream stream = Stream::make(0);
  Random random(2);
  for (const std::int64_t shared : {0, 1}) {
    const Matrix x_rows = rows_of(kCases[0], 300, -1.0, random);
    const Matrix y_rows = rows_of(kCases[5], 520, 1.0, random);
    const Matrix z_rows = rows_of(kCases[5], 300, -1.0, random);
    const Set x(x_rows, Path::int8, stream), y(y_rows, Path::int8, stream),
        z(z_rows, Path::int8, stream);
    const Way way{Path::int8, {1 << 22, shared}, {0, 1}, 1, true};
    const About about(describe(way));
    bool self = false, cross = false;
    all_pairs(x, nullptr, way, stream, &self);
    all_pairs(z, &y, way, stream, &cross);
    CHECK(self && cross);
  }
}

// Odd and even numbers of blocks, single tiles, shares that have none.
void shapes() {
  const Stream stream = Stream::make(0);
  Random random(3);
  const Case what{"", 3, DType::float32, kCases[0].change};
  for (const std::int64_t shared : {0, 1}) {
    for (const std::int64_t n : {1, 2, 128, 129, 256, 257, 385, 513, 640}) {
      const Matrix x_rows = rows_of(what, n, -1.0, random);
      const Set x(x_rows, Path::int8, stream);
      for (const int shares : {1, 2}) {
        const Way way{Path::int8, {1 << 22, shared}, {0, shares}, n % 2 ? 1 : 2, false};
        const About about("n=" + std::to_string(n) + " " + describe(way));
        all_pairs(x, nullptr, way, stream);
      }
    }
    const Matrix few_rows = rows_of(what, 100, 1.0, random),
                 many_rows = rows_of(what, 700, 1.0, random);
    const Set few(few_rows, Path::int8, stream), many(many_rows, Path::int8, stream);
    const Way way{Path::int8, {1 << 22, shared}, {0, 5}, 2, false};
    const About about(describe(way));
    all_pairs(few, &many, way, stream);
    all_pairs(many, &few, way, stream);
  }
}

// Devices of different kinds share a set's pairs among them: nothing is missing, nothing comes twice.
void unlike_devices() {
  const Stream stream = Stream::make(0);
  Random random(5);
  const Case what{"", 3, DType::float32, kCases[0].change};
  for (const std::int64_t n : {385, 640, 1000, 1300}) {
    const Matrix x_rows = rows_of(what, n, -1.0, random);
    const Set x(x_rows, Path::int8, stream);
    for (const int shares : {2, 3}) {
      const Way way{Path::int8, {}, {0, shares}, n % 2 ? 1 : 1000, false, true};
      const About about("n=" + std::to_string(n) + " " + describe(way));
      all_pairs(x, nullptr, way, stream);
    }
  }
}

// Thresholds by row and column: a pair whose distance is its threshold is emitted, and one whose lower
// bound, as float64 has it from what an emitted pair says, is clearly above is not.
void thresholds() {
  const Stream stream = Stream::make(0);
  Random random(4);
  for (const Case& what : {kCases[0], kCases[3], kCases[5], kCases[10]}) {
    const Matrix x_rows = rows_of(what, 200, -1.0, random),
                 y_rows = rows_of(what, 300, 1.0, random);
    for (const Path path : {Path::int8, Path::fine, Path::direct}) {
      if (path == Path::direct && what.d > cuda::kDirectFeatures) continue;
      for (const std::int64_t shared : {0, 1}) {
        for (int form = 0; form < 3; ++form) {
          const Set x(x_rows, path, stream), y(y_rows, path, stream);
          const bool self = form == 2;
          const Set& other = self ? x : y;
          const Way way{path, {1 << 22, shared}, {}, 1000, false};
          const About about(what.name + " form " + std::to_string(form) + " " + describe(way));
          Join join(x.prepared, self ? nullptr : &y.prepared, {}, stream, way.limits);
          Collect all(way, x, other, stream), some(way, x, other, stream);
          if (self) {
            all.y_threshold = all.x_threshold;
          }
          walk(join, all, way);
          // Thresholds are distances to a row of the other side; a few are never or always met.
          const double unit = join.sq_unit();
          const auto fill = [&](const Set& side, const Set& to, std::vector<float>& out) {
            for (std::int64_t slot = 0; slot < side.prepared.slots(); ++slot) {
              out[slot] = std::numeric_limits<float>::quiet_NaN();  // padding: anything
              if (side.padding(slot)) continue;
              const double sq = true_distance(side.matrix, side.row_of(slot), to.matrix,
                                              random.below(to.matrix.n));
              out[slot] = slot % 17 == 3   ? -kInfinity
                          : slot % 41 == 5 ? kInfinity
                                           : round_up(sq * unit * (slot % 3 ? 0.8 : 1.0));
            }
          };
          fill(x, other, some.x_threshold);
          if (self) {
            some.y_threshold = some.x_threshold;
          } else if (form == 1) {
            fill(y, x, some.y_threshold);
            some.weight.assign(some.x_threshold.size(), 1.0f);
            for (std::size_t i = 0; i < some.weight.size(); ++i) {
              some.weight[i] = i % 2 ? 0.5f : 1.25f;
            }
          }
          Join again(x.prepared, self ? nullptr : &y.prepared, {}, stream, way.limits);
          walk(again, some, way);
          const auto threshold = [&](const Hit& hit) {
            const float weight = some.weight.empty() ? 1.0f : some.weight[hit.x];
            return static_cast<double>(
                std::fmax(some.x_threshold[hit.x], weight * some.y_threshold[hit.y]));
          };
          std::vector<char> emitted(
              static_cast<std::size_t>(x.prepared.slots() * other.prepared.slots()), 0);
          for (const Pair& pair : some.found) {
            emitted[pair.hit.x * other.prepared.slots() + pair.hit.y] = 1;
          }
          int missed = 0, needless = 0, low = 0;
          for (const Pair& pair : all.found) {
            const double sq = true_distance(x.matrix, x.row_of(pair.hit.x), other.matrix,
                                            other.row_of(pair.hit.y)) *
                              unit;
            const bool came = emitted[pair.hit.x * other.prepared.slots() + pair.hit.y] != 0;
            const double limit = threshold(pair.hit);
            missed += !came && sq <= limit;
            low += sq <= limit;
            // The kernel has the first of the interval's two bounds, and float32's slack.
            const double slack = path == Path::direct ? 3e-5 * (sq + limit) : 0.0;
            const double width = pair.interval.high - pair.interval.low;
            const double span = path == Path::direct ? 0.0 : width;
            needless += came && pair.interval.low - span - slack > limit && what.name == "normal" &&
                        limit > -1;
            needless += came && limit < 0;
          }
          CHECK_EQUAL(missed, 0);
          CHECK_EQUAL(needless, 0);
          CHECK(low > 0);
          if (what.name == "normal") CHECK(some.found.size() < all.found.size());
        }
      }
    }
  }
}

// Leaves out what lies beyond one threshold for all, and counts the batches.
class CollectNear final : public Collect {
 public:
  CollectNear(const Way& way, const Set& x, const Set& y, const Stream& stream, float reach)
      : Collect(way, x, y, stream), reach_(reach) {
    x_threshold.assign(x_threshold.size(), reach);
  }
  double most_reach(const Join&, const cuda::Segment&) override { return reach_; }
  void tiles(Join& join, const cuda::Batch& batch) override {
    ++batches;
    Collect::tiles(join, batch);
  }
  int batches = 0;

 private:
  float reach_;
};

// Pairs of parts that lie too far apart are left out, and no pair that matters with them.
void far_parts() {
  const Stream stream = Stream::make(0);
  Random random(6);
  const Matrix x_rows = rows_of(kCases[4], 300, -1.0, random),
               y_rows = rows_of(kCases[4], 260, 1.0, random);
  const Set x(x_rows, Path::int8, stream), y(y_rows, Path::int8, stream);
  CHECK(kCases[4].name == "tight clusters" && x.prepared.parts().size() > 3);
  for (const bool self : {true, false}) {
    const Set& other = self ? x : y;
    // Centres of clusters are sqrt(2) apart, rows of one some 6e-5; rows of opposite sides 2 and sqrt(2).
    for (const double distance : {1e-4, 1.41421, 1.4143, 3.0}) {
      const About about((self ? "self " : "cross ") + show(distance));
      const Way way{};
      Join join(x.prepared, self ? nullptr : &y.prepared, {}, stream);
      const float reach = round_up(distance * distance * join.sq_unit());
      CollectNear collect(way, x, other, stream, reach);
      walk(join, collect, way);
      int segments = 0;
      for (std::size_t i = 0; i < x.prepared.parts().size(); ++i) {
        segments += static_cast<int>(self ? i + 1 : other.prepared.parts().size());
      }
      if (distance == 1e-4) {
        // The rows of no cluster are too far out to be left out.
        CHECK(collect.batches < (self ? segments : segments / 2));
      }
      if (distance == 3.0) CHECK_EQUAL(collect.batches, segments);
      std::vector<int> times(static_cast<std::size_t>(x.prepared.slots() * other.prepared.slots()),
                             0);
      for (const Pair& pair : collect.found) {
        ++times[pair.hit.x * other.prepared.slots() + pair.hit.y];
      }
      int missed = 0, twice = 0;
      for (std::int64_t i = 0; i < x.prepared.slots(); ++i) {
        for (std::int64_t j = self ? i + 1 : 0; j < other.prepared.slots(); ++j) {
          if (x.padding(i) || other.padding(j)) continue;
          const int came = times[i * other.prepared.slots() + j];
          const double sq =
              canonical(x_rows.row(x.row_of(i)), other.matrix.row(other.row_of(j)), x_rows.d);
          missed += came == 0 && sq * join.sq_unit() <= reach;
          twice += came > 1;
        }
      }
      CHECK_EQUAL(missed, 0);
      CHECK_EQUAL(twice, 0);
    }
  }
}

// Two rows that are their own centres: the distance is all offset.
void single_rows() {
  const Stream stream = Stream::make(0);
  for (const std::int64_t d : {7, 33, 4096}) {
    for (const double value : {0.1, 0.7, 1.7}) {
      const Matrix zeros = make_matrix(std::vector<double>(d, 0.0), d, DType::float64);
      const Matrix values = make_matrix(std::vector<double>(d, value), d, DType::float64);
      for (const Path path : {Path::int8, Path::fine, Path::direct}) {
        if (path == Path::direct && d > cuda::kDirectFeatures) continue;
        const Set x(zeros, path, stream), y(values, path, stream);
        const Way way{path, {}, {}, 1, false};
        const About about("d=" + show(d) + " value " + show(value) + " " + describe(way));
        all_pairs(x, &y, way, stream);
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  fastgen::emulator::set_shared_limit(227 * 1024);
  return run_tests({{"bounds_hold", bounds_hold},
                    {"switched", switched},
                    {"shapes", shapes},
                    {"unlike_devices", unlike_devices},
                    {"thresholds", thresholds},
                    {"far_parts", far_parts},
                    {"single_rows", single_rows}},
                   argc, argv);
}
