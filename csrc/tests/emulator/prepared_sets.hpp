// Sets made ready on a device, checked in full: groups, slots, centres, and bounds that hold for the exact
// rotation in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include "cuda/prepared.hpp"
#include "cuda/quantise.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using cuda::Part;
using cuda::Path;
using cuda::Prepared;
using cuda::PreparedView;
using Wide = long double;

inline const cuda::Stream& stream() {
  static const cuda::Stream one = cuda::Stream::make(0);
  return one;
}

template <class T>
std::vector<T> fetch(const T* device, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  cuda::download(values.data(), device, count * static_cast<std::int64_t>(sizeof(T)), stream());
  return values;
}

inline std::vector<Wide> rotate(const Rotation& rotation, const std::vector<Wide>& v) {
  std::vector<Wide> z(static_cast<std::size_t>(rotation.depth()), 0);
  const Wide size = 1 / std::sqrt(static_cast<Wide>(rotation.block()));
  for (std::int64_t j = 0; j < rotation.depth(); ++j) {
    const std::int64_t from = rotation.source() ? rotation.source()[j] : j < rotation.d() ? j : -1;
    if (from >= 0) z[j] = rotation.signs()[j] > 0 ? v[from] * size : -v[from] * size;
  }
  for (std::int64_t start = 0; start < rotation.depth(); start += rotation.block()) {
    for (std::int64_t width = 1; width < rotation.block(); width *= 2) {
      for (std::int64_t i = start; i < start + rotation.block(); ++i) {
        if ((i & width) != 0) continue;
        const Wide a = z[i], b = z[i + width];
        z[i] = a + b;
        z[i + width] = a - b;
      }
    }
  }
  return z;
}

inline void make_ready(Prepared& set) {
  double last = 0;
  while (!set.ready()) {
    const double fraction = set.advance(0);
    CHECK(fraction > last && (fraction < 1) != set.ready());
    last = fraction;
  }
  CHECK_EQUAL(set.advance(0), 1.0);
}

inline void check_groups(const Matrix& matrix, const Prepared& set) {
  std::map<std::vector<double>, std::vector<std::int32_t>> rows;
  std::vector<std::int32_t> first, copies, group_of;
  for (std::int64_t i = 0; i < matrix.n; ++i) {
    std::vector<double> key(matrix.row(i), matrix.row(i) + matrix.d);
    for (double& value : key) value += 0.0;
    std::vector<std::int32_t>& same = rows[key];
    if (same.empty()) {
      first.push_back(static_cast<std::int32_t>(i));
      copies.push_back(0);
      same.push_back(static_cast<std::int32_t>(first.size()) - 1);
    }
    ++copies[same[0]];
    group_of.push_back(same[0]);
  }
  const Groups& groups = set.groups();
  CHECK_ARRAYS(groups.first, first);
  CHECK_ARRAYS(groups.copies, copies);
  CHECK_EQUAL(groups.distinct(), static_cast<std::int64_t>(first.size()) == matrix.n);
  if (!groups.distinct()) {
    CHECK_ARRAYS(groups.group_of, group_of);
    CHECK_EQUAL(groups.start.size(), first.size() + 1);
    for (std::size_t i = 0; i < groups.members.size(); ++i) {
      const std::int32_t group = group_of[groups.members[i]];
      CHECK(groups.start[group] <= static_cast<std::int64_t>(i) &&
            static_cast<std::int64_t>(i) < groups.start[group + 1]);
      if (static_cast<std::int64_t>(i) > groups.start[group]) {
        CHECK(groups.members[i - 1] < groups.members[i]);
      }
    }
  }
}

inline void check_slots(const Prepared& set) {
  const Groups& groups = set.groups();
  const PreparedView view = set.view();
  CHECK_EQUAL(view.slots, set.slots());
  CHECK(set.slots() % cuda::kTileRows == 0);
  CHECK_EQUAL(view.depth, (set.rows().d + 127) / 128 * 128);
  std::vector<std::int32_t> first(static_cast<std::size_t>(set.slots()), -1);
  std::vector<std::int32_t> copies(first.size(), 0);
  std::int64_t at = 0, seen = 0;
  for (const Part& part : set.parts()) {
    CHECK_EQUAL(part.begin, at);
    CHECK(part.size() >= 1);
    at += part.tiles() * cuda::kTileRows;
    for (std::int64_t slot = part.begin; slot < part.end; ++slot) {
      const std::int32_t group = set.group_of_slot()[slot];
      CHECK(group >= 0 && group < groups.size());
      CHECK_EQUAL(static_cast<std::int64_t>(set.slot_of_group()[group]), slot);
      first[slot] = groups.first[group];
      copies[slot] = groups.copies[group];
      if (slot > part.begin) CHECK(first[slot - 1] < first[slot]);
      ++seen;
    }
    for (std::int64_t slot = part.end; slot < at; ++slot) {
      CHECK_EQUAL(set.group_of_slot()[slot], -1);
    }
  }
  CHECK_EQUAL(at, set.slots());
  CHECK_EQUAL(seen, groups.size());
  CHECK_ARRAYS(fetch(view.first_row, view.slots), first);
  CHECK_ARRAYS(fetch(view.copies, view.slots), copies);
}

