// What one instruction set offers: a table of functions on plain data. Every translation unit named
// target_*.cpp fills one table from the same sources; dispatch.cpp picks a table once per call.
//
// This header is seen by code compiled for different instruction sets, so it holds declarations and
// plain structs only: an inline function here could be emitted with instructions that the CPU lacks.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "cpu/log_sum_kernels.hpp"
#include "cpu/scatter_kernels.hpp"
#include "cpu/sum_kernels.hpp"

namespace fastgen::cpu {

// Rows of one strip and columns of one packed block: the unit of work of a join kernel.
// 96 is a multiple of every micro-kernel's row count; 384 of every panel width.
constexpr int kStripRows = 96;
constexpr int kMaxBlockColumns = 384;

// A pair that a bound could not rule out. `dot` is the bit pattern of the product: int32 of the
// quantised rows, or float32 on the float path.
struct Hit {
  std::uint16_t row;     // within the strip
  std::uint16_t column;  // within the block
  std::int32_t dot;
};

// Per-row terms of the certificate in the join's scaled units, all float32 (see bounds.hpp).
// The same arrays serve a row in the role of strip row and of block column.
struct Terms {
  const float* scale;      // s
  const float* magnitude;  // a >= |s q|
  const float* error;      // eps >= |z - s q|
  const float* low;        // |z|^2 less the float32 slack
  const float* high;       // |z|^2 plus the float32 slack
};

struct Strip {
  const void* rows;         // operand made by `load_rows_*`, [kStripRows, depth]
  std::int64_t row_stride;  // bytes
  const void* panels;       // operand made by `pack_*`
  std::int64_t depth;       // features, padded to a multiple of 64
  int row_count;
  int column_count;
  // Pairs with column <= row + diagonal are left out: a symmetric tile serves each pair once.
  // Far below -kStripRows where every pair counts.
  std::int64_t diagonal;
  Terms row_terms;
  Terms column_terms;
  void* products;  // scratch, [micro rows, kMaxBlockColumns] of 4 bytes, 64-byte aligned
};

// Emits pairs whose lower bound is <= max(row_threshold, row_weight * column_threshold).
struct EmitStrip {
  Strip strip;
  const float* row_threshold;
  const float* row_weight;
  const float* column_threshold;
  Hit* hits;  // [kStripRows * kMaxBlockColumns]
  int hit_count;
};

// Counts the pairs proven inside balls around rows and columns; emits the undecided ones, none of
// whose memberships has been counted. `inside` bounds are rounded down, `outside` bounds up.
struct BallStrip {
  Strip strip;
  int radii;                      // number of radius sets r
  std::int64_t row_stride;        // between radius sets in the row arrays
  std::int64_t column_stride;     // between radius sets in the column counts
  std::int64_t threshold_stride;  // between radius sets in the column thresholds
  const float* row_inside;        // [r, row_stride]; -inf where there is no ball
  const float* row_outside;
  const float* column_inside;  // [r, threshold_stride]
  const float* column_outside;
  const float* row_reach;  // largest row_outside over the radius sets
  const float* column_reach;
  const std::int32_t* row_copies;  // multiplicity of each distinct row
  const std::int32_t* column_copies;
  std::int32_t* columns_in_row;   // [r, row_stride] counts, added to
  std::int32_t* balls_of_column;  // [r, column_stride]
  std::int32_t* rows_in_column;   // [r, column_stride]
  std::int32_t* balls_of_row;     // [r, row_stride]
  Hit* hits;
  int hit_count;
};

// Writes the upper bounds of a strip's squared distances, [kStripRows, kMaxBlockColumns] float32.
struct UpperStrip {
  Strip strip;
  float* upper;
};

// One row on its way to int8: centre, rotate, quantise.
struct QuantiseRow {
  const void* row;
  DType dtype;
  std::int64_t d;
  std::int64_t depth;
  const double* centre;        // [d]
  const float* signs;          // [depth], +-1 / sqrt(block)
  const std::int32_t* source;  // [depth] feature at each place of the rotation's input, or null
  std::int64_t block;          // Walsh-Hadamard block, a power of two that divides depth
  double unit;                 // exact power of two: units of the input per unit of z
  double* centred;             // scratch, [d]
  float* rotated;              // scratch, [depth]
  std::uint8_t* quantised;     // out, [depth], q + 128
  // Out, in units of z:
  double scale, magnitude, error, square;
};

struct Kernels {
  const char* name;
  int int8_panel;  // columns per packed panel; divides kMaxBlockColumns
  int float_panel;
  int int8_item;  // bytes per feature of an int8-path operand
  // Bytes of one packed panel.
  std::int64_t (*int8_panel_bytes)(std::int64_t depth);
  std::int64_t (*float_panel_bytes)(std::int64_t depth);

  // Row as float64; float16 and float32 convert exactly.
  void (*to_double)(const void* row, DType dtype, std::int64_t d, double* out);
  // The canonical squared distance (csrc/README.md): the only distance that decides anything.
  double (*sq_distance)(const double* x, const void* y, DType dtype, std::int64_t d);
  // sum (x - c) y in an order fixed by d.
  double (*centred_dot)(const double* x, const double* centre, const double* y, std::int64_t d);
  // sum (q - 128) y in an order fixed by depth; `q` as stored.
  double (*quantised_dot)(const std::uint8_t* q, const double* y, std::int64_t depth);
  // Adds a row to column sums and extremes, each [d]; returns a 64-bit hash of the row's values
  // (-0 hashes as +0).
  std::uint64_t (*scan_row)(const void* row, DType dtype, std::int64_t d, double* sum, double* low,
                            double* high);
  bool (*equal_rows)(const void* x, const void* y, DType dtype, std::int64_t d);
  // Largest magnitude of a row; NaN or infinity if the row has any.
  double (*largest_magnitude)(const void* row, DType dtype, std::int64_t d);

  void (*quantise)(QuantiseRow*);

  // out = float32((x - c) unit), the float path's operand.
  void (*centre_to_float)(const double* x, const double* centre, double unit, std::int64_t d,
                          float* out);

  // One panel from `columns` <= int8_panel rows; the missing ones become zero columns.
  void (*pack_int8)(const std::uint8_t* const* q, int columns, std::int64_t depth, void* out);
  // Strip operand [rows, depth] of int8_row_bytes each; null: the stored rows are used in place.
  void (*load_rows_int8)(const std::uint8_t* q, std::int64_t stride, int rows, std::int64_t depth,
                         void* out);
  void (*pack_float)(const float* z, std::int64_t stride, int columns, std::int64_t depth,
                     void* out);
  void (*emit_int8)(EmitStrip*);
  void (*emit_float)(EmitStrip*);
  void (*balls_int8)(BallStrip*);
  void (*balls_float)(BallStrip*);
  void (*upper_int8)(UpperStrip*);
  void (*upper_float)(UpperStrip*);

  SumKernels sums_float, sums_double;
  LogSumKernels log_sums_float, log_sums_double;
  ScatterKernels scatter;

  // Register-only loops for the benchmarks: operations done by `rounds` rounds.
  std::int64_t (*peak_int8)(std::int64_t rounds);
  std::int64_t (*peak_float)(std::int64_t rounds);
};

}  // namespace fastgen::cpu
