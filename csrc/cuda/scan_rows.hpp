// One pass over all rows: a hash and the largest magnitude of every row, sums and extremes of every
// column; and what follows from them without looking at a row again.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// Magnitudes are non-negative float64 numbers as bits, which have the numbers' order; their exponents
// are counted by kExponents bins.
using MagnitudeBits = unsigned long long;
constexpr int kExponents = 2048;

// Columns are added up by blocks of rows that n alone decides, then block by block.
std::int64_t scan_block_rows(std::int64_t n);

struct Scan {
  DeviceBuffer<unsigned long long> hashes;  // [n], not 0; -0 counts as +0
  DeviceBuffer<MagnitudeBits> peaks;        // [n]
  DeviceBuffer<std::int32_t> leaders;       // [n] first row with this row's hash
  DeviceBuffer<double> block_columns;       // [3][blocks][d] scratch
};

Scan allocate_scan(const RowView& rows, const Stream& stream);
// Fills the scan's hashes and peaks, and columns [3][d]: sums, minima, maxima.
void scan_rows(const RowView& rows, Scan& scan, double* columns, const Stream& stream);
// The columns once more, without rows whose peak is at least `limit`.
void scan_columns(const RowView& rows, Scan& scan, MagnitudeBits limit, double* columns,
                  const Stream& stream);

// bins[e] += rows whose peak is not 0 and has the biased exponent e.
void count_exponents(const Scan& scan, unsigned* bins, const Stream& stream);
// Appends rows whose peak is at least `limit`, in any order, at most `capacity`.
void list_peaks(const Scan& scan, MagnitudeBits limit, std::int32_t* list, unsigned capacity,
                unsigned* count, const Stream& stream);

// Fills the scan's leaders; *repeated += rows that are not their own leader.
void find_leaders(Scan& scan, unsigned* repeated, const Stream& stream);

}  // namespace fastgen::cuda
