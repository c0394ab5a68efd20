// Sets on a device, a consumer that collects what a join emits, and the check that every pair came once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/rounding.hpp"
#include "cuda/join.hpp"
#include "emulator/cuda_runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using cuda::DeviceBuffer;
using cuda::Hit;
using cuda::Join;
using cuda::JoinLimits;
using cuda::Path;
using cuda::Prepared;
using cuda::Product;
using cuda::Share;
using cuda::Stream;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline const char* name_of(Path path) {
  constexpr const char* kNames[] = {"automatic", "int8", "fine", "direct", "exact"};
  return kNames[static_cast<int>(path)];
}

// How a walk is done.
struct Way {
  Path path = Path::int8;
  JoinLimits limits{};
  Share share{};
  std::int64_t bands = 1000;  // at a time
  bool switched = false;      // to fine products after the first batch of a segment
  bool unlike = false;        // shares of devices with narrow tiles and with wide ones, in turns
};

inline std::string describe(const Way& way) {
  return std::string(name_of(way.path)) + (way.limits.shared > 0 ? " narrow" : " wide") +
         (way.unlike ? " unlike" : "") + (way.switched ? " switched" : "") + " hits " +
         std::to_string(way.limits.hits) + " bands " + std::to_string(way.bands) + " share " +
         std::to_string(way.share.index) + "/" + std::to_string(way.share.count);
}

// A matrix on the device, made ready.
struct Set {
  Set(const Matrix& matrix, Path path, const Stream& stream)
      : matrix(matrix), on_device(matrix, stream), prepared(on_device.view, path, stream) {
    while (prepared.advance(10.0) < 1.0) {
    }
  }
  std::int64_t row_of(std::int64_t slot) const {
    return prepared.groups().first[prepared.group_of_slot()[slot]];
  }
  std::int64_t copies_of(std::int64_t slot) const {
    return prepared.groups().copies[prepared.group_of_slot()[slot]];
  }
  bool padding(std::int64_t slot) const { return prepared.group_of_slot()[slot] < 0; }

  const Matrix& matrix;
  DeviceMatrix on_device;
  Prepared prepared;
};

// Squared distance in long double, rounded once.
inline double true_distance(const Matrix& x, std::int64_t i, const Matrix& y, std::int64_t j) {
  long double sq = 0;
  for (std::int64_t k = 0; k < x.d; ++k) {
    const long double t = static_cast<long double>(x.row(i)[k]) - y.row(j)[k];
    sq += t * t;
  }
  return static_cast<double>(sq);
}

inline __global__ void intervals_of(cuda::JoinView join, const Hit* hits, std::int64_t count,
                                    Interval* out) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) out[i] = cuda::pair_interval(join, hits[i]);
}

struct Pair {
  Hit hit;
  Interval interval;
};

// Collects hits and their intervals; thresholds by slot, changed by `prepare` before every batch.
class Collect : public cuda::Consumer {
 public:
  Collect(const Way& way, const Set& x, const Set& y, const Stream& stream)
      : way_(way),
        x_threshold(static_cast<std::size_t>(x.prepared.slots()), kInfinity),
        y_threshold(static_cast<std::size_t>(y.prepared.slots()), -kInfinity),
        stream_(stream) {}

  std::int64_t most_bands(const cuda::Behind&) const override { return way_.bands; }
  void tiles(Join& join, const cuda::Batch& batch) override {
    x_ = cuda::uploaded(x_threshold, stream_, "thresholds");
    y_ = cuda::uploaded(y_threshold, stream_, "thresholds");
    if (!weight.empty()) weight_ = cuda::uploaded(weight, stream_, "thresholds");
    join.emit(batch, {x_.data(), weight.empty() ? nullptr : weight_.data(), y_.data()});
  }
  void hits(Join& join, const Hit* hits, std::int64_t count) override {
    most_hits = std::max(most_hits, count);
    std::vector<Hit> here(static_cast<std::size_t>(count));
    cuda::download(here.data(), hits, count * static_cast<std::int64_t>(sizeof(Hit)), stream_);
    DeviceBuffer<Interval> out(count, stream_, "intervals");
    cuda::launch("intervals_of", intervals_of, cuda::blocks_for(count, 256), 256, 0, stream_,
                 join.view(), hits, count, out.data());
    const auto intervals = cuda::downloaded(out, stream_);
    for (std::size_t i = 0; i < here.size(); ++i) found.push_back({here[i], intervals[i]});
    ++calls;
  }

 private:
  Way way_;

 public:
  std::vector<float> x_threshold, y_threshold, weight;
  std::vector<Pair> found;
  std::int64_t most_hits = 0, calls = 0;

 private:
  Stream stream_;
  DeviceBuffer<float> x_, y_, weight_;
};

inline void walk(Join& join, cuda::Consumer& consumer, const Way& way, bool* switched = nullptr) {
  double before = 0;
  for (int calls = 0; !join.done() && calls < 10000; ++calls) {
    CHECK(join.fraction() >= before && join.fraction() <= 1);
    before = join.fraction();
    if (!join.advance(0.0, consumer) && way.switched) {
      join.use_fine();
      if (switched) *switched = true;
    }
  }
  CHECK(join.done());
  CHECK_EQUAL(join.fraction(), 1.0);
}

