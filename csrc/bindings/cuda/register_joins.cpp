// Sets prepared on a device, and the engines of the joins: begin (constructor), advance (a block of
// work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/cuda/rows.hpp"
#include "cuda/balls.hpp"
#include "cuda/knn.hpp"
#include "cuda/pairs.hpp"
#include "cuda/prepared.hpp"
#include "cuda/realism.hpp"

namespace fastgen::bindings {

namespace {

constexpr std::pair<const char*, cuda::Path> kPaths[] = {{"auto", cuda::Path::automatic},
                                                         {"int8", cuda::Path::int8},
                                                         {"fine", cuda::Path::fine},
                                                         {"direct", cuda::Path::direct},
                                                         {"exact", cuda::Path::exact}};

cuda::Path parse_path(const std::string& name) {
  for (const auto& [known, path] : kPaths) {
    if (name == known) return path;
  }
  FASTGEN_CHECK(!"a path of the joins");
  return cuda::Path::automatic;
}

// Keeps the rows that it was made of. Engines in turn hold the Python objects that they read.
class DeviceSet {
 public:
  DeviceSet(py::object rows, const std::string& path)
      : rows_(std::move(rows)),
        set_(rows_.cast<DeviceRows&>().view(), parse_path(path),
             rows_.cast<DeviceRows&>().stream()) {}

  cuda::Prepared& set() { return set_; }
  const cuda::Prepared& set() const { return set_; }
  std::int64_t n() const { return set_.rows().n; }
  std::string path() const {
    for (const auto& [name, path] : kPaths) {
      if (path == set_.path()) return name;
    }
    return "";
  }

 private:
  py::object rows_;
  cuda::Prepared set_;
};

// (index, count) of the tiles.
cuda::Share parse_share(const std::pair<int, int>& share) {
  FASTGEN_CHECK(0 <= share.first && share.first < share.second);
  return {share.first, share.second};
}

const cuda::Prepared& set_of(const py::object& x) {
  const cuda::Prepared& set = x.cast<DeviceSet&>().set();
  FASTGEN_CHECK(set.ready());
  return set;
}

template <class Engine>
py::dict counters(const Engine& engine) {
  py::dict result;
  result["pairs"] = engine.pairs();
  result["hits"] = engine.hits();
  result["rechecked"] = engine.rechecked();
  return result;
}

class KnnEngine {
 public:
  KnnEngine(py::object x, py::object y, std::vector<std::int64_t> ranks, bool indices,
            const std::pair<int, int>& share)
      : x_(std::move(x)),
        y_(std::move(y)),
        ranks_(static_cast<std::int64_t>(ranks.size())),
        wants_indices_(indices),
        engine_(set_of(x_), y_.is_none() ? nullptr : &set_of(y_), std::move(ranks), indices,
                parse_share(share)) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  py::tuple finish() {
    const std::int64_t n = set_of(x_).rows().n;
    py::array_t<double> sq({n, ranks_});
    py::array_t<std::int64_t> indices({wants_indices_ ? n : 0, ranks_});
    double* keys = sq.mutable_data();
    std::int64_t* rows = wants_indices_ ? indices.mutable_data() : nullptr;
    {
      const py::gil_scoped_release release;  // both are ours
      engine_.finish(keys, rows);
    }
    return py::make_tuple(sq, wants_indices_ ? py::object(indices) : py::object(py::none()));
  }
  py::dict counted() const { return counters(engine_); }

 private:
  py::object x_, y_;
  std::int64_t ranks_;
  bool wants_indices_;
  cuda::Knn engine_;
};

class BallsEngine {
 public:
  BallsEngine(py::object x, py::object y, const py::object& sq_radii_x,
              const py::object& sq_radii_y, bool closed, const std::pair<int, int>& share)
      : x_(std::move(x)),
        y_(std::move(y)),
        has_x_(!sq_radii_x.is_none()),
        has_y_(!sq_radii_y.is_none()),
        n_(set_of(x_).rows().n),
        m_(set_of(y_).rows().n),
        radii_(radius_sets(has_x_ ? sq_radii_x : sq_radii_y)),
        engine_(set_of(x_), set_of(y_), data(sq_radii_x, n_), data(sq_radii_y, m_), radii_, closed,
                parse_share(share)) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  py::dict finish() const {
    py::dict result;
    if (has_x_) {
      result["y_in_x"] = counts(n_, &cuda::Balls::y_in_x);
      result["x_balls_of_y"] = counts(m_, &cuda::Balls::x_balls_of_y);
    }
    if (has_y_) {
      result["x_in_y"] = counts(m_, &cuda::Balls::x_in_y);
      result["y_balls_of_x"] = counts(n_, &cuda::Balls::y_balls_of_x);
    }
    return result;
  }
  py::dict counted() const { return counters(engine_); }

