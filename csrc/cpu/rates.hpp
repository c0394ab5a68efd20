// Operations per second, for the benchmarks: the machine's peak and what the tile reaches.
#pragma once

#include <cstdint>
#include <string>

#include "cpu/kernels.hpp"

namespace fastgen::cpu {

struct Rates {
  double int8, float32;  // operations per second over all threads; a multiply-add is two
};

// Register-only loops on `threads` threads at once, about `seconds` each.
Rates measure_peak(const Kernels& kernels, int threads, double seconds);

// The walk with its epilogue over n x n pairs of d features (path "int8" or "float32"), with
// thresholds that emit nothing; operations per second.
double measure_tile(const std::string& isa, const std::string& path, std::int64_t n, std::int64_t d,
                    int threads);

}  // namespace fastgen::cpu
