// The order of rows that makes blocks small boxes, and the blocks of samples that may be left out: never
// more than 2^-bits of any point's sum, by long double arithmetic on all pairs, and most of them where
// blocks are far apart.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "cpu/near_blocks.hpp"
#include "cpu/row_order.hpp"
#include "tests/check.hpp"
#include "tests/log_sums.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Boxes;
using cpu::kPoints;
using Indices = std::vector<std::int64_t>;

Indices order_of(const Matrix& rows, const cpu::Kernels& table, int threads,
                 double seconds = 3600) {
  cpu::RowOrder order(rows.view(), table, threads);
  int calls = 0;
  while (!order.advance(cpu::deadline_after(seconds))) {
    if (++calls == 100000) break;
  }
  CHECK(calls < 100000);
  return order.take();
}

// Boxes around blocks of `size` rows in that order.
Boxes boxes_of(const Matrix& rows, const Indices& order, std::int64_t size) {
  Boxes boxes;
  boxes.reset(cpu::blocks_of(rows.n, size), static_cast<int>(rows.d));
  for (std::int64_t i = 0; i < rows.n; ++i) {
    for (std::int64_t f = 0; f < rows.d; ++f) {
      double& low = boxes.low[f * boxes.count + i / size];
      double& high = boxes.high[f * boxes.count + i / size];
      low = std::min(low, rows.row(order[i])[f]);
      high = std::max(high, rows.row(order[i])[f]);
    }
  }
  return boxes;
}

bool is_permutation(Indices order, std::int64_t n) {
  std::sort(order.begin(), order.end());
  bool all = static_cast<std::int64_t>(order.size()) == n;
  for (std::int64_t i = 0; all && i < n; ++i) all = order[i] == i;
  return all;
}

// Whether some feature parts two boxes, which may touch.
bool apart(const Boxes& boxes, std::int64_t a, std::int64_t b) {
  for (int f = 0; f < boxes.d; ++f) {
    const double* low = boxes.low.data() + f * boxes.count;
    const double* high = boxes.high.data() + f * boxes.count;
    if (high[a] <= low[b] || high[b] <= low[a]) return true;
  }
  return false;
}

bool all_apart(const Boxes& boxes) {
  for (std::int64_t a = 0; a < boxes.count; ++a) {
    for (std::int64_t b = 0; b < a; ++b) {
      if (!apart(boxes, a, b)) return false;
    }
  }
  return true;
}

// All rows once, in blocks of kSpan whose halves, quarters and eighths are boxes apart from each other,
// whatever the number of threads, the instruction set and the layout of the rows.
void orders() {
  const std::int64_t sizes[] = {
      1,     2,         kPoints - 1, kPoints,         kPoints + 1, kSpan - 1,
      kSpan, kSpan + 1, 3 * kPoints, 3 * kPoints + 1, 2 * kSpan,   5 * kSpan + 7,
      16384, 16385,     34000};
  int turn = 0;
  for (const std::int64_t n : sizes) {
    if (kEmulated && n > 6000) continue;
    for (const std::int64_t d : {1, 2, 3, 8}) {
      if (n > 6000 && d > 3) continue;
      ++turn;
      const About about("n " + show(n) + " d " + show(d));
      Random random(static_cast<std::uint64_t>(turn));
      const DType dtype = static_cast<DType>(turn % 3);
      Values values = normals(random, n * d);
      if (turn % 4 == 0) {
        for (double& value : values) value = std::round(4 * value);  // many rows equal
      }
      const Matrix rows = make_matrix(values, d, dtype, static_cast<Layout>(turn % 3));
      const Indices order = order_of(rows, *all_kernels()[0], 1);
      CHECK(is_permutation(order, n));
      if (n < 6000) {
        for (const std::int64_t size : {kSpan, kSpan / 2, kSpan / 4, kSpan / 8}) {
          CHECK(all_apart(boxes_of(rows, order, size)));
        }
      }
      const int threads = 2 + turn % 2;
      CHECK_ARRAYS(order_of(rows, *all_kernels().back(), threads), order);
      CHECK_ARRAYS(order_of(rows, *all_kernels()[turn % all_kernels().size()], threads, 0), order);
    }
  }
}

