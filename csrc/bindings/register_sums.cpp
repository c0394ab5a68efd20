// The sum engine: begin (constructor), advance (a block of work without the GIL), finish.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/kernel_sums.hpp"

namespace fastgen::bindings {

namespace {

// (name, numbers...) as fastgen/kernels.py makes them.
cpu::KernelTerm parse_term(const py::tuple& term) {
  const std::string name = term[0].cast<std::string>();
  auto number = [&](std::size_t i) { return term[i].cast<double>(); };
  if (name == "polynomial") {
    return {cpu::Shape::polynomial, static_cast<int>(number(1)), number(2), number(3)};
  }
  if (name == "gaussian") return {cpu::Shape::gaussian, 0, number(1), 0};
  if (name == "rational_quadratic") {
    return {cpu::Shape::rational_quadratic, 0, number(2), number(1)};
  }
  if (name == "laplacian") return {cpu::Shape::laplacian, 0, number(1), 0};
  FASTGEN_CHECK(name == "energy");
  return {cpu::Shape::energy, 0, 1, 0};
}

std::vector<std::vector<cpu::KernelTerm>> parse_kernels(
    const std::vector<std::vector<py::tuple>>& kernels) {
  std::vector<std::vector<cpu::KernelTerm>> parsed;
  for (const auto& terms : kernels) {
    parsed.emplace_back();
    for (const py::tuple& term : terms) parsed.back().push_back(parse_term(term));
  }
  return parsed;
}

class SumEngine {
 public:
  SumEngine(const py::array& x, const py::object& y,
            const std::vector<std::vector<py::tuple>>& kernels, const py::object& subsets,
            const py::object& labels, bool within, bool normalise, bool float64, int block,
            const std::string& isa, int threads)
      : x_(x),
        y_(y),
        subsets_(subsets),
        labels_(labels),
        kernels_(kernels.size()),
        rows_{row_view(x), y.is_none() ? RowView{} : row_view(y.cast<py::array>())},
        sizes_(subset_sizes()),
        label_count_(labels.is_none() ? 0 : labels.cast<py::array>().shape(0)),
        engine_(rows_[0], y.is_none() ? nullptr : &rows_[1], parse_kernels(kernels), sizes_,
                label_data(), static_cast<int>(label_count_),
                cpu::SumOptions{within, normalise, float64, block, threads},
                cpu::select_kernels(isa)) {}

  double advance(double seconds) { return engine_.advance(seconds); }
  bool overflow() const { return engine_.overflow(); }
  bool float64() const { return engine_.float64(); }
  py::tuple zero_rows() const { return py::make_tuple(engine_.zero_row(0), engine_.zero_row(1)); }
  // One dictionary per kernel, with the fields of fastgen.estimators.KernelSums.
  py::list finish() const {
    FASTGEN_CHECK(engine_.done() && !engine_.overflow());
    FASTGEN_CHECK(engine_.zero_row(0) < 0 && engine_.zero_row(1) < 0);
    const char* names[] = {"x", "y"};
    py::list results;
    for (int k = 0; k < static_cast<int>(kernels_); ++k) {
      py::dict result;
      const int sets = y_.is_none() ? 1 : 2;
      for (int s = 0; s < sets; ++s) {
        for (int t = 0; t < sets; ++t) {
          py::array_t<double> sums = by_row(s);
          engine_.row_sums(k, s, t, sums.mutable_data());
          const std::string pair = std::string(names[s]) + names[t];
          result[pair.c_str()] = sums;
          if (s > t) continue;
          py::array_t<double> squares(sizes_.count);
          engine_.squares(k, s, t, squares.mutable_data());
          result[(pair + "_squares").c_str()] = squares;
        }
        py::array_t<double> diagonal = by_row(s), shift = by_row(s);
        engine_.diagonal(k, s, diagonal.mutable_data());
        engine_.shift(k, s, shift.mutable_data());
        result[(std::string(2, *names[s]) + "_diagonal").c_str()] = diagonal;
        result[(std::string(names[s]) + "_shift").c_str()] = shift;
      }
      if (label_count_ > 0) {
        py::array_t<double> forms(label_count_);
        engine_.forms(k, forms.mutable_data());
        result["forms"] = forms;
      }
      results.append(result);
    }
    return results;
  }

 private:
  cpu::SumSubsets subset_sizes() const {
    if (subsets_.is_none()) return {1, rows_[0].n, rows_[1].n, nullptr, nullptr};
    const py::tuple both = subsets_.cast<py::tuple>();
    const py::array x = both[0].cast<py::array>(), y = both[1].cast<py::array>();
    FASTGEN_CHECK(x.ndim() == 2 && y.ndim() == 2 && x.shape(0) == y.shape(0));
    return {x.shape(0), x.shape(1), y.shape(1), contiguous<std::int64_t>(x, x.size()),
            contiguous<std::int64_t>(y, y.size())};
  }
  const std::int8_t* label_data() const {
    if (labels_.is_none()) return nullptr;
    const py::array labels = labels_.cast<py::array>();
    FASTGEN_CHECK(labels.ndim() == 2 && labels.shape(1) == rows_[0].n + rows_[1].n);
    return contiguous<std::int8_t>(labels, labels.size());
  }
  py::array_t<double> by_row(int set) const {
    return py::array_t<double>({sizes_.count, set == 0 ? sizes_.x_size : sizes_.y_size});
  }

  py::array x_;
  py::object y_, subsets_, labels_;
  std::size_t kernels_;
  RowView rows_[2];
  cpu::SumSubsets sizes_;
  std::int64_t label_count_;
  cpu::KernelSums engine_;
};

}  // namespace

void register_sums(py::module_& m) {
  py::class_<SumEngine>(m, "KernelSums")
      .def(py::init<const py::array&, const py::object&, const std::vector<std::vector<py::tuple>>&,
                    const py::object&, const py::object&, bool, bool, bool, int, const std::string&,
                    int>(),
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
