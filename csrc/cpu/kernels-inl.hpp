// Everything one instruction set offers, gathered in a table. A target_*.cpp defines FASTGEN_TARGET
// (the namespace and the name) and at most one FASTGEN_VECTOR_* before including this file.
//
// No standard library here: its inline functions would become weak symbols compiled for this
// target's instructions, and the linker might hand them to code that runs on any CPU.

#include <cstdint>

#if defined(FASTGEN_VECTOR_AVX512) || defined(FASTGEN_VECTOR_AVX2) || defined(FASTGEN_VECTOR_SSE2)
#include <immintrin.h>
#endif

#include "cpu/kernels.hpp"

#define FASTGEN_STRING_(x) #x
#define FASTGEN_STRING(x) FASTGEN_STRING_(x)

namespace fastgen::cpu::FASTGEN_TARGET {
namespace {

// Each builds on those before it.
// clang-format off
#include "cpu/vector-inl.hpp"
#include "cpu/product-inl.hpp"
#include "cpu/join-inl.hpp"
#include "cpu/rows-inl.hpp"
#include "cpu/lanes-inl.hpp"
#include "cpu/tile-inl.hpp"
#include "cpu/sums-inl.hpp"
#include "cpu/log_sums-inl.hpp"
#include "cpu/far_field-inl.hpp"
#include "cpu/scatter-inl.hpp"
#include "cpu/peak-inl.hpp"
// clang-format on

static_assert(kStripRows % Int8Product::kRows == 0 && kStripRows % FloatProduct::kRows == 0);
static_assert(kMaxBlockColumns % Int8Product::kPanel == 0 &&
              kMaxBlockColumns % FloatProduct::kPanel == 0);
static_assert(Int8Product::kPanel % kLanes == 0);
static_assert(kTile % kTilePanel<float> == 0 && kTile % kTilePanel<double> == 0 &&
              kTilePanel<float> % kTileRows == 0 && kTilePanel<double> % kTileRows == 0 &&
              kTileRows <= 8 && kTileDepth % kFineDepth == 0);
static_assert(kScatterTile % kTilePanel<double> == 0 && 8 % kTileRows == 0);
static_assert(kSpan % 16 == 0 && 16 % kLanes == 0 && kTile % 16 == 0 && kTile <= kSpan &&
              kChain == 4);

template <class Real>
constexpr SumKernels kSumKernels = {
    kTilePanel<Real>,
    pack_block<Real>,
    multiply_tile<Real, kTileDepth>,
    multiply_tile<Real, kFineDepth>,
    packed_norms<Real>,
    expand_squares<Real>,
    sum_tile<Real>,
    row_squares<Real>,
    along_centre<Real>,
};

template <class Real>
constexpr LogSumKernels kLogSumKernels = {
    tracks_largest, direct_sums<Real>, far_sums<Real>, row_differences<Real>, accumulate<Real>,
};

constexpr Kernels kKernels = {
    FASTGEN_STRING(FASTGEN_TARGET),
    kInt8Panel,
    kFloatPanel,
    static_cast<int>(sizeof(Int8Row)),
    Int8Product::panel_bytes,
    FloatProduct::panel_bytes,
    to_double,
    sq_distance,
    centred_dot,
    quantised_dot,
    scan_row,
    equal_rows,
    largest_magnitude,
    quantise,
    centre_to_float,
    pack_int8,
    sizeof(Int8Row) == 1 ? nullptr : load_rows_int8,
    pack_float,
    emit<Int8Product>,
    emit<FloatProduct>,
    balls<Int8Product>,
    balls<FloatProduct>,
    upper<Int8Product>,
    upper<FloatProduct>,
    kSumKernels<float>,
    kSumKernels<double>,
    kLogSumKernels<float>,
    kLogSumKernels<double>,
    {kTilePanel<double>, add_columns, pack_columns, multiply_scatter},
    peak_int8,
    peak_float,
};

}  // namespace

const Kernels& kernels() { return kKernels; }

}  // namespace fastgen::cpu::FASTGEN_TARGET
