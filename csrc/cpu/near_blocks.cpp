#include "cpu/near_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace fastgen::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What a block is off by, in powers of two, is sorted into bins of this width.
constexpr double kBinsPerBit = 4;

}  // namespace

void Boxes::reset(std::int64_t boxes, int features) {
  count = boxes;
  d = features;
  low.assign(count * d, kInfinity);
  high.assign(count * d, -kInfinity);
}

NearBlocks::NearBlocks(const Boxes& samples, const BlockWeights& weights,
                       const std::vector<double>& rates, int bits)
    : samples_(samples), weights_(weights), rates_(rates), bits_(bits) {
  for (const double weight : weights.sum) {
    total_ += weight;
    log_weight_.push_back(std::log2(weight));
  }
}

// Least and largest squared distances to every block, rounding allowed for.
void NearBlocks::measure(const Boxes& points, std::int64_t box, Scratch& scratch) const {
  const std::int64_t count = samples_.count;
  scratch.nearest.assign(count, 0.0);
  scratch.farthest.assign(count, 0.0);
  for (int f = 0; f < samples_.d; ++f) {
    const double low = points.low[f * points.count + box];
    const double high = points.high[f * points.count + box];
    const double* lows = samples_.low.data() + f * count;
    const double* highs = samples_.high.data() + f * count;
    for (std::int64_t b = 0; b < count; ++b) {
      const double below = low - highs[b], above = lows[b] - high;
      const double gap = std::max(std::max(below, above), 0.0);
      const double reach = std::max(high - lows[b], highs[b] - low);
      scratch.nearest[b] += gap * gap;
      scratch.farthest[b] += reach * reach;
    }
  }
  for (std::int64_t b = 0; b < count; ++b) {
    scratch.nearest[b] *= 1 - 0x1p-40;
    scratch.farthest[b] *= 1 + 0x1p-40;
  }
}

double NearBlocks::farthest(const Scratch& scratch) {
  return *std::max_element(scratch.farthest.begin(), scratch.farthest.end());
}

void NearBlocks::find(std::int64_t own, double floor, Scratch& scratch,
                      std::vector<std::int64_t>& blocks) const {
  const std::int64_t count = samples_.count;
  const double rate = rates_[0];

  // A lower bound on every point's sum under the first bandwidth, and a block that every point is near.
  auto& exponent = scratch.exponent;
  exponent.assign(count, -kInfinity);
  double top = -kInfinity, reach = kInfinity, reach_weight = 1;
  for (std::int64_t b = 0; b < count; ++b) {
    double left = weights_.sum[b], log_left = log_weight_[b];
    if (b == own) {
      left = left * (1 - 0x1p-40) - weights_.largest[b];
      if (!(left > 0)) continue;
      log_left = std::log2(left);
    }
    exponent[b] = log_left - rate * scratch.farthest[b];
    top = std::max(top, exponent[b]);
    if (scratch.farthest[b] < reach) {
      reach = scratch.farthest[b];
      reach_weight = left;
    }
  }
  double low = 0;
  for (std::int64_t b = 0; b < count; ++b) {
    if (exponent[b] > top - 64) low += std::exp2(exponent[b] - top);
  }
  low = top + std::log2(low);
  low -= 0x1p-20 + 0x1p-45 * std::fabs(low);  // rounding

  low = std::max(low, floor);
  scratch.low = low;
  if (!std::isfinite(low)) {  // exponents at the end of the range of numbers tell nothing
    blocks.resize(count);
    std::iota(blocks.begin(), blocks.end(), std::int64_t{0});
    return;
  }

  // What each block adds at most, in powers of two below that bound. From the far end, blocks are left
  // out while all of them together stay below 2^-bits.
  const double most = bits_ + std::log2(static_cast<double>(count)) + 1;
  const int bins = static_cast<int>(most * kBinsPerBit) + 2;
  std::vector<std::int64_t> in_bin(bins, 0);
  for (std::int64_t b = 0; b < count; ++b) {
    const double below = low - log_weight_[b] + rate * scratch.nearest[b];
    exponent[b] = below;
    if (below < most) ++in_bin[static_cast<int>(std::max(below, 0.0) * kBinsPerBit)];
  }
  // Those beyond `most`, however many, come to half of what may be left out.
  double left_out = 0.5;
  double cut = most;
  for (int bin = bins - 1; bin > 0; --bin) {
    left_out += static_cast<double>(in_bin[bin]) * std::exp2(bits_ - bin / kBinsPerBit);
    if (left_out > 1) break;
    cut = bin / kBinsPerBit;
  }
  // For narrower bandwidths, by the block that every point is near: what is beyond it by so much at the
  // second rate is so at any larger one.
  double beyond = 0;
  if (rates_.size() > 1) beyond = reach + (bits_ + std::log2(total_ / reach_weight)) / rates_[1];

  blocks.clear();
  for (std::int64_t b = 0; b < count; ++b) {
    if (exponent[b] < cut || scratch.nearest[b] <= beyond) blocks.push_back(b);
  }
}

}  // namespace fastgen::cpu