// Blocks fit the data: a long side is cut before a short one.
void scales() {
  Random random(1);
  const std::int64_t n = 16 * kSpan;
  Values even, uneven;
  for (std::int64_t i = 0; i < n; ++i) {
    const double a = random.uniform(), b = random.uniform();
    even.insert(even.end(), {a, b});
    uneven.insert(uneven.end(), {a, 1e-3 * b});
  }
  const cpu::Kernels& table = *all_kernels()[0];
  // 16 blocks in the unit square are a quarter wide and high.
  const Matrix square = make_matrix(even, 2, DType::float64);
  const Boxes boxes = boxes_of(square, order_of(square, table, 2), kSpan);
  for (std::size_t b = 0; b < boxes.low.size(); ++b)
    CHECK_AT_MOST(boxes.high[b] - boxes.low[b], 0.3);
  // In a strip they lie side by side, each a sixteenth long.
  const Matrix strip = make_matrix(uneven, 2, DType::float64);
  const Boxes slices = boxes_of(strip, order_of(strip, table, 2), kSpan);
  for (std::int64_t b = 0; b < slices.count; ++b) {
    CHECK_AT_MOST(slices.high[b] - slices.low[b], 1.0 / 16 + 0.01);
  }
}

// One far row makes no more than its own blocks long; all rows equal are no trouble.
void outliers() {
  Random random(2);
  const std::int64_t n = 10 * kSpan + 3;
  Values values = normals(random, n * 2);
  values[2 * 1234] = 1e9;
  const cpu::Kernels& table = *all_kernels()[0];
  const Matrix far = make_matrix(values, 2, DType::float32);
  for (const std::int64_t size : {kSpan, kPoints}) {
    const Boxes boxes = boxes_of(far, order_of(far, table, 2), size);
    int longer = 0;
    for (std::size_t b = 0; b < boxes.low.size(); ++b) longer += boxes.high[b] - boxes.low[b] > 100;
    CHECK_AT_MOST(longer, 1);
  }
  for (const double value : {0.0, -3.5}) {
    const Matrix equal = make_matrix(Values(n * 2, value), 2, DType::float16);
    CHECK(is_permutation(order_of(equal, table, 3), n));
  }
}

// Samples in blocks of a few, with weights.
struct Field {
  Matrix samples;
  Values weights;
  std::int64_t size;
  Boxes boxes;
  cpu::BlockWeights block;

  Field(Matrix rows, Values sample_weights, std::int64_t block_size)
      : samples(std::move(rows)), weights(std::move(sample_weights)), size(block_size) {
    Indices order;
    for (std::int64_t i = 0; i < samples.n; ++i) order.push_back(i);
    boxes = boxes_of(samples, order, size);
    block.sum.assign(boxes.count, 0.0);
    block.largest.assign(boxes.count, 0.0);
    for (std::int64_t i = 0; i < samples.n; ++i) {
      block.sum[i / size] += weights[i];
      block.largest[i / size] = std::max(block.largest[i / size], weights[i]);
    }
  }
};

Long squared_distance(const double* x, const double* y, std::int64_t d) {
  Long sum = 0;
  for (std::int64_t f = 0; f < d; ++f) {
    const Long t = static_cast<Long>(x[f]) - y[f];
    sum += t * t;
  }
  return sum;
}

// The largest share of any point's sum, under any rate, that blocks not listed have, of sums of at least
// 2^floor; and the least sum under the first rate, to the base 2. Point i is sample `self` + i, left
// out, unless that is negative.
struct Share {
  double share = 0, least = kInfinity;
};

Share left_out(const Field& field, const Matrix& points, const Values& rates, const Indices& blocks,
               std::int64_t self, double floor = -kInfinity) {
  std::vector<bool> listed(field.boxes.count, false);
  for (const std::int64_t block : blocks) listed[block] = true;
  Share worst;
  for (std::int64_t i = 0; i < points.n; ++i) {
    std::vector<Long> squares;
    Long nearest = std::numeric_limits<Long>::infinity();
    for (std::int64_t j = 0; j < field.samples.n; ++j) {
      squares.push_back(squared_distance(points.row(i), field.samples.row(j), points.d));
      if (self < 0 || j != self + i) nearest = std::min(nearest, squares.back());
    }
    for (const double rate : rates) {
      Long all = 0, left = 0;
      for (std::int64_t j = 0; j < field.samples.n; ++j) {
        const Long e = rate * (squares[j] - nearest);
        if ((self >= 0 && j == self + i) || e > 200) continue;
        const Long term = field.weights[j] * std::exp2(-e);
        all += term;
        if (!listed[j / field.size]) left += term;
      }
      if (!(all > 0)) continue;
      const double sum = static_cast<double>(std::log2(all) - rate * nearest);
      if (rate == rates[0]) worst.least = std::min(worst.least, sum);
      if (sum >= floor) worst.share = std::max(worst.share, static_cast<double>(left / all));
    }
  }
  return worst;
}

