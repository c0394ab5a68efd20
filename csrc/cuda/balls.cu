// Ball counts on a device: drives the join, settles the pairs that its bounds leave open, and adds up.
#include "cuda/balls.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "common/check.hpp"
#include "cuda/certificate.cuh"
#include "cuda/distance.cuh"
#include "cuda/ptx.cuh"
#include "cuda/slots.hpp"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr double kNone = -std::numeric_limits<double>::infinity();

// Radii as the tile kernels take them: rounded down to prove a pair inside, up to prove it outside.
__global__ __launch_bounds__(kThreads) void round_radii(const double* least, const double* most,
                                                        std::int64_t count, double sq_unit,
                                                        float* inside, float* outside) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  inside[i] = __double2float_rd(__dmul_rn(least[i], sq_unit));
  outside[i] = __double2float_ru(__dmul_rn(most[i], sq_unit));
}

struct BallsView {
  BallSideView x, y;
  int radii;
  bool closed;
  double sq_unit;
};

__device__ __forceinline__ bool within(double sq, double sq_radius, bool closed) {
  return closed ? sq <= sq_radius : sq < sq_radius;
}

// Whether the bounds leave the pair open for the balls of one side's slot.
__device__ __forceinline__ bool open_for(const BallSideView& side, std::int32_t slot, int radii,
                                         double sq_unit, const Interval& bounds) {
  bool open = false;
  for (int r = 0; side.balls && r < radii; ++r) {
    const double least = __dmul_rn(side.least[r * side.slots + slot], sq_unit);
    const double most = __dmul_rn(side.most[r * side.slots + slot], sq_unit);
    open = open || (bounds.low <= most && !(bounds.high < least));
  }
  return open;
}

// Counts a point of `points` inside the balls of all copies of a row.
__device__ __forceinline__ void count_inside(const BallSideView& side, std::int32_t slot,
                                             const BallSideView& points, std::int32_t point,
                                             int r) {
  atomicAdd(side.inside + r * side.slots + slot,
            static_cast<unsigned long long>(points.copies[point]));
  atomicAdd(points.balls_around + r * points.slots + point,
            static_cast<unsigned long long>(side.copies[slot]));
}

__device__ __forceinline__ void count_proven(const BallSideView& side, std::int32_t slot,
                                             const BallSideView& points, std::int32_t point,
                                             int radii, double sq_unit, double high) {
  for (int r = 0; side.balls && r < radii; ++r) {
    if (high < __dmul_rn(side.least[r * side.slots + slot], sq_unit)) {
      count_inside(side, slot, points, point, r);
    }
  }
}

__device__ __forceinline__ void count_exact(const BallSideView& side, std::int32_t slot,
                                            const BallSideView& points, std::int32_t point, int r,
                                            double sq, bool closed) {
  const std::int64_t at = r * side.slots + slot;
  if (within(sq, side.least[at], closed)) {
    count_inside(side, slot, points, point, r);
  } else if (within(sq, side.most[at], closed)) {
    // Inside the balls of some copies only.
    unsigned long long containing = 0;
    const std::int64_t start = side.start[slot];
    for (std::int32_t c = 0; c < side.copies[slot]; ++c) {
      const std::int64_t row = r * side.n + side.members[start + c];
      if (!within(sq, side.by_row[row], closed)) continue;
      atomicAdd(side.inside_by_row + row, static_cast<unsigned long long>(points.copies[point]));
      ++containing;
    }
    atomicAdd(points.balls_around + r * points.slots + point, containing);
  }
}

// Hits that stay open are looked at by rows of x, so that a row comes from memory once for several
// pairs: 50,000 rows with 20 such pairs each would else read twice as much.
struct OpenPair {
  std::int32_t x, y, place;  // place: among those of the row of x
};

struct OpenView {
  BallCounters* counters;
  OpenPair *found, *by_row;
  std::int32_t* count;   // [slots of x], zero between batches
  std::uint32_t* first;  // [slots of x], of a row's pairs in `by_row`
};

