// What the density engine is asked on a device, and what its kernels need of it: one problem, three ways to
// add up (plain_sums.hpp, anchored_sums.hpp, tile_sums.hpp), each for some points at a time.
//
// Results of a point depend on that point, the samples and the bandwidths alone: samples are divided into
// parts by their number, every part is added up in one order, and parts are added in their order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/bandwidths.hpp"
#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

struct DensityProblem {
  RowView points, samples;
  const double* weights;  // [samples], on the device, the largest 1; null: all 1
  double lightest, total_weight;
  // Point i is sample first + i and left out of its own sum; kNotLeftOut where no point is.
  std::int64_t first;
  bool float64;  // exponentials in float64
  // Results, on the device.
  std::int64_t bandwidths;
  double* logs;                   // [points, bandwidths], in the caller's order
  unsigned long long* dominated;  // [bandwidths] points of which one sample has more than half
  // [points, bandwidths] what that sample has of the sum, 0 where none has more than half; null: not asked for.
  double* shares = nullptr;

  // Powers of two below the nearest sample's term from which a term need not be added: 2^34 of them come
  // to 2^-30 of the sum, for float64 to 2^-50.
  double reach() const { return (float64 ? 84.0 : 64.0) - std::log2(lightest); }
};

// So far below 0 that no point's own number is one of a sample.
constexpr std::int64_t kNotLeftOut = -(std::int64_t{1} << 40);

// Bandwidths in the engine's units: z = unit x, and column[b] is the caller's place of the b-th rate.
struct DensityRates {
  double unit;
  std::vector<double> rates;  // ascending
  std::vector<std::int64_t> column;
};

// Some points: those numbered in `rows` on the device, or [begin, begin + count) where that is null.
struct PointList {
  const std::int32_t* rows;
  std::int64_t begin, count;
};

// Groups of rates that one launch deals with.
constexpr int kMostGroups = 4, kMostRates = kMostGroups * kChain;
struct LaunchRates {
  RateGroup groups[kMostGroups];
  int group_count, rate_count;
  double rates[kMostRates];         // of all groups, one after another
  std::int64_t column[kMostRates];  // the caller's places
};

// Up to `most_groups` groups from place `group` on, whose first rate has place `rate`; moves both on.
inline LaunchRates launch_rates(const std::vector<RateGroup>& groups, const DensityRates& rates,
                                int most_groups, std::size_t& group, std::size_t& rate) {
  LaunchRates launch{};
  for (; launch.group_count < most_groups && group < groups.size(); ++group) {
    launch.groups[launch.group_count++] = groups[group];
    for (int k = 0; k < groups[group].count; ++k, ++rate) {
      launch.rates[launch.rate_count] = rates.rates[rate];
      launch.column[launch.rate_count++] = rates.column[rate];
    }
  }
  return launch;
}

// Samples are added up by parts of so many, a multiple of 512: about 128 parts where there are many, so
// that few points fill a device too.
inline std::int64_t part_rows(std::int64_t samples) {
  return std::max<std::int64_t>(1024, blocks_for(samples, 128 * 512) * 512);
}

// Bytes of sums by part that are on the device at a time.
constexpr std::int64_t kPartSumBytes = std::int64_t{128} << 20;

}  // namespace fastgen::cuda
