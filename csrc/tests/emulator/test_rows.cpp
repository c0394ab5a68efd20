// Rows on a device against plain C++: conversion of every element and layout, picking, checking,
// copies between devices, and uploads through page-locked buffers that must not be filled too early.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cuda/events.hpp"
#include "cuda/rows.hpp"
#include "cuda/upload.hpp"
#include "tests/check.hpp"

namespace fastgen::test {
namespace {

using cuda::DeviceBuffer;
using cuda::Element;
using cuda::Rows;
using cuda::Stream;
using cuda::Upload;

struct Random {
  std::uint64_t state = 1;
  std::uint64_t bits() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 11;
  }
};

// Bytes of a matrix on a device, and what its numbers are.
struct Source {
  Source(Element element, std::int64_t n, std::int64_t d, const Stream& stream) {
    const std::int64_t size = cuda::element_size(element);
    Random random{static_cast<std::uint64_t>(n * 1000 + d)};
    bytes.resize(static_cast<std::size_t>(n * d * size));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<unsigned char>(random.bits());
      // No infinities: the high byte of a float is its last.
      const bool high = i % static_cast<std::size_t>(size) == static_cast<std::size_t>(size) - 1;
      if (high && element <= Element::bfloat16) bytes[i] &= 0xb3;
    }
    device = cuda::uploaded(bytes, stream, "a test");
    matrix = {device.data(), element, n, d, d * size, size};
  }
  double number(std::int64_t place) const {
    const unsigned char* at = bytes.data() + place * cuda::element_size(matrix.element);
    const auto as = [&](auto value) {
      std::memcpy(&value, at, sizeof(value));
      return static_cast<double>(value);
    };
    switch (matrix.element) {
      case Element::float16: {
        std::uint16_t bits;
        std::memcpy(&bits, at, 2);
        const int exponent = bits >> 10 & 31, fraction = bits & 1023;
        const double size =
            exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
        return (bits & 0x8000) != 0 ? -size : size;
      }
      case Element::bfloat16: {
        std::uint16_t bits;
        std::memcpy(&bits, at, 2);
        const std::uint32_t wide = std::uint32_t{bits} << 16;
        float value;
        std::memcpy(&value, &wide, 4);
        return value;
      }
      case Element::float32:
        return as(float{});
      case Element::float64:
        return as(double{});
      case Element::int8:
        return as(std::int8_t{});
      case Element::int16:
        return as(std::int16_t{});
      case Element::int32:
        return as(std::int32_t{});
      case Element::int64:
        return as(std::int64_t{});
      case Element::uint8:
        return as(std::uint8_t{});
      case Element::uint16:
        return as(std::uint16_t{});
      case Element::uint32:
        return as(std::uint32_t{});
      case Element::uint64:
        return as(std::uint64_t{});
    }
    return 0;
  }

  std::vector<unsigned char> bytes;
  DeviceBuffer<unsigned char> device;
  cuda::Matrix matrix;
};

std::vector<double> numbers(const Rows& rows) {
  const RowView& view = rows.view();
  const std::size_t count = static_cast<std::size_t>(view.n * view.d);
  std::vector<double> out(count);
  std::vector<unsigned char> bytes(count * static_cast<std::size_t>(item_size(view.dtype)));
  rows.to_host(0, view.n, bytes.data());
  for (std::size_t i = 0; i < count; ++i) {
    if (view.dtype == DType::float64) {
      std::memcpy(&out[i], bytes.data() + 8 * i, 8);
    } else if (view.dtype == DType::float32) {
      float value;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      out[i] = value;
    } else {
      __half value;
      std::memcpy(&value, bytes.data() + 2 * i, 2);
      out[i] = __half2float(value);
    }
  }
  return out;
}

void test_layouts() {
  const Stream stream = Stream::make(0);
  for (int e = 0; e <= static_cast<int>(Element::uint64); ++e) {
    const auto element = static_cast<Element>(e);
    const std::int64_t n = 37, d = 70;
    const Source source(element, n, d, stream);
    const std::int64_t size = cuda::element_size(element);
    // First row and column, steps of rows and of columns, and whether the two are exchanged.
    const std::int64_t layouts[][5] = {{0, 0, 1, 1, 0},      {1, 3, 2, 1, 0}, {n - 1, 0, -1, 1, 0},
                                       {0, d - 1, 1, -1, 0}, {0, 1, 3, 5, 0}, {0, 0, 1, 1, 1},
                                       {2, 5, 1, 2, 1},      {0, 0, 0, 1, 0}};
    for (const auto& layout : layouts) {
      const About about("element " + std::to_string(e) + ", steps " + std::to_string(layout[2]) +
                        " and " + std::to_string(layout[3]));
      cuda::Matrix matrix = source.matrix;
      matrix.data += (layout[0] * d + layout[1]) * size;
      matrix.row_stride = layout[2] * d * size;
      matrix.column_stride = layout[3] * size;
      matrix.n = layout[2] > 0 ? (n - layout[0]) / layout[2] : layout[2] < 0 ? n : 5;
      matrix.d = layout[3] > 0 ? (d - layout[1]) / layout[3] : d;
      if (layout[4] != 0) {
        std::swap(matrix.n, matrix.d);
        std::swap(matrix.row_stride, matrix.column_stride);
      }
      std::vector<double> want;
      for (std::int64_t i = 0; i < matrix.n; ++i) {
        for (std::int64_t j = 0; j < matrix.d; ++j) {
          const std::int64_t bytes =
              matrix.data - source.matrix.data + i * matrix.row_stride + j * matrix.column_stride;
          want.push_back(source.number(bytes / size));
        }
      }
      const Rows rows(matrix, stream);
      const bool readable = element <= Element::float64 && matrix.column_stride == size;
      CHECK_EQUAL(rows.in_place(), readable);
      CHECK_ARRAYS(numbers(rows), want);
      CHECK_EQUAL(rows.first_bad(std::numeric_limits<double>::max()).not_finite, std::int64_t{-1});
      if (matrix.n < 3) continue;
      const auto from = want.begin() + matrix.d, to = want.begin() + 3 * matrix.d;
      CHECK_ARRAYS(numbers(rows.part(1, 3)), std::vector<double>(from, to));
      const std::int64_t indices[] = {2, 0, 2};
      std::vector<double> picked;
      for (const std::int64_t i : indices) {
        picked.insert(picked.end(), want.begin() + i * matrix.d, want.begin() + (i + 1) * matrix.d);
      }
      CHECK_ARRAYS(numbers(rows.picked(indices, 3)), picked);
      CHECK_ARRAYS(numbers(rows.widened(DType::float64)), want);
    }
  }
}