// The mean of rows that are not outlying, or of the members of a cluster, lies within rounding.
inline void check_centre(const Matrix& matrix, const Prepared& set) {
  std::vector<char> outlying(static_cast<std::size_t>(matrix.n), 0);
  const Groups& groups = set.groups();
  for (std::int64_t i = 0; i < matrix.n; ++i) {
    const std::int64_t slot = set.slot_of_group()[groups.distinct() ? i : groups.group_of[i]];
    for (const Part& part : set.parts()) {
      if (part.outlying && slot >= part.begin && slot < part.end) outlying[i] = 1;
    }
  }
  CHECK_EQUAL(static_cast<std::int64_t>(set.parts()[0].centre.size()), matrix.d);
  const std::int64_t n = matrix.n - std::accumulate(outlying.begin(), outlying.end(), 0);
  for (std::int64_t j = 0; j < matrix.d; ++j) {
    Wide sum = 0, size = 0;
    double low = INFINITY, high = -INFINITY;
    for (std::int64_t i = 0; i < matrix.n; ++i) {
      if (outlying[i]) continue;
      sum += matrix.row(i)[j];
      size += std::fabs(matrix.row(i)[j]);
      low = std::min(low, matrix.row(i)[j]);
      high = std::max(high, matrix.row(i)[j]);
    }
    for (const Part& part : set.parts()) {
      const double centre = part.centre[j];
      CHECK(centre >= low && centre <= high);
      if (set.parts().size() == 1 || part.outlying) {
        CHECK_AT_MOST(std::fabs(static_cast<double>(centre - sum / n)),
                      static_cast<double>(size) * 0x1p-52 + 0x1p-1074);
      }
    }
  }
}

struct Planes {
  std::vector<std::int8_t> high, low;
  std::vector<double> scale, magnitude, error, square, fine_magnitude, fine_error, fine_low;
};

inline Planes fetch_planes(const Prepared& set) {
  const PreparedView view = set.view();
  Planes planes;
  planes.high = fetch(view.high, view.slots * view.depth);
  planes.scale = fetch(view.scale, view.slots);
  planes.magnitude = fetch(view.magnitude, view.slots);
  planes.error = fetch(view.error, view.slots);
  planes.square = fetch(view.square, view.slots);
  if (view.low != nullptr) {
    planes.low = fetch(view.low, view.slots * view.depth);
    planes.fine_magnitude = fetch(view.fine_magnitude, view.slots);
    planes.fine_error = fetch(view.fine_error, view.slots);
    planes.fine_low = fetch(view.fine_low, view.slots);
  }
  return planes;
}

// `got` bounds `exact`, and hardly exceeds it.
inline void check_bound(double got, Wide exact, double relative, double absolute) {
  CHECK(static_cast<Wide>(got) >= exact);
  CHECK_AT_MOST(got, static_cast<double>(exact) * (1 + relative) + absolute);
}

// Largest residuals relative to the row, over rows that are not zero.
struct Coarseness {
  double one_plane = 0, two_planes = 0;
};

