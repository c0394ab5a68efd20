// What one instruction set offers to log-density: sums of exp(-|x - y|^2 / 2 h^2) over blocks of samples.
// Plain declarations, for the reason given in kernels.hpp.
//
// A rate stands for a bandwidth: the kernel is 2^(-rate |x - y|^2) in the engine's units.
#pragma once

#include <cstdint>

#include "common/rates.hpp"
#include "common/rows.hpp"

namespace fastgen::cpu {

// Samples of one block: [d][kSpan], feature by feature, with their weights; what is missing in the last
// block weighs nothing. 512 samples of 16 features fill 32 KB of L1.
constexpr int kSpan = 512;
// Points of one block, and those whose squared distances are kept at a time.
constexpr int kPoints = 256;
constexpr int kRowsAtOnce = 4;
// Features up to which differences are taken; products are cheaper above, and their error smaller
// than it is below.
constexpr int kDirectFeatures = 16;
// Partial sums of one row and bandwidth.
constexpr int kPartials = 8;
// A squared distance that stands for no sample at all: the row itself, where it is left out.
constexpr double kNoSample = 1e300;

struct SampleBlock {
  const void* columns;  // [d, kSpan]
  const void* weights;  // [kSpan]
};

// One bandwidth, and no anchor: sums of 2^(-rate |x - y|^2) themselves.
struct DirectSums {
  const void* rows;  // [row_count, d]
  int row_count;
  int d;
  const SampleBlock* blocks;  // few: their sum is made in the samples' own precision
  int block_count;
  double rate;       // rate |x - y|^2 < 2^80
  double* partials;  // [row_count, kPartials], added to
  double* largest;   // [row_count] largest term, raised; left alone unless tracks_largest(d)
};

// The highest degree of a polynomial in far_field.hpp; 20 gives 231 coefficients in 2 dimensions.
constexpr int kMostDegree = 20;
// Coefficient of u^i v^j, i + j <= kMostDegree, in 2 dimensions; of u^j in 1, where i is 0.
constexpr int far_term(int i, int j) { return i * (kMostDegree + 1) - i * (i - 1) / 2 + j; }

// A group of samples as a polynomial.
struct FarGroup {
  double centre[2];
  const void* coefficients;
  int degree;
};

// Adds what groups of samples come to at every point of a block.
struct FarSums {
  const void* points;  // [d, kPoints]; those beyond `count` may be anything finite
  int count;
  int d;         // 1 or 2
  double scale;  // u = scale (x - centre): 1 / h in the engine's units
  const FarGroup* groups;
  int group_count;
  double* sums;  // [kPoints], added to
};

// Squared distances in float64 of up to kRowsAtOnce rows to one block of samples.
struct Differences {
  const double* rows;  // [row_count, d]
  int row_count;
  int d;
  const void* columns;  // [d, kSpan]
  double* squares;      // out, [kRowsAtOnce, kSpan]
};

// What is known of one row: sums of w 2^(-rate (|x - y|^2 - anchor)).
struct AnchoredSums {
  double anchor;     // the least |x - y|^2 so far; infinite before the first
  double* partials;  // [bandwidths, kPartials]
  double* largest;   // [bandwidths] largest term
  int place = 0;     // of the anchor's sample in the last block that lowered it
};

// Adds a row's squared distances to its sums.
struct Accumulation {
  const double* squares;  // [count]
  int count;              // a multiple of 16, up to kSpan
  const void* weights;    // [count]; null: all 1
  const RateGroup* groups;
  int group_count;
  double reach;  // terms of 2^-reach of the anchor's and less need not be added
  AnchoredSums* sums;
};

struct LogSumKernels {
  // Whether DirectSums::largest is set: not in 1 and 2 dimensions, where it would cost a tenth.
  bool (*tracks_largest)(int d);
  void (*direct)(const DirectSums*);
  void (*far)(const FarSums*);
  void (*differences)(const Differences*);
  void (*accumulate)(const Accumulation*);
};

}  // namespace fastgen::cpu
