// Work on rows: checks, conversion, canonical distances of listed pairs, preparation for joins.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "bindings/arrays.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/prepared.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/row_checks.hpp"

namespace fastgen::bindings {

namespace {

py::array_t<float> bfloat16_to_float32(py::capsule capsule) {
  const DLTensor& tensor = tensor_of(capsule);
  FASTGEN_CHECK(tensor.device.device_type == kDLCPU && tensor.ndim == 2);
  FASTGEN_CHECK(tensor.dtype.code == kDLBfloat && tensor.dtype.bits == 16 &&
                tensor.dtype.lanes == 1);
  const std::int64_t n = tensor.shape[0], d = tensor.shape[1];
  const std::int64_t row = tensor.strides ? tensor.strides[0] : d;
  const std::int64_t column = tensor.strides ? tensor.strides[1] : 1;
  py::array_t<float> out({n, d});
  float* values = out.mutable_data();
  const std::uint16_t* data = reinterpret_cast<const std::uint16_t*>(
      static_cast<const unsigned char*>(tensor.data) + tensor.byte_offset);
  const py::gil_scoped_release release;  // the capsule keeps the tensor, `out` is ours
  cpu::widen_bfloat16(data, n, d, row, column, values);
  return out;
}

py::array_t<double> pair_sq_distances(const py::array& x, const py::array& y, const py::array& i,
                                      const py::array& j, const std::string& isa, int threads) {
  const RowView x_rows = row_view(x), y_rows = row_view(y);
  const std::int64_t count = i.size();
  const std::int64_t* x_index = contiguous<std::int64_t>(i, count);
  const std::int64_t* y_index = contiguous<std::int64_t>(j, count);
  py::array_t<double> out(count);
  double* values = out.mutable_data();
  const cpu::Kernels& kernels = cpu::select_kernels(isa);
  const py::gil_scoped_release release;  // the arguments keep the arrays alive
  cpu::pair_sq_distances(x_rows, y_rows, x_index, y_index, count, kernels, threads, values);
  return out;
}

}  // namespace

void register_rows(py::module_& m) {
  m.def(
      "first_bad_row",
      [](const py::array& x, std::int64_t start, std::int64_t stop, double limit, int threads) {
        const RowView rows = row_view(x);
        FASTGEN_CHECK(0 <= start && start <= stop && stop <= rows.n);
        const cpu::Kernels& kernels = cpu::select_kernels(cpu::instruction_sets().front());
        cpu::BadRows bad;
        {
          const py::gil_scoped_release release;  // `x` keeps the rows alive
          bad = cpu::first_bad_rows(rows, start, stop, limit, kernels, threads);
        }
        return py::make_tuple(bad.not_finite, bad.too_large);
      },
      py::arg("x").noconvert(), py::arg("start"), py::arg("stop"), py::arg("limit"),
      py::arg("threads"));
  m.def("bfloat16_to_float32", &bfloat16_to_float32, py::arg("capsule"));
  m.def("pair_sq_distances", &pair_sq_distances, py::arg("x").noconvert(), py::arg("y").noconvert(),
        py::arg("i").noconvert(), py::arg("j").noconvert(), py::arg("isa"), py::arg("threads"));

  py::class_<PreparedRows>(m, "Prepared")
      .def(py::init<const py::array&, const std::string&, const std::string&, int>(),
           py::arg("x").noconvert(), py::arg("path"), py::arg("isa"), py::arg("threads"))
      .def(
          "advance",
          [](PreparedRows& self, double seconds) { return self.rows().advance(seconds); },
          py::arg("seconds"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("path", &PreparedRows::path)
      .def_property_readonly("groups", [](const PreparedRows& self) { return self.rows().slots(); })
      .def_property_readonly("parts",
                             [](const PreparedRows& self) { return self.rows().parts().size(); })
      .def_property_readonly("nbytes",
                             [](const PreparedRows& self) { return self.rows().nbytes(); });
}

}  // namespace fastgen::bindings
