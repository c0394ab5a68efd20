// Rows on their way to tiles of products: gathered into slots, centred, and packed by slices of 128 bytes.
//
// Packed rows are multiplied by a number of their own in [1, 2), and products divided by both rows'.
// Features that have one value in many rows, the zeros of a ReLU, would otherwise be rounded alike in all
// their products: an error that does not average out. For float32 products a power of two brings every
// row's norm to [2^13, 2^14) before that, and it is stored as hi + lo, float16 numbers: slices of 32
// features, hi before lo. float64 slices have 16 features.
#pragma once

#include <cstdint>

#include "common/sum_terms.hpp"
#include "cuda/runtime.hpp"
#include "cuda/sum_rows.hpp"
#include "cuda/sum_tiles.hpp"

namespace fastgen::cuda {

template <class Real>
constexpr std::int64_t kSliceFeatures = sizeof(Real) == 4 ? 32 : 16;

// Where the rows of slots come from: subset by subset, and the first set before the second.
struct SlotRows {
  SumSet sets[2];
  const std::int32_t* row;  // by slot; -1: padding
  // By slot: the row's place among `rows` of its set, which may be a part of it.
  const std::int32_t* place;
  std::int64_t subset_slots, second_set;
};

// Packs slots [begin, begin + count), those up to count + kSumTile as zeros.
template <class Real>
void pack_slots(const SlotRows& slots, const double* centre, std::int64_t begin, std::int64_t count,
                unsigned char* out, const Stream& stream);

// What products and values need to know of slots [0, count).
template <class Real>
void slot_numbers(const SlotRows& slots, std::int64_t count, Real* unspread, Real* square,
                  Real* along, const Stream& stream);

// The grids of row sums, as exponents of two, for slots [0, count) of every kernel: from bounds on their
// values (term_bound of common/sum_terms.hpp, or a little more).
struct GridTask {
  SlotRows slots;
  std::int64_t count, stride;
  SumData data;
  int sets, kernel_count;
  const SumTerm* terms;
  const SumKernel* kernels;
  std::int16_t* exponent;  // [kernels, stride]
};
void slot_grids(const GridTask& task, const Stream& stream);

// Brings what low limbs have beyond 37 bits to the high ones, so that they stay in [0, 2^37).
void carry_limbs(Limb* high, Limb* low, std::int64_t count, const Stream& stream);

}  // namespace fastgen::cuda
