// What the sum engines of all devices take from Python, and give back.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "common/check.hpp"
#include "common/sum_terms.hpp"
#include "common/sum_walk.hpp"

namespace fastgen::bindings {

// Terms of kernels as fastgen/kernels.py makes them: (name, numbers...).
using KernelTuples = std::vector<std::vector<py::tuple>>;

inline KernelTerm parse_term(const py::tuple& term) {
  const std::string name = term[0].cast<std::string>();
  auto number = [&](std::size_t i) { return term[i].cast<double>(); };
  if (name == "polynomial") {
    return {Shape::polynomial, static_cast<int>(number(1)), number(2), number(3)};
  }
  if (name == "gaussian") return {Shape::gaussian, 0, number(1), 0};
  if (name == "rational_quadratic") return {Shape::rational_quadratic, 0, number(2), number(1)};
  if (name == "laplacian") return {Shape::laplacian, 0, number(1), 0};
  FASTGEN_CHECK(name == "energy");
  return {Shape::energy, 0, 1, 0};
}

inline std::vector<std::vector<KernelTerm>> parse_kernels(const KernelTuples& kernels) {
  std::vector<std::vector<KernelTerm>> parsed;
  for (const auto& terms : kernels) {
    parsed.emplace_back();
    for (const py::tuple& term : terms) parsed.back().push_back(parse_term(term));
  }
  return parsed;
}

// Indices [count, size] of both sets; `n` and `m` rows of these, all of them once, without.
inline SumSubsets parse_subsets(const py::object& subsets, std::int64_t n, std::int64_t m) {
  if (subsets.is_none()) return {1, n, m, nullptr, nullptr};
  const py::tuple both = subsets.cast<py::tuple>();
  const py::array x = both[0].cast<py::array>(), y = both[1].cast<py::array>();
  FASTGEN_CHECK(x.ndim() == 2 && y.ndim() == 2 && x.shape(0) == y.shape(0));
  return {x.shape(0), x.shape(1), y.shape(1), contiguous<std::int64_t>(x, x.size()),
          contiguous<std::int64_t>(y, y.size())};
}

// Labels [count, rows]; null without.
inline const std::int8_t* parse_labels(const py::object& given, std::int64_t rows) {
  if (given.is_none()) return nullptr;
  const py::array labels = given.cast<py::array>();
  FASTGEN_CHECK(labels.ndim() == 2 && labels.shape(1) == rows);
  return contiguous<std::int8_t>(labels, labels.size());
}

inline std::int64_t label_count(const py::object& given) {
  return given.is_none() ? 0 : given.cast<py::array>().shape(0);
}

// One dictionary per kernel, with the fields of fastgen.estimators.KernelSums.
template <class Engine>
py::list sum_results(const Engine& engine, std::size_t kernels, int sets, const SumSubsets& sizes,
                     std::int64_t labels) {
  FASTGEN_CHECK(engine.done() && !engine.overflow());
  FASTGEN_CHECK(engine.zero_row(0) < 0 && engine.zero_row(1) < 0);
  const auto by_row = [&](int set) {
    return py::array_t<double>({sizes.count, set == 0 ? sizes.x_size : sizes.y_size});
  };
  const char* names[] = {"x", "y"};
  py::list results;
  for (int k = 0; k < static_cast<int>(kernels); ++k) {
    py::dict result;
    for (int s = 0; s < sets; ++s) {
      for (int t = 0; t < sets; ++t) {
        py::array_t<double> sums = by_row(s);
        engine.row_sums(k, s, t, sums.mutable_data());
        const std::string pair = std::string(names[s]) + names[t];
        result[pair.c_str()] = sums;
        if (s > t) continue;
        py::array_t<double> squares(sizes.count);
        engine.squares(k, s, t, squares.mutable_data());
        result[(pair + "_squares").c_str()] = squares;
      }
      py::array_t<double> diagonal = by_row(s), shift = by_row(s);
      engine.diagonal(k, s, diagonal.mutable_data());
      engine.shift(k, s, shift.mutable_data());
      result[(std::string(2, *names[s]) + "_diagonal").c_str()] = diagonal;
      result[(std::string(names[s]) + "_shift").c_str()] = shift;
    }
    if (labels > 0) {
      py::array_t<double> forms(labels);
      engine.forms(k, forms.mutable_data());
      result["forms"] = forms;
    }
    results.append(result);
  }
  return results;
}

}  // namespace fastgen::bindings
