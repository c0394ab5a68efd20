// The sum engine on a device: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/cuda/rows.hpp"
#include "bindings/sums.hpp"
#include "cuda/kernel_sums.hpp"

namespace fastgen::bindings {

namespace {

bool on_host(const py::object& rows) { return py::isinstance<py::array>(rows); }

RowView view_of(const py::object& rows) {
  return on_host(rows) ? row_view(rows.cast<py::array>()) : rows.cast<DeviceRows&>().view();
}

// Rows are on the stream's device, or NumPy arrays.
class DeviceSumEngine {
 public:
  DeviceSumEngine(py::object x, py::object y, const KernelTuples& kernels, py::object subsets,
                  py::object labels, bool within, bool normalise, bool float64,
                  const std::pair<int, int>& share, std::int64_t memory, const cuda::Stream& stream)
      : x_(std::move(x)),
        y_(std::move(y)),
        subsets_(std::move(subsets)),
        labels_(std::move(labels)),
        kernels_(kernels.size()),
        rows_{view_of(x_), y_.is_none() ? RowView{} : view_of(y_)},
        sizes_(parse_subsets(subsets_, rows_[0].n, rows_[1].n)),
        engine_(rows_[0], y_.is_none() ? nullptr : &rows_[1], parse_kernels(kernels), sizes_,
                parse_labels(labels_, rows_[0].n + rows_[1].n),
                static_cast<int>(label_count(labels_)),
                cuda::SumOptions{within, normalise, float64, share.first, share.second, memory,
                                 on_host(x_), on_host(y_)},
                stream) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  bool overflow() const { return engine_.overflow(); }
  bool float64() const { return engine_.float64(); }
  py::tuple zero_rows() const { return py::make_tuple(engine_.zero_row(0), engine_.zero_row(1)); }
  py::list finish() const {
    return sum_results(engine_, kernels_, y_.is_none() ? 1 : 2, sizes_, label_count(labels_));
  }
  py::array_t<std::int64_t> limbs() const {
    const std::vector<cuda::Limb>& limbs = engine_.limbs();
    py::array_t<std::int64_t> out(static_cast<py::ssize_t>(limbs.size()));
    std::transform(limbs.begin(), limbs.end(), out.mutable_data(),
                   [](cuda::Limb limb) { return static_cast<std::int64_t>(limb); });
    return out;
  }
  void set_limbs(const py::array& limbs) {
    engine_.set_limbs(contiguous<std::int64_t>(limbs, limbs.size()), limbs.size());
  }

 private:
  py::object x_, y_, subsets_, labels_;
  std::size_t kernels_;
  RowView rows_[2];
  SumSubsets sizes_;
  cuda::KernelSums engine_;
};

}  // namespace

void register_sums(py::module_& m) {
  py::class_<DeviceSumEngine>(m, "KernelSums", py::module_local())
      .def(py::init<py::object, py::object, const KernelTuples&, py::object, py::object, bool, bool,
                    bool, const std::pair<int, int>&, std::int64_t, const cuda::Stream&>(),
           py::arg("x"), py::arg("y"), py::arg("kernels"), py::kw_only(), py::arg("subsets"),
           py::arg("labels"), py::arg("within"), py::arg("normalise"), py::arg("float64"),
           py::arg("share") = std::pair<int, int>(0, 1), py::arg("memory") = 0, py::arg("stream"))
      .def("advance", &DeviceSumEngine::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &DeviceSumEngine::finish)
      // What shares of one problem have found, to be added up and given to one of them.
      .def("limbs", &DeviceSumEngine::limbs)
      .def("set_limbs", &DeviceSumEngine::set_limbs, py::arg("limbs").noconvert())
      .def_property_readonly("overflow", &DeviceSumEngine::overflow)
      .def_property_readonly("float64", &DeviceSumEngine::float64)
      .def_property_readonly("zero_rows", &DeviceSumEngine::zero_rows);
}

}  // namespace fastgen::bindings
