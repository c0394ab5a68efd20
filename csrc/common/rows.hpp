// A borrowed view on the rows of a feature matrix. Columns are contiguous, rows may have any stride.
#pragma once

#include <cstdint>

namespace fastgen {

enum class DType : int { float16, float32, float64 };

constexpr std::int64_t item_size(DType dtype) {
  return dtype == DType::float16 ? 2 : dtype == DType::float32 ? 4 : 8;
}

struct RowView {
  const unsigned char* data;  // first element of row 0
  DType dtype;
  std::int64_t n;           // rows
  std::int64_t d;           // features
  std::int64_t row_stride;  // bytes from one row to the next; may be negative

  std::int64_t row_bytes() const { return d * item_size(dtype); }
  const void* row(std::int64_t i) const { return data + i * row_stride; }
};

}  // namespace fastgen
