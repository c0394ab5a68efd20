// The density engine: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "cpu/density.hpp"
#include "cpu/dispatch.hpp"

namespace fastgen::bindings {

namespace {

cpu::DensityPath parse_path(const std::string& name) {
  if (name == "auto") return cpu::DensityPath::automatic;
  if (name == "direct") return cpu::DensityPath::direct;
  if (name == "ordered") return cpu::DensityPath::ordered;
  FASTGEN_CHECK(name == "tiles");
  return cpu::DensityPath::tiles;
}

class LogSums {
 public:
  LogSums(const py::array& points, const py::array& samples, const std::vector<double>& bandwidths,
          const py::object& weights, bool leave_one_out, const std::string& path,
          const std::string& isa, int threads)
      : points_(points),
        samples_(samples),
        weights_(weights),
        bandwidths_(static_cast<py::ssize_t>(bandwidths.size())),
        engine_(row_view(points), row_view(samples), bandwidths,
                weights.is_none() ? nullptr
                                  : contiguous<double>(weights.cast<py::array>(), samples.shape(0)),
                leave_one_out, parse_path(path), cpu::select_kernels(isa), threads) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  bool too_narrow() const { return engine_.too_narrow(); }
  py::dict finish() const {
    py::array_t<double> log_sums({points_.shape(0), bandwidths_});
    py::array_t<std::int64_t> dominated(bandwidths_);
    engine_.log_sums(log_sums.mutable_data());
    engine_.dominated(dominated.mutable_data());
    py::dict result;
    result["log_sums"] = log_sums;
    result["dominated"] = dominated;
    return result;
  }

 private:
  py::array points_, samples_;
  py::object weights_;
  py::ssize_t bandwidths_;
  cpu::LogSums engine_;
};

}  // namespace

void register_density(py::module_& m) {
  py::class_<LogSums>(m, "LogSums")
      .def(py::init<const py::array&, const py::array&, const std::vector<double>&,
                    const py::object&, bool, const std::string&, const std::string&, int>(),
           py::arg("points").noconvert(), py::arg("samples").noconvert(), py::arg("bandwidths"),
           py::kw_only(), py::arg("weights"), py::arg("leave_one_out"), py::arg("path"),
           py::arg("isa"), py::arg("threads"))
      .def("advance", &LogSums::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &LogSums::finish)
      .def_property_readonly("too_narrow", &LogSums::too_narrow);
}

}  // namespace fastgen::bindings