bool ascending(const Indices& blocks, std::int64_t count) {
  bool fine = true;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    fine = fine && 0 <= blocks[i] && blocks[i] < count && (i == 0 || blocks[i - 1] < blocks[i]);
  }
  return fine;
}

// Clusters of uneven size and weight: less than 2^-bits of every sum is left out, and yet many blocks.
void clustered() {
  std::int64_t kept = 0, all = 0;
  double closest = 0;
  for (int turn = 0; turn < (kEmulated ? 24 : 150); ++turn) {
    Random random(static_cast<std::uint64_t>(turn));
    const std::int64_t d = 1 + turn % 4, size = 1 + random.below(9), blocks = 5 + random.below(40);
    const double apart = std::exp2(6 * random.uniform() - 2),
                 spread = std::exp2(-4 * random.uniform());
    Values values, weights;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Values centre = normals(random, d, apart);
      const double heavy = turn % 3 == 0 ? 1.0 : std::exp2(-60 * random.uniform());
      // The last block may be shorter.
      const std::int64_t rows = b + 1 < blocks ? size : 1 + random.below(size);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t f = 0; f < d; ++f) values.push_back(centre[f] + spread * random.normal());
        weights.push_back(turn % 3 == 0 ? 1.0 : heavy * (0.5 + 0.5 * random.uniform()));
      }
    }
    const Field field(make_matrix(values, d, DType::float64), weights, size);
    const double rate = std::exp2(10 * random.uniform() - 6);
    const std::vector<Values> grids = {
        {rate},       {rate, 2 * rate, 4 * rate}, {rate, 1.01 * rate}, {1e-9 * rate},
        {1e9 * rate}, {1e-9 * rate, 1e9 * rate}};
    const int bits = turn % 2 ? 30 : 50;
    for (const Values& rates : grids) {
      const cpu::NearBlocks near(field.boxes, field.block, rates, bits);
      cpu::NearBlocks::Scratch scratch;
      Indices found;
      // Points of their own: near some samples, or far from all.
      const std::int64_t block = random.below(blocks);
      const std::int64_t begin = block * size, count = std::min(size, field.samples.n - begin);
      Values near_values, far_values;
      for (std::int64_t i = 0; i < 5 * d; ++i) {
        near_values.push_back(values[begin * d + i % d] + spread * random.normal());
        far_values.push_back(30 * apart + random.normal());
      }
      for (const Values& others : {near_values, far_values}) {
        const Matrix points = make_matrix(others, d, DType::float64);
        const Boxes box = boxes_of(points, {0, 1, 2, 3, 4}, 5);
        near.measure(box, 0, scratch);
        near.find(-1, -kInfinity, scratch, found);
        const Share lacks = left_out(field, points, rates, found, -1);
        const About about("turn " + show(turn) + ", rate " + show(rates[0]) + " of " +
                          show(rates.size()));
        CHECK(ascending(found, field.boxes.count));
        CHECK(lacks.share < std::exp2(-bits));
        CHECK(scratch.low <= lacks.least);
        closest = std::max(closest, lacks.share * std::exp2(bits));
        kept += static_cast<std::int64_t>(found.size());
        all += blocks;
        // Where sums below a floor do not count, there is no more to do.
        const std::size_t before = found.size();
        const double floor = lacks.least + 10;
        near.measure(box, 0, scratch);
        near.find(-1, floor, scratch, found);
        CHECK(found.size() <= before);
        if (rates.size() == 1) {
          CHECK(left_out(field, points, rates, found, -1, floor).share < std::exp2(-bits));
        }
        // Every sample is within the distance that is said to be the farthest.
        const double farthest = cpu::NearBlocks::farthest(scratch);
        for (std::int64_t i = 0; i < points.n; ++i) {
          for (std::int64_t j = 0; j < field.samples.n; ++j) {
            if (squared_distance(points.row(i), field.samples.row(j), d) <= farthest) continue;
            CHECK(false);
          }
        }
      }
      // Samples of one block, each without itself.
      const Matrix own =
          make_matrix(Values(values.begin() + begin * d, values.begin() + (begin + count) * d), d,
                      DType::float64);
      near.measure(field.boxes, block, scratch);
      near.find(block, -kInfinity, scratch, found);
      const About about("turn " + show(turn) + ", rate " + show(rates[0]) + ", own samples");
      CHECK(ascending(found, field.boxes.count));
      CHECK(left_out(field, own, rates, found, begin).share < std::exp2(-bits));
      kept += static_cast<std::int64_t>(found.size());
      all += blocks;
    }
  }
  CHECK(closest > 1e-9);  // the bound is not empty
  std::printf("  %.3f of the blocks kept, %.2g of the bound left out\n",
              static_cast<double>(kept) / all, closest);
  CHECK(5 * kept < 4 * all);
}

