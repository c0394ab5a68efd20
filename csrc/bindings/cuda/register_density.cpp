// The density engine on a device: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/cuda/rows.hpp"
#include "cuda/events.hpp"
#include "cuda/log_sums.hpp"

namespace fastgen::bindings {

namespace {

// "ordered" pays on CPUs: here it is direct.
cuda::DensityPath parse_path(const std::string& name) {
  if (name == "auto") return cuda::DensityPath::automatic;
  if (name == "direct" || name == "ordered") return cuda::DensityPath::direct;
  FASTGEN_CHECK(name == "tiles");
  return cuda::DensityPath::tiles;
}

// Holds the rows' Python objects while it reads them; weights are copied at once.
class DeviceLogSums {
 public:
  DeviceLogSums(py::object points, py::object samples, const std::vector<double>& bandwidths,
                const py::object& weights, bool leave_one_out, const std::string& path,
                std::int64_t first, bool shares)
      : points_(std::move(points)),
        samples_(std::move(samples)),
        count_(rows(points_).view().n),
        bandwidths_(static_cast<py::ssize_t>(bandwidths.size())),
        shares_(shares),
        engine_(rows(points_).view(), rows(samples_).view(), bandwidths,
                weights.is_none()
                    ? nullptr
                    : contiguous<double>(weights.cast<py::array>(), rows(samples_).view().n),
                leave_one_out, first, parse_path(path), rows(samples_).stream()) {
    if (shares_) engine_.want_shares();
    cuda::wait_for(rows(samples_).stream(), rows(points_).stream());
  }
  // Whoever changes the points next does so after what is under way here.
  ~DeviceLogSums() {
    try {
      cuda::wait_for(rows(points_).stream(), rows(samples_).stream());
    } catch (const std::exception&) {  // the device is lost, and with it what was under way
    }
  }
  DeviceLogSums(const DeviceLogSums&) = delete;
  DeviceLogSums& operator=(const DeviceLogSums&) = delete;

  double advance(double seconds) { return engine_.advance(seconds); }
  bool too_narrow() const { return engine_.too_narrow(); }
  py::dict finish() const {
    py::array_t<double> log_sums({static_cast<py::ssize_t>(count_), bandwidths_});
    py::array_t<std::int64_t> dominated(bandwidths_);
    py::array_t<double> shares({static_cast<py::ssize_t>(shares_ ? count_ : 0), bandwidths_});
    double* sums = log_sums.mutable_data();
    double* of_largest = shares.mutable_data();
    std::int64_t* counts = dominated.mutable_data();
    {
      const py::gil_scoped_release release;  // the arrays are ours
      engine_.log_sums(sums);
      engine_.dominated(counts);
      if (shares_) engine_.shares(of_largest);
    }
    py::dict result;
    result["log_sums"] = log_sums;
    result["dominated"] = dominated;
    if (shares_) result["shares"] = shares;
    return result;
  }

 private:
  static const DeviceRows& rows(const py::object& x) { return x.cast<DeviceRows&>(); }

  py::object points_, samples_;
  std::int64_t count_;
  py::ssize_t bandwidths_;
  bool shares_;
  cuda::LogSums engine_;
};

}  // namespace

void register_density(py::module_& m) {
  py::class_<DeviceLogSums>(m, "LogSums", py::module_local())
      .def(py::init<py::object, py::object, const std::vector<double>&, const py::object&, bool,
                    const std::string&, std::int64_t, bool>(),
           py::arg("points"), py::arg("samples"), py::arg("bandwidths"), py::kw_only(),
           py::arg("weights"), py::arg("leave_one_out"), py::arg("path"), py::arg("first") = 0,
           py::arg("shares") = false)
      .def("advance", &DeviceLogSums::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &DeviceLogSums::finish)
      .def_property_readonly("too_narrow", &DeviceLogSums::too_narrow);
}

}  // namespace fastgen::bindings
