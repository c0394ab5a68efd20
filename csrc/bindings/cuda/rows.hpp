// Rows on a device as Python holds them.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "cuda/rows.hpp"

namespace fastgen::bindings {

namespace py = pybind11;

// What the rows were made of stays alive with them: the caller's array, or the rows they are part of.
class DeviceRows {
 public:
  DeviceRows(cuda::Rows rows, py::object owner)
      : rows_(std::move(rows)), owner_(std::move(owner)) {}

  const cuda::Rows& rows() const { return rows_; }
  const RowView& view() const { return rows_.view(); }
  const cuda::Stream& stream() const { return rows_.stream(); }

 private:
  cuda::Rows rows_;
  py::object owner_;
};

}  // namespace fastgen::bindings
