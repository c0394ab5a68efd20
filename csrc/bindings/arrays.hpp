// NumPy arrays as row views. Python validates; what is checked here would corrupt memory.
#pragma once

#include <pybind11/numpy.h>

#include "common/check.hpp"
#include "common/rows.hpp"

namespace fastgen::bindings {

namespace py = pybind11;

inline RowView row_view(const py::array& x) {
  FASTGEN_CHECK(x.ndim() == 2);
  const char kind = x.dtype().kind();
  const auto size = x.itemsize();
  FASTGEN_CHECK(kind == 'f' && (size == 2 || size == 4 || size == 8));
  FASTGEN_CHECK(x.shape(1) <= 1 || x.strides(1) == size);
  RowView view;
  view.data = static_cast<const unsigned char*>(x.data());
  view.dtype = size == 2 ? DType::float16 : size == 4 ? DType::float32 : DType::float64;
  view.n = x.shape(0);
  view.d = x.shape(1);
  view.row_stride = x.strides(0);
  return view;
}

// A float64 or int64 C-contiguous array, as Python made it.
template <class T>
const T* contiguous(const py::array& x, std::int64_t size) {
  FASTGEN_CHECK(py::isinstance<py::array_t<T>>(x));
  FASTGEN_CHECK((x.flags() & py::array::c_style) != 0 && x.size() == size);
  return static_cast<const T*>(x.data());
}

}  // namespace fastgen::bindings
