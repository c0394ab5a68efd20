// The module fastgen._core: one register_* function per file.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace fastgen::bindings {
void register_info(py::module_& m);
void register_rows(py::module_& m);
void register_joins(py::module_& m);
void register_sums(py::module_& m);
void register_density(py::module_& m);
void register_moments(py::module_& m);
}  // namespace fastgen::bindings

PYBIND11_MODULE(_core, m) {
  fastgen::bindings::register_info(m);
  fastgen::bindings::register_rows(m);
  fastgen::bindings::register_joins(m);
  fastgen::bindings::register_sums(m);
  fastgen::bindings::register_density(m);
  fastgen::bindings::register_moments(m);
}
