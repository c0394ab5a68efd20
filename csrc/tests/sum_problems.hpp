// Rows and kernels to try the sum engine with.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/rows.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {

using Values = std::vector<double>;

struct Size {
  std::int64_t n, m;
};

inline std::string name_of(const Matrix& x, const Matrix& y) {
  return show(x.n) + " " + name_of(x.dtype) + " rows and " + show(y.n) + " " + name_of(y.dtype);
}

inline std::string name_of(const cpu::Kernels& table, const Matrix& x, const Matrix& y) {
  return std::string(table.name) + " " + name_of(x, y);
}

// AMX has the sums of AVX-512: its tiles are for 8-bit products.
inline std::vector<const cpu::Kernels*> sum_tables() {
  std::vector<const cpu::Kernels*> tables = all_kernels();
  if (std::string(tables[0]->name) == "amx") tables.erase(tables.begin());
  return tables;
}

inline std::vector<KernelOf> every_kernel(std::int64_t d) {
  const double width = static_cast<double>(d), size = std::sqrt(width);  // of the distances
  return {{polynomial(1, 1 / width, 1)},
          {polynomial(2, 1 / width, 0)},
          {polynomial(3, 1 / width, 1)},
          {polynomial(5, 0.5 / width, 0.5)},
          {gaussian(size)},
          {gaussian(10 * size)},
          {gaussian(0.4 * size)},
          {rational_quadratic(1, size)},
          {rational_quadratic(0.3, 0.5 * size)},
          {laplacian(2 * size)},
          {laplacian(0.3 * size)},
          {energy()},
          {gaussian(size), gaussian(2 * size), energy(), polynomial(2, 1 / width, 1)}};
}

// One of each shape.
inline std::vector<KernelOf> few_kernels(std::int64_t d) {
  const double width = static_cast<double>(d), size = std::sqrt(width);
  return {{polynomial(3, 1 / width, 1)},
          {gaussian(size), rational_quadratic(1, size)},
          {laplacian(0.5 * size)},
          {energy()}};
}

inline std::vector<std::int8_t> some_labels(Random& random, std::int64_t rows, std::int64_t count) {
  std::vector<std::int8_t> labels;
  for (std::int64_t i = 0; i < rows * count; ++i) labels.push_back(random.below(2) ? 1 : -1);
  return labels;
}

// Like features: of one sign, off the origin.
inline Values features(Random& random, std::int64_t count, double centre = 0.8) {
  Values values = normals(random, count);
  for (double& value : values) value = std::fabs(value + centre);
  return values;
}

inline Indices some_rows(Random& random, std::int64_t n, std::int64_t count) {
  Indices rows;
  for (std::int64_t i = 0; i < count; ++i) rows.push_back(random.below(n));
  return rows;
}

// Sets that are hard on the arithmetic. What one outlier hides stays within the stated error, which
// is relative to the largest.
struct Hard {
  const char* name;
  Values x, y;  // of 6 features, or one
  DType dtype;
  std::vector<KernelOf> kernels;
  std::int64_t d = 6;
};

