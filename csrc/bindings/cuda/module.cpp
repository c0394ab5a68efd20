// The module fastgen._cuda, or the same bindings over the host emulator: one register_* function per
// file. FASTGEN_CUDA_MODULE is its name.
#include <pybind11/pybind11.h>

#include <exception>

#include "cuda/runtime.hpp"

namespace py = pybind11;

namespace fastgen::bindings {
void register_rows(py::module_& m);
void register_joins(py::module_& m);
void register_sums(py::module_& m);
void register_density(py::module_& m);
}  // namespace fastgen::bindings

PYBIND11_MODULE(FASTGEN_CUDA_MODULE, m) {
  // Every other std::runtime_error is Python's RuntimeError already.
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const fastgen::cuda::OutOfMemory& out_of_memory) {
      PyErr_SetString(PyExc_MemoryError, out_of_memory.what());
    }
  });
  fastgen::bindings::register_rows(m);
  fastgen::bindings::register_joins(m);
  fastgen::bindings::register_sums(m);
  fastgen::bindings::register_density(m);
}
