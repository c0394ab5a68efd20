// Upper bounds on the k-th smallest squared distance of every row, from a sample of columns.
#pragma once

#include <cstdint>

#include "cuda/certificate.cuh"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

constexpr std::int64_t kMostSample = 1024;
constexpr std::int64_t kMostSampleRank = 256;

struct SampleJob {
  SideView x, y;
  Product product;
  bool self;                      // a row does not count itself
  std::int64_t x_begin, x_end;    // slots
  std::int64_t y_begin, columns;  // sampled evenly from [y_begin, y_begin + columns)
  std::int64_t size;              // of the sample, at most kMostSample
  std::int64_t k;                 // at most size
};

// Lowers reach[slot] for slots [x_begin, x_end). Scratch is allocated and freed in stream order.
void sample_reach(const SampleJob& job, float* reach, const Stream& stream);

}  // namespace fastgen::cuda