// One thread a hit: counted if the float64 bounds decide it, else listed.
__global__ __launch_bounds__(kThreads) void decide_hits(JoinView join, const Hit* hits,
                                                        std::int64_t count, BallsView balls,
                                                        OpenView open) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const bool exists = i < count;
  const Hit hit = exists ? hits[i] : Hit{};
  bool undecided = exists;
  if (exists && !join.exact) {
    const Interval bounds = pair_interval(join, hit);
    undecided = open_for(balls.x, hit.x, balls.radii, balls.sq_unit, bounds) ||
                open_for(balls.y, hit.y, balls.radii, balls.sq_unit, bounds);
    if (!undecided) {
      count_proven(balls.x, hit.x, balls.y, hit.y, balls.radii, balls.sq_unit, bounds.high);
      count_proven(balls.y, hit.y, balls.x, hit.x, balls.radii, balls.sq_unit, bounds.high);
    }
  }
  const unsigned all = __ballot_sync(kWholeWarp, undecided);
  unsigned base = 0;
  if (lane == 0 && all != 0) {
    base = atomicAdd(&open.counters->open, static_cast<unsigned>(__popc(all)));
  }
  base = __shfl_sync(kWholeWarp, base, 0);
  if (undecided) {
    open.found[base + __popc(all & ((1u << lane) - 1u))] = {hit.x, hit.y,
                                                            atomicAdd(open.count + hit.x, 1)};
  }
}

// One thread a row of x: room for its pairs. Rows get theirs in any order.
__global__ __launch_bounds__(kThreads) void make_room(OpenView open, std::int64_t slots) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const std::int64_t slot = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const unsigned own = slot < slots ? static_cast<unsigned>(open.count[slot]) : 0;
  unsigned sum = own;
#pragma unroll
  for (int width = 1; width < 32; width *= 2) {
    const unsigned below = __shfl_up_sync(kWholeWarp, sum, width);
    if (lane >= width) sum += below;
  }
  unsigned base = 0;
  if (lane == 31 && sum != 0) base = atomicAdd(&open.counters->placed, sum);
  base = __shfl_sync(kWholeWarp, base, 31);
  if (own == 0) return;
  open.first[slot] = base + sum - own;
  open.count[slot] = 0;
}

__global__ __launch_bounds__(kThreads) void sort_by_row(OpenView open) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= open.counters->open) return;
  const OpenPair pair = open.found[i];
  open.by_row[open.first[pair.x] + static_cast<unsigned>(pair.place)] = pair;
}

// A pair a lane: its canonical distance decides.
__global__ __launch_bounds__(kThreads, 2) void look_at_open(BallsView balls, OpenView open) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t count = open.counters->open;
  const bool exists = i < count;
  const unsigned all = __ballot_sync(kWholeWarp, exists);
  if (all == 0) return;
  const OpenPair pair = exists ? open.by_row[i] : OpenPair{};
  const double sq =
      warp_sq_distances_of_lanes(balls.x.rows, exists ? balls.x.first_row[pair.x] : 0, balls.y.rows,
                                 exists ? balls.y.first_row[pair.y] : 0, __popc(all));
  if (lane == 0) {
    atomicAdd(&open.counters->looked, static_cast<unsigned long long>(__popc(all)));
  }
  if (!exists) return;
  for (int r = 0; r < balls.radii; ++r) {
    if (balls.x.balls) count_exact(balls.x, pair.x, balls.y, pair.y, r, sq, balls.closed);
    if (balls.y.balls) count_exact(balls.y, pair.y, balls.x, pair.x, r, sq, balls.closed);
  }
}

}  // namespace