 private:
  static std::int64_t radius_sets(const py::object& given) {
    FASTGEN_CHECK(!given.is_none());
    const py::array array = given.cast<py::array>();
    FASTGEN_CHECK(array.ndim() == 2 && array.shape(0) >= 1);
    return array.shape(0);
  }
  const double* data(const py::object& radii, std::int64_t rows) const {
    return radii.is_none() ? nullptr : contiguous<double>(radii.cast<py::array>(), radii_ * rows);
  }
  py::array_t<std::int64_t> counts(std::int64_t rows,
                                   void (cuda::Balls::*get)(std::int64_t*) const) const {
    py::array_t<std::int64_t> out({radii_, rows});
    std::int64_t* values = out.mutable_data();
    const py::gil_scoped_release release;  // `out` is ours
    (engine_.*get)(values);
    return out;
  }

  py::object x_, y_;
  bool has_x_, has_y_;
  std::int64_t n_, m_, radii_;
  cuda::Balls engine_;  // radii are copied to the device by its constructor
};

class RealismEngine {
 public:
  RealismEngine(py::object x, py::object y, const py::array& sq_radii_x,
                const std::pair<int, int>& share)
      : x_(std::move(x)),
        y_(std::move(y)),
        m_(set_of(y_).rows().n),
        engine_(set_of(x_), set_of(y_), contiguous<double>(sq_radii_x, set_of(x_).rows().n),
                parse_share(share)) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  py::array_t<double> finish() {
    py::array_t<double> out(m_);
    double* values = out.mutable_data();
    const py::gil_scoped_release release;  // `out` is ours
    engine_.finish(values);
    return out;
  }
  py::dict counted() const { return counters(engine_); }

 private:
  py::object x_, y_;
  std::int64_t m_;
  cuda::Realism engine_;
};

py::array_t<double> pair_sq_distances(const DeviceRows& x, const DeviceRows& y, const py::array& i,
                                      const py::array& j) {
  const std::int64_t count = i.size();
  const std::int64_t* x_index = contiguous<std::int64_t>(i, count);
  const std::int64_t* y_index = contiguous<std::int64_t>(j, count);
  py::array_t<double> out(count);
  double* values = out.mutable_data();
  const py::gil_scoped_release release;  // the arguments keep rows and indices alive
  cuda::pair_sq_distances(x.view(), y.view(), x_index, y_index, count, values, x.stream());
  return out;
}

template <class Engine>
py::class_<Engine> register_engine(py::module_& m, const char* name) {
  return py::class_<Engine>(m, name, py::module_local())
      .def("advance", &Engine::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // Python objects are only held, not touched
      .def("finish", &Engine::finish)
      .def_property_readonly("counters", &Engine::counted);
}

}  // namespace

void register_joins(py::module_& m) {
  m.def("pair_sq_distances", &pair_sq_distances, py::arg("x"), py::arg("y"),
        py::arg("i").noconvert(), py::arg("j").noconvert());

  py::class_<DeviceSet>(m, "Prepared", py::module_local())
      .def(py::init<py::object, const std::string&>(), py::arg("rows"), py::arg("path"))
      .def(
          "advance", [](DeviceSet& self, double seconds) { return self.set().advance(seconds); },
          py::arg("seconds"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("path", &DeviceSet::path)
      .def_property_readonly("groups",
                             [](const DeviceSet& self) { return self.set().groups().size(); })
      .def_property_readonly("parts",
                             [](const DeviceSet& self) { return self.set().parts().size(); })
      .def_property_readonly("nbytes", [](const DeviceSet& self) { return self.set().nbytes(); });

  register_engine<KnnEngine>(m, "Knn").def(
      py::init<py::object, py::object, std::vector<std::int64_t>, bool, std::pair<int, int>>(),
      py::arg("x"), py::arg("y"), py::arg("ranks"), py::arg("indices"), py::arg("share"));
  register_engine<BallsEngine>(m, "Balls")
      .def(py::init<py::object, py::object, py::object, py::object, bool, std::pair<int, int>>(),
           py::arg("x"), py::arg("y"), py::arg("sq_radii_x"), py::arg("sq_radii_y"),
           py::arg("closed"), py::arg("share"));
  register_engine<RealismEngine>(m, "Realism")
      .def(py::init<py::object, py::object, const py::array&, std::pair<int, int>>(), py::arg("x"),
           py::arg("y"), py::arg("sq_radii_x").noconvert(), py::arg("share"));
}

}  // namespace fastgen::bindings
