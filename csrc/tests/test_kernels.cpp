// Single rows, for every instruction set this CPU can run: conversion, the canonical distance,
// hashes, extremes. Everything here must agree with its definition to the last bit.
#include "cpu/kernels.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/row_checks.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Kernels;

constexpr std::int64_t kWidths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100, 768, 2048};
constexpr DType kTypes[] = {DType::float16, DType::float32, DType::float64};
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string describe(const Kernels& k, DType dtype, std::int64_t d) {
  return std::string(k.name) + " " + name_of(dtype) + " d=" + std::to_string(d);
}

// A row in a heap block of exactly its size, so that the sanitizer sees any read beyond it.
std::vector<unsigned char> exact_row(const std::vector<double>& values, DType dtype) {
  std::vector<unsigned char> bytes(values.size() * static_cast<std::size_t>(item_size(dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    store(values[i], dtype, bytes.data() + i * static_cast<std::size_t>(item_size(dtype)));
  }
  return bytes;
}

void instruction_sets() {
  const std::vector<std::string> names = cpu::instruction_sets();
  CHECK(!names.empty());
  CHECK_EQUAL(names.back(), std::string("portable"));
  for (const std::string& name : names) CHECK(name == cpu::select_kernels(name).name);
  CHECK_THROWS(cpu::select_kernels("no such set"), std::invalid_argument);
  for (const Kernels* k : all_kernels()) {
    const About about(k->name);
    CHECK(k->int8_panel > 0 && cpu::kMaxBlockColumns % k->int8_panel == 0);
    CHECK(k->float_panel > 0 && cpu::kMaxBlockColumns % k->float_panel == 0);
    CHECK(k->peak_int8(3) > 0);
    CHECK(k->peak_float(3) > 0);
  }
}

void halves() {
  std::vector<std::uint16_t> bits(65536);
  std::vector<double> want(65536);
  for (int i = 0; i < 65536; ++i) {
    bits[i] = static_cast<std::uint16_t>(i);
    want[i] = half_value(bits[i]);
  }
  for (const Kernels* k : all_kernels()) {
    const About about(k->name);
    std::vector<double> got(65536);
    k->to_double(bits.data(), DType::float16, 65536, got.data());
    CHECK_ARRAYS(got, want);
    // One at a time: the way through the tail of a row.
    for (int i = 0; i < 65536; i += 7) k->to_double(&bits[i], DType::float16, 1, &got[i]);
    CHECK_ARRAYS(got, want);
  }
  // The tests' own rounding to half, which other tests rely on, is exact on halves.
  for (int i = 0; i < 65536; ++i) {
    if (std::isfinite(want[i])) CHECK_EQUAL(static_cast<int>(to_half(want[i])), i);
  }
}

void singles_and_doubles() {
  Random random(1);
  std::vector<float> singles;
  std::vector<double> wide, doubles;
  while (singles.size() < 20011) {
    const std::uint64_t word = random.bits();
    const std::uint32_t half_word = static_cast<std::uint32_t>(word);
    float single;
    double value;
    std::memcpy(&single, &half_word, 4);
    std::memcpy(&value, &word, 8);
    if (!std::isfinite(single) || !std::isfinite(value)) continue;
    singles.push_back(singles.size() % 5 ? single : single * 0x1p-140f);  // subnormals among them
    wide.push_back(static_cast<double>(singles.back()));
    doubles.push_back(value);
  }
  const std::int64_t n = static_cast<std::int64_t>(singles.size());
  for (const Kernels* k : all_kernels()) {
    const About about(k->name);
    std::vector<double> got(singles.size());
    k->to_double(singles.data(), DType::float32, n, got.data());
    CHECK_ARRAYS(got, wide);
    k->to_double(doubles.data(), DType::float64, n, got.data());
    CHECK_ARRAYS(got, doubles);
  }
}

// Rows whose values, differences or squared differences are ordinary, subnormal, huge or mixed.
std::vector<double> flavoured(Random& random, const std::string& flavour, DType dtype,
                              std::int64_t d) {
  const int range = dtype == DType::float16 ? 15 : dtype == DType::float32 ? 126 : 500;
  const int least = dtype == DType::float16 ? -24 : dtype == DType::float32 ? -149 : -1074;
  std::vector<double> values(static_cast<std::size_t>(d));
  for (double& value : values) {
    if (flavour == "normal") value = random.normal();
    if (flavour == "huge") value = std::ldexp(random.normal() / 8, range);
    if (flavour == "subnormal") value = std::ldexp(random.normal() * 300, least);
    if (flavour == "small squares") value = std::ldexp(random.normal(), std::max(least, -533));
    if (flavour == "mixed") {
      value = std::ldexp(random.normal(), static_cast<int>(random.below(range + 1)) - range / 2);
    }
    if (flavour == "zeros") value = random.below(2) ? 0.0 : -0.0;
  }
  return values;
}

void distances() {
  Random random(2);
  for (const char* flavour : {"normal", "huge", "subnormal", "small squares", "mixed", "zeros"}) {
    for (const DType dtype : kTypes) {
      for (const std::int64_t d : kWidths) {
        const std::vector<double> x_values = flavoured(random, flavour, dtype, d);
        const std::vector<double> y_values = flavoured(random, flavour, dtype, d);
        const Matrix x = make_matrix(x_values, d, dtype), y = make_matrix(y_values, d, dtype);
        const std::vector<unsigned char> y_row = exact_row(y_values, dtype);
        const double want = canonical(x.row(0), y.row(0), d);
        for (const Kernels* k : all_kernels()) {
          const About about(describe(*k, dtype, d) + " " + flavour);
          CHECK_EQUAL(k->sq_distance(x.row(0), y_row.data(), dtype, d), want);
          CHECK_EQUAL(k->sq_distance(y.row(0), x.bytes.data(), dtype, d), want);  // symmetric
          CHECK_EQUAL(k->sq_distance(y.row(0), y_row.data(), dtype, d), 0.0);     // +0, never -0
        }
      }
    }
  }
}

void pair_distances() {
  Random random(3);
  const std::int64_t n = 40, m = 30, d = 33, count = 9000;  // more than two tasks of pairs
  const Matrix x = make_matrix(normals(random, n * d), d, DType::float16, Layout::reversed);
  const Matrix y = make_matrix(normals(random, m * d), d, DType::float64, Layout::padded);
  std::vector<std::int64_t> i(count), j(count);
  std::vector<double> want(count);
  for (std::int64_t p = 0; p < count; ++p) {
    i[p] = random.below(n);
    j[p] = random.below(m);
    want[p] = canonical(x.row(i[p]), y.row(j[p]), d);
  }
  for (const Kernels* k : all_kernels()) {
    for (int threads = 1; threads <= 4; ++threads) {
      const About about(k->name);
      std::vector<double> got(count);
      cpu::pair_sq_distances(x.view(), y.view(), i.data(), j.data(), count, *k, threads,
                             got.data());
      CHECK_ARRAYS(got, want);
    }
  }
  i[1234] = n;
  std::vector<double> got(count);
  CHECK_THROWS(cpu::pair_sq_distances(x.view(), y.view(), i.data(), j.data(), count,
                                      *all_kernels()[0], 1, got.data()),
               std::logic_error);
}

void largest_magnitudes() {
  Random random(4);
  for (const DType dtype : kTypes) {
    for (const std::int64_t d : kWidths) {
      std::vector<double> values = normals(random, d);
      std::vector<std::int64_t> places;
      for (std::int64_t i = 0; i < d; i += d <= 100 ? 1 : 1 + random.below(60)) places.push_back(i);
      if (places.back() != d - 1) places.push_back(d - 1);
      for (const std::int64_t place : places) {
        const double kept = values[place];
        for (const double extreme : {40.0, -40.0, kInfinity, -kInfinity, kNaN}) {
          values[place] = extreme;
          std::vector<unsigned char> row = exact_row(values, dtype);
          if (dtype == DType::float16 && !std::isfinite(extreme)) {
            const std::uint16_t bits = std::isnan(extreme) ? 0x7e01 : extreme > 0 ? 0x7c00 : 0xfc00;
            std::memcpy(row.data() + 2 * place, &bits, 2);
          }
          for (const Kernels* k : all_kernels()) {
            const About about(describe(*k, dtype, d));
            const double got = k->largest_magnitude(row.data(), dtype, d);
            CHECK(std::isfinite(extreme) ? got == 40.0 : !std::isfinite(got));
          }
        }
        values[place] = kept;
      }
    }
  }
  const double largest[] = {-std::numeric_limits<double>::max(), 5e-324, 0.0};
  for (const Kernels* k : all_kernels()) {
    CHECK_EQUAL(k->largest_magnitude(largest, DType::float64, 3), -largest[0]);
    CHECK_EQUAL(k->largest_magnitude(largest + 1, DType::float64, 2), 5e-324);
    CHECK_EQUAL(k->largest_magnitude(largest + 2, DType::float64, 1), 0.0);
  }
}

void first_bad_rows() {
  Random random(5);
  const std::int64_t n = 1500, d = 19;  // several tasks of rows
  Matrix x = make_matrix(normals(random, n * d), d, DType::float64);
  const auto put = [&](std::int64_t row, double value) {
    std::memcpy(x.bytes.data() + row * x.stride + 8 * (row % d), &value, 8);
  };
  put(307, 2e6);
  put(309, -3e6);
  put(1000, kNaN);
  put(1400, kInfinity);
  for (const Kernels* k : all_kernels()) {
    for (const int threads : {1, 3}) {
      const About about(std::string(k->name) + " " + std::to_string(threads) + " threads");
      const auto found = [&](std::int64_t start, std::int64_t stop) {
        return cpu::first_bad_rows(x.view(), start, stop, 1e6, *k, threads);
      };
      CHECK_EQUAL(found(0, n).not_finite, std::int64_t{1000});
      CHECK_EQUAL(found(0, n).too_large, std::int64_t{307});
      CHECK_EQUAL(found(308, 1000).not_finite, std::int64_t{-1});
      CHECK_EQUAL(found(308, 1000).too_large, std::int64_t{309});
      CHECK_EQUAL(found(1001, n).not_finite, std::int64_t{1400});
      CHECK_EQUAL(found(1401, n).not_finite, std::int64_t{-1});
      CHECK_EQUAL(found(1001, n).too_large, std::int64_t{-1});
      CHECK_EQUAL(found(7, 7).not_finite, std::int64_t{-1});
    }
  }
}

void scans_and_equality() {
  Random random(6);
  for (const DType dtype : kTypes) {
    for (const std::int64_t d : kWidths) {
      std::vector<double> values = normals(random, d);
      values[random.below(d)] = 0.0;
      std::vector<double> negated = values;  // the same values with -0 for +0
      for (double& value : negated) value = value == 0 ? -0.0 : value;
      const Matrix x = make_matrix(values, d, dtype);
      const std::vector<unsigned char> row = exact_row(values, dtype),
                                       twin = exact_row(negated, dtype);
      for (const Kernels* k : all_kernels()) {
        const About about(describe(*k, dtype, d));
        std::vector<double> sum(d, 0.25), low(d, -0.5), high(d, 0.5), want_sum, want_low, want_high;
        for (std::int64_t i = 0; i < d; ++i) {
          want_sum.push_back(0.25 + x.values[i]);
          want_low.push_back(std::fmin(-0.5, x.values[i]));
          want_high.push_back(std::fmax(0.5, x.values[i]));
        }
        const std::uint64_t hash =
            k->scan_row(row.data(), dtype, d, sum.data(), low.data(), high.data());
        CHECK_ARRAYS(sum, want_sum);
        CHECK_ARRAYS(low, want_low);
        CHECK_ARRAYS(high, want_high);
        const auto hash_of = [&](const std::vector<unsigned char>& other) {
          return k->scan_row(other.data(), dtype, d, sum.data(), low.data(), high.data());
        };
        CHECK_EQUAL(hash_of(twin), hash);
        CHECK(k->equal_rows(row.data(), twin.data(), dtype, d));
        for (std::int64_t i = 0; i < d; i += 1 + d / 40) {
          std::vector<double> changed = values;
          changed[i] += dtype == DType::float16 ? 1.0 : 1e-5;
          const std::vector<unsigned char> other = exact_row(changed, dtype);
          CHECK(hash_of(other) != hash);
          CHECK(!k->equal_rows(row.data(), other.data(), dtype, d));
        }
      }
    }
  }
}

void dots() {
  Random random(7);
  for (const std::int64_t d : kWidths) {
    const std::int64_t depth = (d + 63) / 64 * 64;
    const std::vector<double> x = normals(random, d), c = normals(random, d),
                              y = normals(random, depth);
    std::vector<std::uint8_t> q(depth);
    for (std::uint8_t& value : q) value = static_cast<std::uint8_t>(1 + random.below(255));
    long double dot = 0, size = 0, q_dot = 0, q_size = 0;
    std::vector<float> want(d);
    for (std::int64_t i = 0; i < d; ++i) {
      const long double term = (static_cast<long double>(x[i]) - c[i]) * y[i];
      dot += term;
      size += std::fabs(term);
      want[i] = static_cast<float>((x[i] - c[i]) * 0x1p7);
    }
    for (std::int64_t i = 0; i < depth; ++i) {
      const long double term = (static_cast<long double>(q[i]) - 128) * y[i];
      q_dot += term;
      q_size += std::fabs(term);
    }
    const double first = all_kernels()[0]->centred_dot(x.data(), c.data(), y.data(), d);
    const double q_first = all_kernels()[0]->quantised_dot(q.data(), y.data(), depth);
    for (const Kernels* k : all_kernels()) {
      const About about(describe(*k, DType::float64, d));
      const double got = k->centred_dot(x.data(), c.data(), y.data(), d);
      CHECK_AT_MOST(static_cast<double>(std::fabs(got - dot)), 1e-14 * static_cast<double>(size));
      CHECK_EQUAL(got, first);
      const double q_got = k->quantised_dot(q.data(), y.data(), depth);
      CHECK_AT_MOST(static_cast<double>(std::fabs(q_got - q_dot)),
                    1e-14 * static_cast<double>(q_size));
      CHECK_EQUAL(q_got, q_first);
      std::vector<float> floats(d);
      k->centre_to_float(x.data(), c.data(), 0x1p7, d, floats.data());
      CHECK_ARRAYS(floats, want);
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"instruction_sets", instruction_sets},
                    {"halves", halves},
                    {"singles_and_doubles", singles_and_doubles},
                    {"distances", distances},
                    {"pair_distances", pair_distances},
                    {"largest_magnitudes", largest_magnitudes},
                    {"first_bad_rows", first_bad_rows},
                    {"scans_and_equality", scans_and_equality},
                    {"dots", dots}},
                   argc, argv);
}
