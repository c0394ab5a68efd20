// Rows on their way to int8: centred, rotated, quantised, with the bounds that go with it.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rotation.hpp"
#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// The most features whose products of int8 an int32 holds: 133,000 x 127^2; a power of two below.
constexpr std::int64_t kMaxQuantisedFeatures = 131072;

// Features of a quantised row: padded with zeros to whole slices of a tile.
std::int64_t quantised_depth(std::int64_t d);

// What turns rows of d features into int8; device pointers, by slot. prepared.hpp defines the results.
struct QuantiseTask {
  RowView rows;
  const std::int32_t* first_row;       // -1: padding
  const std::int32_t* centre_of_tile;  // [slots / kTileRows] into `centres`; -1: quantised to zeros
  const double* centres;               // [centres, d]
  const std::uint32_t* flips;  // [rotation depth / 32] bits by feature: 1 for a negative sign
  double unit;                 // exact power of two
  std::int64_t slots;
  // Null: not wanted. `high` and what follows it go together, and `low` and what follows it.
  std::int8_t* high;
  double *scale, *magnitude, *error, *square;
  std::int8_t* low;
  double *fine_magnitude, *fine_error, *fine_low;
};

// Bits by feature of the signs of a rotation.
std::vector<std::uint32_t> rotation_flips(const Rotation& rotation);

// A row's bits do not depend on what is wanted of it.
void quantise_rows(const QuantiseTask& task, const Rotation& rotation, const Stream& stream);

}  // namespace fastgen::cuda
