// Plain constants and structs of the density engines, for the CPU's (cpu/log_sum_kernels.hpp says why no
// function is here) and a device's.
#pragma once

namespace fastgen {

// A rate stands for exp(-rate ln 2 |x - y|^2); that of the bandwidth 1 is half of log2 e.
constexpr double kLn2 = 0.69314718055994531, kHalfLog2E = 0.72134752044448170;

// Bandwidths that may share one exponential, each the square of the one before. Its error doubles
// with every square: 2^-22.5 becomes 2^-19.5 (2^-18.7 from a GPU's 1.25 2^-22).
constexpr int kChain = 4;

// A group of bandwidths that share an exponential: rates rate, 2 rate, ...
struct RateGroup {
  double rate;
  int count;  // up to kChain
};

}  // namespace fastgen
