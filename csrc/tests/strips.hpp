// Strips to run kernels on: rows whose truth is known, what each path stores of them, and operands.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/memory.hpp"
#include "common/rounding.hpp"
#include "cpu/kernels.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using cpu::Kernels;
using cpu::kMaxBlockColumns;
using cpu::kStripRows;

constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kEverything = -(std::int64_t{1} << 40);  // no diagonal

// The bound on a float32 dot that the engine states, relative to |x| |y| (cpu/bounds.cpp).
inline double float_product_error(std::int64_t depth) {
  return (256.0 + static_cast<double>(depth) / 256.0 + 16.0) * 0x1p-24 * (1 + 0x1p-10);
}

// One side of a strip: true rows z, what each path stores of them, and terms that hold for z.
struct Rows {
  int count;
  std::vector<double> z;        // [count, depth]
  std::int64_t stride;          // of q, in bytes
  std::vector<std::uint8_t> q;  // as stored; read in place, up to a whole strip of rows
  std::vector<float> floats;
  // Kernels may read whole vectors past the last row; NaN there must make no difference.
  std::vector<float> scale, magnitude, error, low, high;

  cpu::Terms terms() const {
    return {scale.data(), magnitude.data(), error.data(), low.data(), high.data()};
  }
};

inline Rows make_rows(Random& random, int count, std::int64_t depth, bool float_path,
                      double spread) {
  const std::size_t size = static_cast<std::size_t>(count) * depth;
  Rows rows{count, std::vector<double>(size), depth + 64, {}, {}, {}, {}, {}, {}, {}};
  for (auto* terms : {&rows.scale, &rows.magnitude, &rows.error, &rows.low, &rows.high}) {
    terms->assign(count + kMaxBlockColumns, kNotANumber);
  }
  rows.q.assign(std::max(count, kStripRows) * rows.stride, 0xa5);
  rows.floats.assign(std::max(count, kStripRows) * depth, kNotANumber);
  for (int i = 0; i < count; ++i) {
    double* z = rows.z.data() + i * depth;
    const double scale = static_cast<float>((0.5 + random.uniform()) / 64);
    double sq_z = 0, sq_q = 0, sq_residual = 0;
    for (std::int64_t k = 0; k < depth; ++k) {
      const double level = std::nearbyint(std::clamp(42 * random.normal(), -127.0, 127.0));
      const double residual = float_path ? 0.0 : spread * scale * random.normal();
      rows.q[i * rows.stride + k] = static_cast<std::uint8_t>(static_cast<int>(level) + 128);
      z[k] = scale * level + residual;
      if (float_path) z[k] = static_cast<float>(z[k] * (1 + 0.1 * random.normal()));
      rows.floats[i * depth + k] = static_cast<float>(z[k]);
      sq_z += z[k] * z[k];
      sq_q += scale * level * scale * level;
      sq_residual += residual * residual;
    }
    const double norm = std::sqrt(sq_z);
    const double error =
        float_path ? 0.5 * float_product_error(depth) * norm : std::sqrt(sq_residual);
    const double magnitude = float_path ? norm : std::sqrt(sq_q);
    const double slack = (3 * sq_z + 2 * error * error) * 0x1p-20;
    rows.scale[i] = float_path ? 1.0f : static_cast<float>(scale);
    rows.magnitude[i] = round_up(magnitude * (1 + 1e-12));
    rows.error[i] = round_up(error * (1 + 1e-12));
    rows.low[i] = round_down(sq_z - slack);
    rows.high[i] = round_up(sq_z + slack);
  }
  return rows;
}

// Everything a kernel needs for rows against columns, and the truth about their pairs.
struct Case {
  const Rows& rows;
  const Rows& columns;
  std::int64_t depth;
  bool float_path;
  std::vector<double> dot, sq;  // [rows, columns]