inline Coarseness check_planes(const Matrix& matrix, const Prepared& set) {
  const Planes planes = fetch_planes(set);
  const std::int64_t depth = set.depth(), rotated = set.rotation().depth();
  CHECK_EQUAL(std::exp2(std::ilogb(set.unit())), set.unit());
  Coarseness worst;
  Wide largest = 0;
  for (const Part& part : set.parts()) {
    for (std::int64_t slot = part.begin; slot < part.begin + part.tiles() * cuda::kTileRows;
         ++slot) {
      const std::int8_t* q = planes.high.data() + slot * depth;
      const std::int8_t* l = planes.low.empty() ? nullptr : planes.low.data() + slot * depth;
      std::vector<Wide> z(static_cast<std::size_t>(depth), 0);
      const bool counts = !part.outlying && slot < part.end;
      Wide sq_norm = 0;
      if (counts) {
        const double* row = matrix.row(set.groups().first[set.group_of_slot()[slot]]);
        std::vector<Wide> w(static_cast<std::size_t>(matrix.d));
        for (std::int64_t i = 0; i < matrix.d; ++i) {
          w[i] = (static_cast<Wide>(row[i]) - part.centre[i]) * set.unit();
          sq_norm += w[i] * w[i];
        }
        z = rotate(set.rotation(), w);
        z.resize(static_cast<std::size_t>(depth), 0);
      } else {
        CHECK(planes.square[slot] == 0 && planes.error[slot] == 0 && planes.scale[slot] == 0);
      }
      const Wide norm = std::sqrt(sq_norm), s = planes.scale[slot];
      const double small = static_cast<double>(norm) * 0x1p-18;
      largest = std::max(largest, norm);
      CHECK_EQUAL(static_cast<double>(static_cast<float>(planes.scale[slot])), planes.scale[slot]);
      Wide residual = 0, size = 0, fine_residual = 0, fine_size = 0, low_size = 0;
      int lowest = 0;
      for (std::int64_t j = 0; j < depth; ++j) {
        const Wide coarse = s * q[j], rest = l ? s * l[j] / 254 : 0, fine = coarse + rest;
        if (j >= rotated || !counts) CHECK(q[j] == 0 && (!l || l[j] == 0));
        lowest = std::min({lowest, static_cast<int>(q[j]), l ? static_cast<int>(l[j]) : 0});
        residual += (z[j] - coarse) * (z[j] - coarse);
        size += coarse * coarse;
        fine_residual += (z[j] - fine) * (z[j] - fine);
        fine_size += fine * fine;
        low_size += rest * rest;
      }
      CHECK(lowest >= -127);
      check_bound(planes.magnitude[slot], std::sqrt(size), 1e-14, 0);
      check_bound(planes.error[slot], std::sqrt(residual), 1e-3, small);
      CHECK_AT_MOST(std::fabs(static_cast<double>(planes.square[slot] - sq_norm)),
                    static_cast<double>(sq_norm) * 1e-12);
      if (l) {
        check_bound(planes.fine_magnitude[slot], std::sqrt(fine_size), 1e-14, 0);
        check_bound(planes.fine_error[slot], std::sqrt(fine_residual), 1e-3, small);
        check_bound(planes.fine_low[slot], std::sqrt(low_size), 1e-14, 0);
      }
      if (s > 0) {
        worst.one_plane =
            std::max(worst.one_plane, static_cast<double>(std::sqrt(residual) / norm));
        worst.two_planes =
            std::max(worst.two_planes, static_cast<double>(std::sqrt(fine_residual) / norm));
      }
    }
  }
  CHECK(largest <= 0x1p40L);
  if (largest > 0 && set.parts().size() == 1) {
    CHECK(largest * 2 * std::sqrt(static_cast<Wide>(matrix.n)) >= 0x1p39L);
  }
  return worst;
}

// Everything about one set, on every path that quantises.
inline Coarseness check_set(const Matrix& matrix) {
  const DeviceMatrix device(matrix, stream());
  Prepared set(device.view, Path::int8, stream());
  make_ready(set);
  CHECK(set.path() == Path::int8);
  check_groups(matrix, set);
  check_slots(set);
  check_centre(matrix, set);
  CHECK(set.view().low == nullptr);
  check_planes(matrix, set);
  const Planes before = fetch_planes(set);
  const std::int64_t bytes = set.nbytes();
  set.refine();
  CHECK(set.nbytes() >= bytes + set.slots() * set.depth());
  const std::int8_t* low = set.view().low;
  set.refine();
  CHECK(set.view().low == low);
  const Coarseness worst = check_planes(matrix, set);
  const Planes after = fetch_planes(set);
  CHECK(before.high == after.high && before.scale == after.scale && before.error == after.error);

  Prepared fine(device.view, Path::fine, stream());
  CHECK_EQUAL(fine.advance(1e9), 1.0);
  const Planes both = fetch_planes(fine);
  CHECK(both.high == after.high && both.low == after.low && both.scale == after.scale);
  CHECK(both.error == after.error && both.fine_error == after.fine_error);
  CHECK(both.fine_low == after.fine_low && both.fine_magnitude == after.fine_magnitude);
  return worst;
}

// What is not quantised has groups, slots and one centre all the same.
inline void check_plain(const Matrix& matrix, Path asked, Path path) {
  const DeviceMatrix device(matrix, stream());
  Prepared set(device.view, asked, stream());
  make_ready(set);
  CHECK(set.path() == path);
  check_groups(matrix, set);
  check_slots(set);
  check_centre(matrix, set);
  set.refine();
  const PreparedView view = set.view();
  CHECK(view.high == nullptr && view.low == nullptr && view.scale == nullptr);
}

}  // namespace fastgen::test
