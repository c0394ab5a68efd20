// The sum engine: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bindings/sums.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/kernel_sums.hpp"

namespace fastgen::bindings {

namespace {

class SumEngine {
 public:
  SumEngine(const py::array& x, const py::object& y, const KernelTuples& kernels,
            const py::object& subsets, const py::object& labels, bool within, bool normalise,
            bool float64, int block, const std::string& isa, int threads)
      : x_(x),
        y_(y),
        subsets_(subsets),
        labels_(labels),
        kernels_(kernels.size()),
        rows_{row_view(x), y.is_none() ? RowView{} : row_view(y.cast<py::array>())},
        sizes_(parse_subsets(subsets, rows_[0].n, rows_[1].n)),
        engine_(
            rows_[0], y.is_none() ? nullptr : &rows_[1], parse_kernels(kernels), sizes_,
            parse_labels(labels, rows_[0].n + rows_[1].n), static_cast<int>(label_count(labels)),
            cpu::SumOptions{within, normalise, float64, block, threads}, cpu::select_kernels(isa)) {
  }

  double advance(double seconds) { return engine_.advance(seconds); }
  bool overflow() const { return engine_.overflow(); }
  bool float64() const { return engine_.float64(); }
  py::tuple zero_rows() const { return py::make_tuple(engine_.zero_row(0), engine_.zero_row(1)); }
  py::list finish() const {
    return sum_results(engine_, kernels_, y_.is_none() ? 1 : 2, sizes_, label_count(labels_));
  }

 private:
  py::array x_;
  py::object y_, subsets_, labels_;
  std::size_t kernels_;
  RowView rows_[2];
  SumSubsets sizes_;
  cpu::KernelSums engine_;
};

}  // namespace

void register_sums(py::module_& m) {
  py::class_<SumEngine>(m, "KernelSums")
      .def(py::init<const py::array&, const py::object&, const KernelTuples&, const py::object&,
                    const py::object&, bool, bool, bool, int, const std::string&, int>(),
           py::arg("x").noconvert(), py::arg("y"), py::arg("kernels"), py::kw_only(),
           py::arg("subsets"), py::arg("labels"), py::arg("within"), py::arg("normalise"),
           py::arg("float64"), py::arg("block"), py::arg("isa"), py::arg("threads"))
      .def("advance", &SumEngine::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &SumEngine::finish)
      .def_property_readonly("overflow", &SumEngine::overflow)
      .def_property_readonly("float64", &SumEngine::float64)
      .def_property_readonly("zero_rows", &SumEngine::zero_rows);
}

}  // namespace fastgen::bindings