template <class T>
std::vector<T> plain(std::int64_t n, std::int64_t d) {
  std::vector<T> values(static_cast<std::size_t>(n * d));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i % 1013) - 500;
  return values;
}

template <class T>
void bad_rows_of(DType dtype) {
  const Stream stream = Stream::make(0);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const std::int64_t d : {1, 2, 31, 32, 33, 100}) {
    const std::int64_t n = 300;
    for (const double bad : {infinity, -infinity, std::nan(""), 1e30, -1e30}) {
      std::vector<T> values = plain<T>(n, d);
      values[static_cast<std::size_t>(7 * d + d / 2)] = static_cast<T>(bad);
      values[static_cast<std::size_t>(7 * d)] = static_cast<T>(bad);
      values[static_cast<std::size_t>(280 * d + d - 1)] = static_cast<T>(bad);
      const RowView host{reinterpret_cast<const unsigned char*>(values.data()), dtype, n, d,
                         d * item_size(dtype)};
      Upload upload(host, stream, stream);
      CHECK_EQUAL(upload.advance(1e9), 1.0);
      const cuda::BadRows found = upload.rows().first_bad(1e20);
      CHECK_EQUAL(found.not_finite, std::int64_t{std::isfinite(bad) ? -1 : 7});
      CHECK_EQUAL(found.too_large, std::int64_t{std::isfinite(bad) ? 7 : -1});
      CHECK_EQUAL(upload.rows().part(8, n).first_bad(1e20).not_finite,
                  std::int64_t{std::isfinite(bad) ? -1 : 272});
    }
  }
}

void test_bad_rows() {
  bad_rows_of<float>(DType::float32);
  bad_rows_of<double>(DType::float64);
}

// Rows of 400 KB, so that a piece of an upload has 20 of them: strides, steps, a stream of its own.
void test_uploads() {
  const Stream stream = Stream::make(0), copies = Stream::make(0);
  const std::int64_t n = 50, d = 100'000;
  const std::vector<float> values = plain<float>(n, d);
  const auto* data = reinterpret_cast<const unsigned char*>(values.data());
  const std::int64_t row = d * 4;
  const RowView views[] = {{data, DType::float32, n, d, row},
                           {data + (n - 1) * row, DType::float32, n, d, -row},
                           {data + row + 8, DType::float32, n / 2, d - 5, 2 * row},
                           {data + row, DType::float32, 25, d, 0},
                           {data, DType::float32, 3, d, row}};
  for (const RowView& view : views) {
    for (const Stream* on : {&stream, &copies}) {
      Upload upload(view, stream, *on);
      int steps = 1;
      while (upload.advance(0) < 1) ++steps;
      CHECK_EQUAL(steps, static_cast<int>((view.n + 19) / 20));
      const auto row_bytes = static_cast<std::size_t>(view.d * 4);
      std::vector<unsigned char> got(row_bytes * static_cast<std::size_t>(view.n));
      upload.rows().to_host(0, view.n, got.data());
      for (std::int64_t i = 0; i < view.n; ++i) {
        CHECK(std::memcmp(got.data() + static_cast<std::size_t>(i) * row_bytes, view.row(i),
                          row_bytes) == 0);
      }
    }
  }
  Upload dropped(views[0], stream, copies);
  CHECK(dropped.advance(0) < 1);
}

void test_devices() {
  if (cuda::devices().size() < 2) return;  // FASTGEN_EMULATOR_DEVICES=2
  const Stream here = Stream::make(0), there = Stream::make(1);
  const Source source(Element::int16, 40, 33, here);
  const Rows rows(source.matrix, here);
  for (const Rows& some : {rows, rows.part(3, 30)}) {
    const Rows copy = some.copied(there);
    CHECK_EQUAL(cuda::device_of(copy.view().data), 1);
    CHECK_ARRAYS(numbers(copy), numbers(some));
  }
  cuda::Matrix gaps = source.matrix;
  gaps.element = Element::float16;
  gaps.row_stride *= 2;
  gaps.n /= 2;
  const Rows in_place(gaps, here);
  CHECK_ARRAYS(numbers(in_place.copied(there)), numbers(in_place));
}

void test_places() {
  const Stream stream = Stream::make(0);
  const DeviceBuffer<float> memory(100, stream, "a test");
  stream.synchronize();
  CHECK_EQUAL(cuda::device_of(memory.data() + 7), 0);
  CHECK_EQUAL(cuda::device_of(&stream), -1);
  CHECK(cuda::why_no_device().empty());
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"layouts", test_layouts},
                    {"bad_rows", test_bad_rows},
                    {"uploads", test_uploads},
                    {"devices", test_devices},
                    {"places", test_places}},
                   argc, argv);
}
