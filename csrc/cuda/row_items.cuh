// Numbers of rows on a device: what an item is widened to, and the choice of a kernel by type.
#pragma once

#include "common/rows.hpp"
#include "cuda/gpu.hpp"

namespace fastgen::cuda {

// float16 and float32 as float, float64 as it is; exact.
__device__ __forceinline__ float number(__half item) { return __half2float(item); }
__device__ __forceinline__ float number(float item) { return item; }
__device__ __forceinline__ double number(double item) { return item; }

template <class Item>
__device__ __forceinline__ const Item* items_of(const RowView& rows, std::int64_t row) {
  return reinterpret_cast<const Item*>(rows.data + row * rows.row_stride);
}

// Calls f with a null pointer to the rows' type of item.
template <class Function>
void with_item(DType dtype, Function f) {
  if (dtype == DType::float16) {
    f(static_cast<const __half*>(nullptr));
  } else if (dtype == DType::float32) {
    f(static_cast<const float*>(nullptr));
  } else {
    f(static_cast<const double*>(nullptr));
  }
}

}  // namespace fastgen::cuda