inline Values scaled(Values values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

// The first of 6 features the same in every row.
inline Values constant(Values values, double same) {
  for (std::size_t i = 0; i < values.size(); i += 6) values[i] = same;
  return values;
}

// All shapes, for rows whose distances are of that size.
inline std::vector<KernelOf> shapes(double size) {
  return {{polynomial(3, 1 / size / size, 1)},
          {gaussian(size)},
          {rational_quadratic(2, size)},
          {laplacian(size)},
          {energy()}};
}

// Without the polynomial.
inline std::vector<KernelOf> distance_shapes(double size) {
  std::vector<KernelOf> kernels = shapes(size);
  kernels.erase(kernels.begin());
  return kernels;
}

inline std::vector<Hard> hard_sets() {
  Random random(5);
  const std::int64_t n = kEmulated ? 9 : 70, m = kEmulated ? 5 : 20;
  const Values x = normals(random, n * 6), y = normals(random, m * 6);
  const Values first(x.begin(), x.begin() + n), second(y.begin(), y.begin() + m);
  const Values a0(n * 6, 0.0), b0(m * 6, 0.0), a1(n * 6, 0.1), b1(m * 6, 0.1), b3(m * 6, 0.3);
  std::vector<Hard> sets;
  for (const DType dtype : {DType::float32, DType::float64}) {
    sets.push_back({"all rows equal", a1, b1, dtype, shapes(1)});
    sets.push_back({"two distinct rows", a1, b3, dtype, shapes(1)});
    sets.push_back({"zeros", a0, b0, dtype, shapes(1)});
    sets.push_back({"zeros and others", a0, y, dtype, shapes(1)});
    sets.push_back({"one feature", first, second, dtype, shapes(1), 1});
    sets.push_back({"narrow kernels", x, x, dtype, shapes(1e-4)});
    sets.push_back({"hardly a kernel", x, x, dtype, {{gaussian(1e-150)}, {laplacian(1e-300)}}});
    sets.push_back({"wide kernels", x, y, dtype, shapes(1e6)});
    Values far = x, shifted = x, other = y;
    far[7] = 1e30;
    sets.push_back({"an outlier", far, y, dtype, distance_shapes(1)});
    sets.push_back({"outliers in both", far, far, dtype, {{polynomial(2, 1, 1)}, {energy()}}});
    for (double& value : shifted) value += 1000;
    for (double& value : other) value += 1000;
    sets.push_back({"off the origin", shifted, other, dtype, shapes(2)});
    for (const double size : {1.0, 1e-3}) {
      for (const double same : {1e6, 1e30}) {
        sets.push_back({"a constant feature", constant(scaled(x, size), same),
                        constant(scaled(y, size), same), dtype, distance_shapes(size)});
      }
    }
    for (const double size : {1e-42, 1e-36, 1e-25, 1e-12, 1e12, 1e25, 1e37}) {
      sets.push_back(
          {size < 1 ? "small" : "large", scaled(x, size), scaled(y, size), dtype, shapes(size)});
    }
  }
  for (const double size : {1e-140, 1e140}) {
    sets.push_back({"beyond float32",
                    scaled(x, size),
                    scaled(y, size),
                    DType::float64,
                    {{polynomial(3, 1 / size / size, 1)}, {gaussian(size)}, {energy()}}});
  }
  sets.push_back(
      {"high degree", x, y, DType::float32, {{polynomial(32, 0.1, 1)}, {polynomial(32, 2, 1)}}});
  return sets;
}

// Numbers at the ends of their types' ranges.
inline std::vector<Hard> range_sets() {
  Random random(6);
  const Values x = normals(random, 70 * 6), y = normals(random, 20 * 6);
  const DType single = DType::float32, wide = DType::float64;
  std::vector<Hard> sets;
  // A constant times the unit that suits the other features is beyond float32.
  sets.push_back({"a constant feature", constant(scaled(x, 0.01), 3e38),
                  constant(scaled(y, 0.01), 3e38), single, distance_shapes(0.01)});
  // The square of the bandwidth is 0.
  for (const DType dtype : {single, wide}) {
    sets.push_back(
        {"no width", x, x, dtype, {{gaussian(1e-160)}, {rational_quadratic(1, 1e-160)}}});
  }
  return sets;
}

// Three subsets of both sets that take more than a tile, or nine vectors of labels.
inline void choose(SumRun& run, Random& random, std::int64_t n, std::int64_t m, bool subsets) {
  if (subsets) {
    run.count = 3;
    run.x = some_rows(random, n, run.count * 140);
    run.y = some_rows(random, m, run.count * 33);
  } else {
    run.labels = some_labels(random, n + m, 9);
  }
}

}  // namespace fastgen::test
