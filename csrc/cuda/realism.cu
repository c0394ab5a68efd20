// Realism on a device: the nearest lists with d^2 / r^2 for nearness, rows of y as owners.
#include "cuda/realism.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "common/check.hpp"
#include "cuda/nearest_lists.cuh"
#include "cuda/slots.hpp"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
// Candidates that every row is compared with first. The first 128 columns then emit about 128 / 16 pairs
// a row; with none they would emit all.
constexpr std::int64_t kSample = 16;

// Squared radii as factors of the ratio so far: never 0, which times infinity would be NaN.
__global__ __launch_bounds__(kThreads) void weigh_radii(const double* sq_radius, std::int64_t count,
                                                        double sq_unit, float* weight) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const double sq = __dmul_rn(sq_radius[i], sq_unit);
  weight[i] =
      isnan(sq) ? -infinite() : fmaxf(__double2float_ru(__dmul_rn(sq, 1 + 0x1p-20)), FLT_MIN);
}

// One warp an owner: its largest ratio among the sample bounds its reach.
__global__ __launch_bounds__(kThreads, 3) void sample_ratios(ListsView lists,
                                                             const std::int32_t* sample,
                                                             std::int64_t count) {
  const std::int64_t owner = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (owner >= lists.owners) return;
  const std::int32_t from = lists.owner_first[owner];
  if (from < 0) return;
  double best = 0.0;
  for (std::int64_t s = 0; s < count; s += 4) {
    std::int32_t rows[4];
    double sq[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      rows[q] = lists.candidate_first[sample[s + q < count ? s + q : count - 1]];
    }
    warp_sq_distances<4>(lists.owner_rows, from, lists.candidate_rows, rows, sq);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (s + q < count) {
        const double key = nearness_key(lists.nearness, sample[s + q], sq[q]);
        if (key < best) best = key;
      }
    }
  }
  if (threadIdx.x % 32 == 0 && best < 0) {
    lists.reach[owner] = fminf(lists.reach[owner], key_reach(lists.nearness, best));
  }
}

// One thread an owner: its squared ratio.
__global__ __launch_bounds__(kThreads) void write_ratios(ListsView lists, double* ratio) {
  const std::int64_t owner = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (owner >= lists.owners) return;
  const double key = lists.exact_count[owner] > 0 ? lists.exact_key[owner * (lists.k + 1)] : 0.0;
  ratio[owner] = key < 0 ? -key : 0.0;
}

std::vector<double> largest_of_copies(const Prepared& x, const double* sq_radii) {
  std::vector<double> sq(static_cast<std::size_t>(x.slots()),
                         std::numeric_limits<double>::quiet_NaN());
  each_slot(x, [&](std::int64_t slot, std::int32_t group) {
    each_row(x.groups(), group, [&](std::int64_t row) {
      const double value = sq_radii[row];
      if (!std::isnan(value) && !(value <= sq[slot])) sq[slot] = value;
    });
  });
  return sq;
}

}  // namespace

class Realism::Emit final : public Consumer {
 public:
  explicit Emit(Realism& realism) : realism_(realism) {}

  std::int64_t most_bands(const Behind& behind) const override {
    return std::max<std::int64_t>(1, behind.here + behind.by_y);
  }
  void tiles(Join& join, const Batch& batch) override {
    join.emit(batch, {realism_.never_.data(), realism_.weight_.data(), realism_.lists_.reach()});
  }
  void hits(Join& join, const Hit* hits, std::int64_t count) override {
    realism_.hits_ += count;
    realism_.lists_.take(join.view(), hits, count, NearestLists::kOwnersY);
  }

 private:
  Realism& realism_;
};

Realism::Realism(const Prepared& x, const Prepared& y, const double* sq_radii_x, Share share,
                 std::int64_t capacity)
    : x_(x),
      y_(y),
      stream_(x.stream()),
      host_sq_radius_(largest_of_copies(x, sq_radii_x)),
      join_(x, &y, share, stream_),
      sq_radius_(uploaded(host_sq_radius_, stream_, "radii")),
      weight_(x.slots(), stream_, "radii"),
      never_(uploaded(std::vector<float>(static_cast<std::size_t>(x.slots()),
                                         -std::numeric_limits<float>::infinity()),
                      stream_, "thresholds")),
      lists_(y.view(), x.view(), x.groups().distinct(), 1, false,
             Nearness{join_.sq_unit(), sq_radius_.data()}, stream_, capacity),
      choice_(join_) {
  launch("weigh_radii", weigh_radii, blocks_for(x.slots(), kThreads), kThreads, 0, stream_,
         sq_radius_.data(), x.slots(), join_.sq_unit(), weight_.data());
  lists_.begin(false, false);
  emit_ = std::make_unique<Emit>(*this);
}

Realism::~Realism() = default;

// Rows at equal steps of those that count; the pairs only bound, the walk meets them again.
void Realism::sample() {
  std::vector<std::int32_t> slots, chosen;
  each_slot(x_, [&](std::int64_t slot, std::int32_t) {
    if (host_sq_radius_[slot] > 0) slots.push_back(static_cast<std::int32_t>(slot));
  });
  const std::int64_t available = static_cast<std::int64_t>(slots.size());
  const std::int64_t count = std::min(available, kSample);
  for (std::int64_t s = 0; s < count; ++s) chosen.push_back(slots[s * available / count]);
  if (count == 0) return;
  sampled_ = count * y_.groups().size();
  const DeviceBuffer<std::int32_t> on_device = uploaded(chosen, stream_, "a sample of rows");
  launch("sample_ratios", sample_ratios, blocks_for(y_.slots() * 32, kThreads), kThreads, 0,
         stream_, lists_.view(), on_device.data(), count);
}

double Realism::advance(double seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  do {
    switch (stage_) {
      case Stage::sample:
        sample();
        stage_ = Stage::walk;
        break;
      case Stage::walk:
        if (join_.done()) {
          stage_ = Stage::settle;
          break;
        }
        join_.advance(0.0, *emit_);
        if (choice_.fine(join_, static_cast<double>(lists_.waiting() + lists_.looked()))) {
          join_.use_fine();
        }
        break;
      case Stage::settle:
        if (lists_.settle_more()) stage_ = Stage::done;
        break;
      case Stage::done:
        return 1.0;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return stage_ == Stage::done ? 1.0 : 0.999 * join_.fraction();
}

void Realism::finish(double* sq_ratio) {
  FASTGEN_CHECK(done());
  DeviceBuffer<double> ratios(y_.slots(), stream_, "ratios");
  launch("write_ratios", write_ratios, blocks_for(y_.slots(), kThreads), kThreads, 0, stream_,
         lists_.view(), ratios.data());
  const std::vector<double> found = downloaded(ratios, stream_);
  each_slot(y_, [&](std::int64_t slot, std::int32_t group) {
    each_row(y_.groups(), group, [&](std::int64_t row) { sq_ratio[row] = found[slot]; });
  });
}

}  // namespace fastgen::cuda