// 64 blocks of 8 samples in a row, a unit long each.
struct Line {
  Field field;

  static Field make(double gap) {
    Random random(7);
    Values values;
    for (int b = 0; b < 64; ++b) {
      values.push_back(b * (1 + gap));
      for (int i = 1; i < 7; ++i) values.push_back(b * (1 + gap) + random.uniform());
      values.push_back(b * (1 + gap) + 1);
    }
    return Field(make_matrix(values, 1, DType::float64), Values(512, 1.0), 8);
  }
  explicit Line(double gap) : field(make(gap)) {}

  Indices near(const Values& rates, int bits, std::int64_t box, std::int64_t own) const {
    const cpu::NearBlocks near(field.boxes, field.block, rates, bits);
    cpu::NearBlocks::Scratch scratch;
    Indices found;
    near.measure(field.boxes, box, scratch);
    near.find(own, -kInfinity, scratch, found);
    return found;
  }
};

// How many blocks are left in where it is plain how many matter: those within a distance D with
// 2^(-rate D^2) about 2^-bits of the least that the own block has.
void lines() {
  const Line line(0), gaps(20);
  for (const std::int64_t own : {std::int64_t{-1}, std::int64_t{32}}) {
    const About about("own " + show(own));
    // sqrt(30 + 6) = 6 blocks on either side, besides a unit of uncertainty.
    const Indices some = line.near({1}, 30, 32, own);
    CHECK(13 <= some.size() && some.size() <= 17);
    CHECK_EQUAL(some.front() + some.back(), std::int64_t{64});
    CHECK(line.near({1}, 50, 32, own).size() > some.size());
    CHECK(line.near({1}, 50, 32, own).size() <= 21);
    // Wide: all. Narrow: blocks no further than what the own block reaches.
    CHECK_EQUAL(line.near({1e-6}, 30, 32, own).size(), std::size_t{64});
    CHECK(line.near({1e12}, 30, 32, own).size() <= 5);
    // Narrow bandwidths beside others cost next to nothing.
    CHECK(line.near({1, 2, 4, 1e6}, 30, 32, own).size() <= 17);
    // Blocks far apart: the own one alone.
    CHECK_ARRAYS(gaps.near({1}, 30, 32, own), Indices{32});
    CHECK_ARRAYS(gaps.near({1, 3}, 50, 32, own), Indices{32});
  }
  // Without itself, the one sample of a block leaves nothing there.
  const Field lonely(make_matrix({0, 5, 5.5, 100}, 1, DType::float64), {1, 1, 1, 1}, 1);
  const Values rates = {1}, two = {1, 2};
  for (const Values& some : {rates, two}) {
    const cpu::NearBlocks near(lonely.boxes, lonely.block, some, 30);
    cpu::NearBlocks::Scratch scratch;
    Indices found;
    near.measure(lonely.boxes, 0, scratch);
    near.find(0, -kInfinity, scratch, found);
    CHECK(std::count(found.begin(), found.end(), 1) == 1);
    CHECK(std::count(found.begin(), found.end(), 3) == 0);
  }
  const Field alone(make_matrix({2}, 1, DType::float64), {1}, 1);
  const cpu::NearBlocks near(alone.boxes, alone.block, two, 30);
  cpu::NearBlocks::Scratch scratch;
  Indices found;
  near.measure(alone.boxes, 0, scratch);
  near.find(0, -kInfinity, scratch, found);
  CHECK(found.size() <= 1);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"orders", orders},
                    {"scales", scales},
                    {"outliers", outliers},
                    {"clustered", clustered},
                    {"lines", lines}},
                   argc, argv);
}
