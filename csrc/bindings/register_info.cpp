// Instruction sets and the rates they reach.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>

#include "cpu/dispatch.hpp"
#include "cpu/rates.hpp"

namespace fastgen::bindings {

namespace py = pybind11;

void register_info(py::module_& m) {
  m.def("instruction_sets", &cpu::instruction_sets);
  m.def(
      "measure_peak",
      [](const std::string& isa, int threads, double seconds) {
        cpu::Rates rates;
        {
          const py::gil_scoped_release release;  // no Python object is touched
          rates = cpu::measure_peak(cpu::select_kernels(isa), threads, seconds);
        }
        py::dict result;
        result["int8"] = rates.int8;
        result["float32"] = rates.float32;
        return result;
      },
      py::arg("isa"), py::arg("threads"), py::arg("seconds"));
  m.def("measure_tile", &cpu::measure_tile, py::arg("isa"), py::arg("path"), py::arg("n"),
        py::arg("d"), py::arg("threads"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace fastgen::bindings
