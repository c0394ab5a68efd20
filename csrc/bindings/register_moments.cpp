// Streamed moments: begin a piece of work, advance (without the GIL), commit or roll back.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>

#include "bindings/arrays.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/scatter.hpp"

namespace fastgen::bindings {

namespace {

// The engine, and what it reads until the work is over. Calls on one object come one after the other:
// Python sees to that.
class Scatter {
 public:
  Scatter(std::int64_t d, const std::string& isa, int threads)
      : engine_(d, cpu::select_kernels(isa), threads) {}

  void begin_update(const py::array& batch) {
    const RowView rows = row_view(batch);
    FASTGEN_CHECK(rows.d == engine_.d());
    engine_.begin_update(rows);
    source_ = batch;
  }
  void begin_merge(const py::object& other) {
    engine_.begin_merge(other.cast<const Scatter&>().engine_);
    source_ = other;
  }
  void begin_flush(bool means_only) { engine_.begin_flush(means_only); }
  double advance(double seconds) { return engine_.advance(cpu::deadline_after(seconds)); }
  void commit() {
    {
      const py::gil_scoped_release release;  // `source_` keeps the rows alive
      engine_.commit();
    }
    source_ = py::none();
  }
  void rollback() {
    engine_.rollback();
    source_ = py::none();
  }

  std::int64_t count() const { return engine_.count(); }
  std::int64_t waiting() const { return engine_.waiting(); }
  std::int64_t folded() const { return engine_.folded(); }
  py::array_t<double> origin() const { return copied(engine_.origin()); }
  py::array_t<double> shift() const { return copied(engine_.shift()); }
  py::array_t<double> waiting_rows() const {
    return py::array_t<double>({engine_.waiting(), engine_.d()}, engine_.waiting_rows());
  }
  py::array_t<double> scatter(double divisor) const {
    py::array_t<double> out({engine_.d(), engine_.d()});
    double* values = out.mutable_data();
    const py::gil_scoped_release release;  // `out` is ours
    engine_.scatter(divisor, values);
    return out;
  }
  void restore(std::int64_t folded, const py::array& origin, const py::array& shift,
               const py::object& scatter, const py::array& waiting_rows) {
    const std::int64_t d = engine_.d(), waiting = waiting_rows.size() / d;
    FASTGEN_CHECK((folded > 0) != scatter.is_none());
    engine_.restore(
        folded, contiguous<double>(origin, d), contiguous<double>(shift, d),
        scatter.is_none() ? nullptr : contiguous<double>(scatter.cast<py::array>(), d * d),
        contiguous<double>(waiting_rows, waiting * d), waiting);
  }

 private:
  py::array_t<double> copied(const double* features) const {
    return py::array_t<double>(engine_.d(), features);
  }

  cpu::Scatter engine_;
  py::object source_ = py::none();
};

}  // namespace

void register_moments(py::module_& m) {
  py::class_<Scatter>(m, "Scatter")
      .def(py::init<std::int64_t, const std::string&, int>(), py::arg("d"), py::arg("isa"),
           py::arg("threads"))
      .def_static("chunk_rows", &cpu::Scatter::chunk_rows, py::arg("d"))
      .def("begin_update", &Scatter::begin_update, py::arg("batch").noconvert())
      .def("begin_merge", &Scatter::begin_merge, py::arg("other"))
      .def("begin_flush", &Scatter::begin_flush, py::arg("means_only"))
      .def("advance", &Scatter::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("commit", &Scatter::commit)
      .def("rollback", &Scatter::rollback)
      .def_property_readonly("count", &Scatter::count)
      .def_property_readonly("waiting", &Scatter::waiting)
      .def_property_readonly("folded", &Scatter::folded)
      .def("origin", &Scatter::origin)
      .def("shift", &Scatter::shift)
      .def("scatter", &Scatter::scatter, py::arg("divisor"))
      .def("waiting_rows", &Scatter::waiting_rows)
      .def("restore", &Scatter::restore, py::arg("folded"), py::arg("origin").noconvert(),
           py::arg("shift").noconvert(), py::arg("scatter"), py::arg("waiting_rows").noconvert());
}

}  // namespace fastgen::bindings
