// Matrices in device memory.
#pragma once

#include "cuda/runtime.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

// Laid out as the matrix has them.
struct DeviceMatrix {
  DeviceMatrix(const Matrix& matrix, const cuda::Stream& stream)
      : bytes(cuda::uploaded(matrix.bytes, stream, "rows")), view(matrix.view()) {
    view.data = bytes.data() + (view.data - matrix.bytes.data());
  }
  cuda::DeviceBuffer<unsigned char> bytes;
  RowView view;
};

}  // namespace fastgen::test