Balls::Side::Side(const Prepared& rows, const double* sq_radii, std::int64_t radius_sets,
                  const Stream& stream, double sq_unit)
    : set(&rows), radii(radius_sets), balls(sq_radii != nullptr) {
  const std::int64_t slots = rows.slots(), n = rows.rows().n, size = radii * slots;
  const char* purpose = "radii";
  std::vector<double> low(static_cast<std::size_t>(size), kNone), high;
  const auto value = [&](std::int64_t at) {
    return std::isnan(sq_radii[at]) ? kNone : sq_radii[at];
  };
  for (std::int64_t r = 0; balls && r < radii; ++r) {
    each_slot(rows, [&](std::int64_t slot, std::int32_t group) {
      low[r * slots + slot] = value(r * n + rows.groups().first[group]);
    });
  }
  if (balls && !rows.groups().distinct()) {
    high = low;
    for (std::int64_t r = 0; r < radii; ++r) {
      each_slot(rows, [&](std::int64_t slot, std::int32_t group) {
        each_row(rows.groups(), group, [&](std::int64_t row) {
          low[r * slots + slot] = std::min(low[r * slots + slot], value(r * n + row));
          high[r * slots + slot] = std::max(high[r * slots + slot], value(r * n + row));
        });
      });
    }
    by_row = low != high;
  }
  const std::vector<double>& largest = by_row ? high : low;
  for (const Part& part : rows.parts()) {
    double most = kNone;
    for (std::int64_t r = 0; r < radii; ++r) {
      const auto of = largest.begin() + r * slots;
      most = std::max(most, *std::max_element(of + part.begin, of + part.end));
    }
    part_reach.push_back(most * sq_unit);
  }
  least = uploaded(low, stream, purpose);
  if (by_row) {
    most = uploaded(high, stream, purpose);
    std::vector<double> own(static_cast<std::size_t>(radii * n));
    for (std::int64_t i = 0; i < radii * n; ++i) own[i] = value(i);
    given = uploaded(own, stream, purpose);
    std::vector<std::int64_t> begin(static_cast<std::size_t>(slots), 0);
    each_slot(rows, [&](std::int64_t slot, std::int32_t group) {
      begin[slot] = rows.groups().start[group];
    });
    start = uploaded(begin, stream, purpose);
    members = uploaded(rows.groups().members, stream, purpose);
  }
  inside_of = DeviceBuffer<float>(size, stream, purpose);
  outside_of = DeviceBuffer<float>(size, stream, purpose);
  launch("round_radii", round_radii, blocks_for(size, kThreads), kThreads, 0, stream, least.data(),
         by_row ? most.data() : least.data(), size, sq_unit, inside_of.data(), outside_of.data());
}

void Balls::Side::allocate_counts(bool others_have_balls, const Stream& stream) {
  const char* purpose = "ball counts";
  const auto zeros = [&](std::int64_t size) {
    DeviceBuffer<unsigned long long> counts(size, stream, purpose);
    fill_bytes(counts.data(), 0, counts.bytes(), stream);
    return counts;
  };
  if (balls) inside = zeros(radii * set->slots());
  if (by_row) inside_by_row = zeros(radii * set->rows().n);
  if (others_have_balls) balls_around = zeros(radii * set->slots());
}

BallSideView Balls::Side::view() const {
  const PreparedView prepared = set->view();
  return {prepared.rows,        prepared.first_row,
          prepared.copies,      prepared.slots,
          prepared.rows.n,      balls,
          least.data(),         by_row ? most.data() : least.data(),
          given.data(),         start.data(),
          members.data(),       inside.data(),
          inside_by_row.data(), balls_around.data()};
}

class Balls::Count final : public Consumer {
 public:
  explicit Count(Balls& balls)
      : balls_(balls),
        count_(balls.x_.set->slots(), balls.stream_, kPurpose),
        first_(balls.x_.set->slots(), balls.stream_, kPurpose) {
    fill_bytes(count_.data(), 0, count_.bytes(), balls.stream_);
    const Side &x = balls.x_, &y = balls.y_;
    thresholds_ = {static_cast<int>(balls.radii_),
                   x.set->slots(),
                   y.set->slots(),
                   x.inside_of.data(),
                   x.outside_of.data(),
                   y.inside_of.data(),
                   y.outside_of.data(),
                   x.inside.data(),
                   y.balls_around.data(),
                   y.inside.data(),
                   x.balls_around.data(),
                   x.balls,
                   y.balls};
  }

  // The first few bands say whether int8 will do.
  std::int64_t most_bands(const Behind& behind) const override {
    return std::max<std::int64_t>(8, 4 * (behind.here + std::max(behind.by_x, behind.by_y)));
  }
  double most_reach(const Join&, const Segment& segment) override {
    const Side &x = balls_.x_, &y = balls_.y_;
    return std::max(x.part_reach[segment.x - x.set->parts().data()],
                    y.part_reach[segment.y - y.set->parts().data()]);
  }
  void tiles(Join& join, const Batch& batch) override { join.count(batch, thresholds_); }
  void hits(Join& join, const Hit* hits, std::int64_t count) override {
    balls_.hits_ += count;
    const BallsView view{balls_.x_.view(), balls_.y_.view(), static_cast<int>(balls_.radii_),
                         balls_.closed_, join.sq_unit()};
    const Stream& stream = balls_.stream_;
    const std::int64_t slots = balls_.x_.set->slots();
    if (found_.size() < count) {
      found_ = DeviceBuffer<OpenPair>();
      by_row_ = DeviceBuffer<OpenPair>();
      found_ = DeviceBuffer<OpenPair>(count, stream, kPurpose);
      by_row_ = DeviceBuffer<OpenPair>(count, stream, kPurpose);
    }
    const OpenView open{balls_.counters_.data(), found_.data(), by_row_.data(), count_.data(),
                        first_.data()};
    fill_bytes(open.counters, 0, 2 * sizeof(unsigned), stream);  // not those looked at
    const std::int64_t blocks = blocks_for(count, kThreads);
    launch("decide_hits", decide_hits, blocks, kThreads, 0, stream, join.view(), hits, count, view,
           open);
    launch("make_room", make_room, blocks_for(slots, kThreads), kThreads, 0, stream, open, slots);
    launch("sort_by_row", sort_by_row, blocks, kThreads, 0, stream, open);
    launch("look_at_open", look_at_open, blocks, kThreads, 0, stream, view, open);
  }

