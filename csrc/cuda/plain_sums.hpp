// Sums of 2^(-rate |x - y|^2) themselves, in float32: one bandwidth, few features.
#pragma once

#include <cstdint>

#include "cuda/density_problem.hpp"

namespace fastgen::cuda {

// Features up to which differences are taken.
constexpr std::int64_t kMostDifferences = 16;

struct PlainSums {
  float rate;
  double unit;
  // Points whose sum says too little are appended, in any order.
  std::int32_t* unsettled;
  unsigned* unsettled_count;
};

// Finds the sums of points [begin, begin + count); enqueued.
void add_plain_sums(const DensityProblem& problem, const PlainSums& sums, std::int64_t begin,
                    std::int64_t count, const Stream& stream);
// Points of which sums by part fit into kPartSumBytes.
std::int64_t most_plain_points(const DensityProblem& problem);

}  // namespace fastgen::cuda