  Case(const Rows& rows, const Rows& columns, std::int64_t depth, bool float_path)
      : rows(rows), columns(columns), depth(depth), float_path(float_path) {
    for (int r = 0; r < rows.count; ++r) {
      for (int c = 0; c < columns.count; ++c) {
        const double *x = rows.z.data() + r * depth, *y = columns.z.data() + c * depth;
        const std::uint8_t* p = rows.q.data() + r * rows.stride;
        const std::uint8_t* q = columns.q.data() + c * columns.stride;
        double product = 0, distance = 0;
        std::int64_t levels = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          product += x[k] * y[k];
          distance += (x[k] - y[k]) * (x[k] - y[k]);
          levels += (static_cast<int>(p[k]) - 128) * (static_cast<int>(q[k]) - 128);
        }
        dot.push_back(float_path ? product : static_cast<double>(levels));
        sq.push_back(distance);
      }
    }
  }
  std::size_t at(int r, int c) const { return static_cast<std::size_t>(r) * columns.count + c; }
  // The kernels' bounds in float64, and what float32 may do to them.
  double margin(int r, int c) const {
    const double e = rows.error[r], f = columns.error[c];
    return 2 * (e * columns.magnitude[c] + rows.magnitude[r] * f + e * f);
  }
  double product(int r, int c) const {
    return 2.0 * rows.scale[r] * columns.scale[c] * dot[at(r, c)];
  }
  double low(int r, int c) const {
    return static_cast<double>(rows.low[r]) + columns.low[c] - product(r, c) - margin(r, c);
  }
  double high(int r, int c) const {
    return static_cast<double>(rows.high[r]) + columns.high[c] - product(r, c) + margin(r, c);
  }
  double rounding(int r, int c) const {
    return 1e-6 * (rows.high[r] + columns.high[c] + std::fabs(product(r, c)) + margin(r, c)) +
           (float_path ? margin(r, c) : 0.0);
  }
};

// Operands of one case for one instruction set.
class Operands {
 public:
  Operands(const Kernels& k, const Case& c) : kernels_(k), case_(c) {
    const std::int64_t depth = c.depth;
    const int panel = c.float_path ? k.float_panel : k.int8_panel;
    const std::int64_t bytes =
        c.float_path ? k.float_panel_bytes(depth) : k.int8_panel_bytes(depth);
    const int panels = (c.columns.count + panel - 1) / panel;
    panels_.reset(panels * bytes);
    for (int p = 0; p < panels; ++p) {
      const int first = p * panel, here = std::min(panel, c.columns.count - first);
      if (c.float_path) {
        k.pack_float(c.columns.floats.data() + first * depth, depth, here, depth,
                     panels_.data() + p * bytes);
      } else {
        std::vector<const std::uint8_t*> q(here);
        for (int i = 0; i < here; ++i) q[i] = c.columns.q.data() + (first + i) * c.columns.stride;
        k.pack_int8(q.data(), here, depth, panels_.data() + p * bytes);
      }
    }
    if (!c.float_path && k.load_rows_int8) {
      loaded_.reset(kStripRows * depth * k.int8_item);
      // Levels of an earlier strip stay behind the last row.
      k.load_rows_int8(c.rows.q.data(), c.rows.stride, kStripRows, depth, loaded_.data());
      k.load_rows_int8(c.rows.q.data(), c.rows.stride, c.rows.count, depth, loaded_.data());
    }
    products_.reset(kStripRows * kMaxBlockColumns);
    hits.resize(static_cast<std::size_t>(kStripRows) * kMaxBlockColumns);
  }

  cpu::Strip strip(int rows, int columns, std::int64_t diagonal) {
    cpu::Strip strip{};
    strip.panels = panels_.data();
    strip.products = products_.data();
    strip.depth = case_.depth;
    strip.row_count = rows;
    strip.column_count = columns;
    strip.diagonal = diagonal;
    strip.row_terms = case_.rows.terms();
    strip.column_terms = case_.columns.terms();
    if (case_.float_path) {
      strip.rows = case_.rows.floats.data();
      strip.row_stride = case_.depth * 4;
    } else if (kernels_.load_rows_int8) {
      strip.rows = loaded_.data();
      strip.row_stride = case_.depth * kernels_.int8_item;
    } else {
      strip.rows = case_.rows.q.data();
      strip.row_stride = case_.rows.stride;
    }
    return strip;
  }

  std::vector<cpu::Hit> hits;

 private:
  const Kernels& kernels_;
  const Case& case_;
  AlignedBuffer<unsigned char> panels_, loaded_;
  AlignedBuffer<std::int32_t> products_;
};

}  // namespace fastgen::test