 private:
  static constexpr const char* kPurpose = "pairs at the edge of balls";

  Balls& balls_;
  BallThresholds thresholds_;
  DeviceBuffer<OpenPair> found_, by_row_;
  DeviceBuffer<std::int32_t> count_;
  DeviceBuffer<std::uint32_t> first_;
};

Balls::Balls(const Prepared& x, const Prepared& y, const double* sq_radii_x,
             const double* sq_radii_y, std::int64_t radii, bool closed, Share share)
    : stream_(x.stream()),
      radii_(radii),
      closed_(closed),
      join_(x, &y, share, stream_),
      x_(x, sq_radii_x, radii, stream_, join_.sq_unit()),
      y_(y, sq_radii_y, radii, stream_, join_.sq_unit()),
      choice_(join_),
      counters_(1, stream_, "counters") {
  FASTGEN_CHECK(radii >= 1 && (sq_radii_x || sq_radii_y));
  x_.allocate_counts(y_.balls, stream_);
  y_.allocate_counts(x_.balls, stream_);
  fill_bytes(counters_.data(), 0, counters_.bytes(), stream_);
  count_ = std::make_unique<Count>(*this);
}

Balls::~Balls() = default;

double Balls::advance(double seconds) {
  if (join_.done()) return 1.0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  do {
    join_.advance(0.0, *count_);  // one batch: then products may change
    BallCounters counted{};
    download(&counted, counters_.data(), sizeof(counted), stream_);
    rechecked_ = static_cast<std::int64_t>(counted.looked);
    const double expected = static_cast<double>(rechecked_) / std::max(join_.fraction(), 1e-9);
    if (choice_.fine(join_, expected)) join_.use_fine();
  } while (!join_.done() && std::chrono::steady_clock::now() < deadline);
  return join_.done() ? 1.0 : 0.999 * join_.fraction();
}

void Balls::expand(const Side& side, const DeviceBuffer<unsigned long long>& counts,
                   const DeviceBuffer<unsigned long long>* by_row, std::int64_t* out) const {
  FASTGEN_CHECK(counts.size() == radii_ * side.set->slots());
  const std::int64_t n = side.set->rows().n, slots = side.set->slots();
  const std::vector<unsigned long long> totals = downloaded(counts, stream_);
  for (std::int64_t r = 0; r < radii_; ++r) {
    each_slot(*side.set, [&](std::int64_t slot, std::int32_t group) {
      each_row(side.set->groups(), group, [&](std::int64_t row) {
        out[r * n + row] = static_cast<std::int64_t>(totals[r * slots + slot]);
      });
    });
  }
  if (!by_row) return;
  const std::vector<unsigned long long> own = downloaded(*by_row, stream_);
  for (std::int64_t i = 0; i < radii_ * n; ++i) out[i] += static_cast<std::int64_t>(own[i]);
}

void Balls::y_in_x(std::int64_t* out) const {
  expand(x_, x_.inside, x_.by_row ? &x_.inside_by_row : nullptr, out);
}
void Balls::x_in_y(std::int64_t* out) const {
  expand(y_, y_.inside, y_.by_row ? &y_.inside_by_row : nullptr, out);
}
void Balls::x_balls_of_y(std::int64_t* out) const { expand(y_, y_.balls_around, nullptr, out); }
void Balls::y_balls_of_x(std::int64_t* out) const { expand(x_, x_.balls_around, nullptr, out); }

}  // namespace fastgen::cuda
