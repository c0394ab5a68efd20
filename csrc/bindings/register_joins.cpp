// The engines: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>

#include "bindings/arrays.hpp"
#include "bindings/prepared.hpp"
#include "cpu/balls.hpp"
#include "cpu/knn.hpp"
#include "cpu/realism.hpp"

namespace fastgen::bindings {

namespace {

py::dict counters(std::int64_t pairs, std::int64_t hits, std::int64_t rechecked) {
  py::dict result;
  result["pairs"] = pairs;
  result["hits"] = hits;
  result["rechecked"] = rechecked;
  return result;
}

// Engines hold the Python objects that they read and write: those must not go before them.
class KnnEngine {
 public:
  KnnEngine(py::object x, py::object y, const std::vector<std::int64_t>& ranks, bool indices,
            int threads)
      : x_(std::move(x)),
        y_(std::move(y)),
        sq_({rows_of(x_), static_cast<std::int64_t>(ranks.size())}),
        indices_(indices ? py::array_t<std::int64_t>(
                               {rows_of(x_), static_cast<std::int64_t>(ranks.size())})
                         : py::array_t<std::int64_t>(0)),
        wants_indices_(indices),
        engine_(x_.cast<PreparedRows&>().rows(),
                y_.is_none() ? nullptr : &y_.cast<PreparedRows&>().rows(), ranks,
                sq_.mutable_data(), indices ? indices_.mutable_data() : nullptr, threads) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  py::tuple finish() const {
    FASTGEN_CHECK(engine_.done());
    return py::make_tuple(sq_, wants_indices_ ? py::object(indices_) : py::object(py::none()));
  }
  py::dict counted() const {
    return counters(engine_.pairs(), engine_.hits(), engine_.rechecked());
  }

 private:
  static std::int64_t rows_of(const py::object& set) {
    return set.cast<PreparedRows&>().rows().rows().n;
  }

  py::object x_, y_;
  py::array_t<double> sq_;
  py::array_t<std::int64_t> indices_;
  bool wants_indices_;
  cpu::Knn engine_;
};

class BallsEngine {
 public:
  BallsEngine(py::object x, py::object y, py::object sq_radii_x, py::object sq_radii_y, bool closed,
              int threads)
      : x_(std::move(x)),
        y_(std::move(y)),
        sq_radii_x_(std::move(sq_radii_x)),
        sq_radii_y_(std::move(sq_radii_y)),
        n_(x_.cast<PreparedRows&>().rows().rows().n),
        m_(y_.cast<PreparedRows&>().rows().rows().n),
        radii_(radius_sets()),
        engine_(x_.cast<PreparedRows&>().rows(), y_.cast<PreparedRows&>().rows(),
                data(sq_radii_x_, n_), data(sq_radii_y_, m_), radii_, closed, threads) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  py::dict finish() const {
    py::dict result;
    if (!sq_radii_x_.is_none()) {
      result["y_in_x"] = counts(n_, &cpu::Balls::y_in_x);
      result["x_balls_of_y"] = counts(m_, &cpu::Balls::x_balls_of_y);
    }
    if (!sq_radii_y_.is_none()) {
      result["x_in_y"] = counts(m_, &cpu::Balls::x_in_y);
      result["y_balls_of_x"] = counts(n_, &cpu::Balls::y_balls_of_x);
    }
    return result;
  }
  py::dict counted() const {
    return counters(engine_.pairs(), engine_.hits(), engine_.rechecked());
  }

 private:
  std::int64_t radius_sets() const {
    const py::object& given = sq_radii_x_.is_none() ? sq_radii_y_ : sq_radii_x_;
    FASTGEN_CHECK(!given.is_none());
    const py::array array = given.cast<py::array>();
    FASTGEN_CHECK(array.ndim() == 2 && array.shape(0) >= 1);
    return array.shape(0);
  }
  const double* data(const py::object& radii, std::int64_t rows) const {
    return radii.is_none() ? nullptr : contiguous<double>(radii.cast<py::array>(), radii_ * rows);
  }
  py::array_t<std::int64_t> counts(std::int64_t rows,
                                   void (cpu::Balls::*get)(std::int64_t*) const) const {
    py::array_t<std::int64_t> out({radii_, rows});
    (engine_.*get)(out.mutable_data());
    return out;
  }

  py::object x_, y_, sq_radii_x_, sq_radii_y_;
  std::int64_t n_, m_, radii_;
  cpu::Balls engine_;
};

class RealismEngine {
 public:
  RealismEngine(py::object x, py::object y, const py::array& sq_radii_x, int threads)
      : x_(std::move(x)),
        y_(std::move(y)),
        m_(y_.cast<PreparedRows&>().rows().rows().n),
        engine_(x_.cast<PreparedRows&>().rows(), y_.cast<PreparedRows&>().rows(),
                contiguous<double>(sq_radii_x, x_.cast<PreparedRows&>().rows().rows().n), threads) {
  }

  double advance(double seconds) { return engine_.advance(seconds); }
  py::array_t<double> finish() const {
    py::array_t<double> out(m_);
    engine_.finish(out.mutable_data());
    return out;
  }
  py::dict counted() const {
    return counters(engine_.pairs(), engine_.hits(), engine_.rechecked());
  }

 private:
  py::object x_, y_;
  std::int64_t m_;
  cpu::Realism engine_;
};

template <class Engine>
py::class_<Engine> register_engine(py::module_& m, const char* name) {
  return py::class_<Engine>(m, name)
      .def("advance", &Engine::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &Engine::finish)
      .def_property_readonly("counters", &Engine::counted);
}

}  // namespace

void register_joins(py::module_& m) {
  register_engine<KnnEngine>(m, "Knn").def(
      py::init<py::object, py::object, std::vector<std::int64_t>, bool, int>(), py::arg("x"),
      py::arg("y"), py::arg("ranks"), py::arg("indices"), py::arg("threads"));
  register_engine<BallsEngine>(m, "Balls")
      .def(py::init<py::object, py::object, py::object, py::object, bool, int>(), py::arg("x"),
           py::arg("y"), py::arg("sq_radii_x"), py::arg("sq_radii_y"), py::arg("closed"),
           py::arg("threads"));
  register_engine<RealismEngine>(m, "Realism")
      .def(py::init<py::object, py::object, const py::array&, int>(), py::arg("x"), py::arg("y"),
           py::arg("sq_radii_x").noconvert(), py::arg("threads"));
}

}  // namespace fastgen::bindings