// Every pair that belongs to the walk came once, with an interval that holds both distances.
struct Seen {
  Seen(const Set& x, const Set* y) : x_(x), y_(y ? *y : x), self_(!y) {
    times_.assign(static_cast<std::size_t>(x_.prepared.slots() * y_.prepared.slots()), 0);
  }
  void add(const Join& join, const std::vector<Pair>& found) {
    int outside = 0, padding = 0, order = 0;
    for (const Pair& pair : found) {
      const std::int64_t i = pair.hit.x, j = pair.hit.y;
      if (x_.padding(i) || y_.padding(j)) {
        ++padding;
        continue;
      }
      order += self_ && !(i < j);
      ++times_[i * y_.prepared.slots() + j];
      const std::int64_t a = x_.row_of(i), b = y_.row_of(j);
      const double exact = true_distance(x_.matrix, a, y_.matrix, b) * join.sq_unit();
      const double here =
          canonical(x_.matrix.row(a), y_.matrix.row(b), x_.matrix.d) * join.sq_unit();
      outside += !(pair.interval.low <= exact && exact <= pair.interval.high) ||
                 !(pair.interval.low <= here && here <= pair.interval.high);
      if (pair.interval.high < 1e300) {
        widest = std::max(widest, (pair.interval.high - pair.interval.low) / (exact + 1));
      }
    }
    CHECK_EQUAL(padding, 0);
    CHECK_EQUAL(order, 0);
    CHECK_EQUAL(outside, 0);
  }
  void check() const {
    int wrong = 0;
    for (std::int64_t i = 0; i < x_.prepared.slots(); ++i) {
      for (std::int64_t j = 0; j < y_.prepared.slots(); ++j) {
        if (x_.padding(i) || y_.padding(j)) continue;
        wrong += times_[i * y_.prepared.slots() + j] != (self_ && j <= i ? 0 : 1);
      }
    }
    CHECK_EQUAL(wrong, 0);
  }
  double widest = 0;

 private:
  const Set &x_, &y_;
  bool self_;
  std::vector<int> times_;
};

using Change = void (*)(double* row, std::int64_t i, std::int64_t d, double side);

struct Case {
  std::string name;
  std::int64_t d;
  DType dtype;
  Change change;
};

inline const Case kCases[] = {
    {"normal", 64, DType::float32, [](double*, std::int64_t, std::int64_t, double) {}},
    {"d=1", 1, DType::float64, [](double*, std::int64_t, std::int64_t, double) {}},
    {"d=200", 200, DType::float16, [](double*, std::int64_t, std::int64_t, double) {}},
    {"every size", 9, DType::float64,
     [](double* row, std::int64_t i, std::int64_t d, double) {
       for (std::int64_t k = 0; k < d; ++k) row[k] = std::ldexp(row[k], -static_cast<int>(i % 90));
     }},
    {"tight clusters", 20, DType::float64,
     [](double* row, std::int64_t i, std::int64_t d, double side) {
       for (std::int64_t k = 0; k < d; ++k) row[k] *= 1e-5;
       row[i % 5] += side;
     }},
    {"apart", 12, DType::float64,
     [](double* row, std::int64_t, std::int64_t d, double side) {
       for (std::int64_t k = 0; k < d; ++k) row[k] += 1e4 * side;
     }},
    {"apart and small", 30, DType::float64,
     [](double* row, std::int64_t, std::int64_t d, double side) {
       for (std::int64_t k = 0; k < d; ++k) row[k] = row[k] * (side < 0 ? 1e-9 : 1e6) + side;
     }},
    {"huge", 16, DType::float64,
     [](double* row, std::int64_t, std::int64_t d, double) {
       for (std::int64_t k = 0; k < d; ++k) row[k] *= 0x1p497;
     }},
    {"tiny", 30, DType::float64,
     [](double* row, std::int64_t, std::int64_t d, double) {
       for (std::int64_t k = 0; k < d; ++k) row[k] *= 1e-130;
     }},
    {"outlying rows", 14, DType::float64,
     [](double* row, std::int64_t i, std::int64_t d, double side) {
       for (std::int64_t k = 0; k < d; ++k) {
         row[k] *= i % 50 == 0 ? 1e30 : i % 50 == 7 ? side * 1e15 : 1.0;
       }
     }},
    {"copies", 8, DType::float32,
     [](double* row, std::int64_t i, std::int64_t d, double) {
       for (std::int64_t k = 0; i % 3 == 0 && k < d; ++k) row[k] = static_cast<double>(i % 7);
     }},
};

inline Matrix rows_of(const Case& what, std::int64_t n, double side, Random& random) {
  std::vector<double> values = normals(random, n * what.d);
  for (std::int64_t i = 0; i < n; ++i) what.change(values.data() + i * what.d, i, what.d, side);
  return make_matrix(values, what.d, what.dtype);
}

// All pairs of x with itself, or with y, over all shares; the widest interval by its distance.
inline double all_pairs(const Set& x, const Set* y, const Way& way, const Stream& stream,
                        bool* switched = nullptr) {
  Seen seen(x, y);
  for (int index = 0; index < way.share.count; ++index) {
    JoinLimits limits = way.limits;
    if (way.unlike) limits.shared = index % 2 ? 0 : 1;
    Join join(x.prepared, y ? &y->prepared : nullptr, {index, way.share.count}, stream, limits);
    Collect collect(way, x, y ? *y : x, stream);
    walk(join, collect, way, switched);
    seen.add(join, collect.found);
    CHECK_AT_MOST(static_cast<double>(collect.most_hits),
                  static_cast<double>(std::max(way.limits.hits, cuda::kMostTileHits)));
  }
  seen.check();
  return seen.widest;
}

}  // namespace fastgen::test
