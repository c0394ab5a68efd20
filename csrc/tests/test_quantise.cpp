// The way of a row to int8, for every instruction set: the rotation is orthogonal, and what is
// stored beside the bytes really bounds what they leave out.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "common/rotation.hpp"
#include "cpu/kernels.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cpu::Kernels;

double norm_of(const std::vector<double>& v) {
  long double sum = 0;
  for (const double value : v) sum += static_cast<long double>(value) * value;
  return static_cast<double>(std::sqrt(sum));
}

double dot_of(const std::vector<double>& a, const std::vector<double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<long double>(a[i]) * b[i];
  return static_cast<double>(sum);
}

void rotation_is_orthogonal() {
  Random random(1);
  for (const std::int64_t d : {1, 3, 63, 64, 65, 100, 129, 192, 200, 768, 1000, 2048, 3000, 4095}) {
    const About about("d=" + std::to_string(d));
    const Rotation rotation(d);
    CHECK(rotation.depth() >= d && rotation.depth() < d + 64 && rotation.depth() % 64 == 0);
    CHECK(rotation.depth() % rotation.block() == 0 &&
          (rotation.block() & (rotation.block() - 1)) == 0 &&
          rotation.depth() / rotation.block() % 2 == 1);
    CHECK((rotation.source() == nullptr) == (rotation.block() == rotation.depth()));
    if (rotation.source()) {
      std::vector<int> used(d, 0);
      for (std::int64_t j = 0; j < rotation.depth(); ++j) {
        const std::int32_t from = rotation.source()[j];
        CHECK(from >= -1 && from < d);
        if (from >= 0) ++used[from];
      }
      CHECK_ARRAYS(used, std::vector<int>(d, 1));
    }
    const std::vector<double> a = normals(random, d), b = normals(random, d);
    const std::vector<double> ra = rotation.apply(a), rb = rotation.apply(b);
    CHECK_EQUAL(static_cast<std::int64_t>(ra.size()), rotation.depth());
    const double size = norm_of(a) * norm_of(b);
    CHECK_AT_MOST(std::fabs(norm_of(ra) - norm_of(a)), 1e-13 * norm_of(a));
    CHECK_AT_MOST(std::fabs(dot_of(ra, rb) - dot_of(a, b)), 1e-13 * size);
  }
}

struct Quantised {
  std::vector<std::uint8_t> bytes;
  double scale, magnitude, error, square;
};

Quantised quantise(const Kernels& kernels, const Rotation& rotation, const Matrix& row,
                   const std::vector<double>& centre, double unit) {
  Quantised out{std::vector<std::uint8_t>(rotation.depth()), -1, -1, -1, -1};
  std::vector<double> centred(row.d);
  std::vector<float> rotated(rotation.depth());
  cpu::QuantiseRow task{};
  task.row = row.bytes.data();
  task.dtype = row.dtype;
  task.d = row.d;
  task.depth = rotation.depth();
  task.centre = centre.data();
  task.signs = rotation.signs();
  task.source = rotation.source();
  task.block = rotation.block();
  task.unit = unit;
  task.centred = centred.data();
  task.rotated = rotated.data();
  task.quantised = out.bytes.data();
  kernels.quantise(&task);
  out.scale = task.scale;
  out.magnitude = task.magnitude;
  out.error = task.error;
  out.square = task.square;
  return out;
}

// Checks the stored bounds of one row against float64; the residual relative to the row.
double check_row(const Kernels& kernels, const Matrix& row, const std::vector<double>& centre,
                 double unit) {
  const Rotation rotation(row.d);
  const Quantised got = quantise(kernels, rotation, row, centre, unit);
  std::vector<double> centred(row.d);
  for (std::int64_t i = 0; i < row.d; ++i) centred[i] = (row.values[i] - centre[i]) * unit;
  const std::vector<double> z = rotation.apply(centred);
  const double norm = norm_of(centred);
  long double sq_residual = 0, sq_levels = 0;
  CHECK(*std::min_element(got.bytes.begin(), got.bytes.end()) >= 1);  // levels from -127
  for (std::size_t j = 0; j < z.size(); ++j) {
    const int level = static_cast<int>(got.bytes[j]) - 128;
    const long double residual = z[j] - static_cast<long double>(got.scale) * level;
    sq_residual += residual * residual;
    sq_levels += static_cast<long double>(level) * level;
  }
  const double residual = static_cast<double>(std::sqrt(sq_residual));
  CHECK_AT_MOST(residual, got.error);
  CHECK_AT_MOST(static_cast<double>(got.scale * std::sqrt(sq_levels)), got.magnitude);
  CHECK_AT_MOST(got.magnitude, static_cast<double>(got.scale * std::sqrt(sq_levels)) * (1 + 1e-14));
  CHECK_AT_MOST(std::fabs(got.square - norm * norm), 1e-12 * norm * norm);
  // Float32 holds the scale, and the bound is close to the residual, or it would help no one.
  CHECK_EQUAL(static_cast<double>(static_cast<float>(got.scale)), got.scale);
  CHECK_AT_MOST(got.error, residual * (1 + 1e-3) + 0x1p-18 * norm);
  return norm > 0 ? residual / norm : 0.0;
}

std::vector<double> make_row(Random& random, const std::string& kind, std::int64_t d,
                             const Rotation& rotation) {
  std::vector<double> x = normals(random, d);
  for (std::int64_t i = 0; i < d; ++i) {
    double& value = x[i];
    if (kind == "heavy tails") value = std::pow(std::fabs(value), 5) * (value < 0 ? -1 : 1);
    if (kind == "sparse" && random.below(10) != 0) value = 0;
    if (kind == "zero") value = 0;
    if (kind == "one feature") value = i == d / 2 ? 3.0 : 0.0;
    // The rotation turns its own signs into a spike: the worst case for one step per row.
    if (kind == "spike") value = (rotation.signs()[i] > 0 ? 1.0 : -1.0) + 1e-2 * value;
    if (kind == "flat spike") value = (rotation.signs()[i] > 0 ? 0.3 : -0.3) + value;
  }
  return x;
}

void bounds_hold() {
  const std::vector<std::int64_t> widths =
      kEmulated ? std::vector<std::int64_t>{1, 17, 64, 129, 768}
                : std::vector<std::int64_t>{1, 2, 3, 9, 17, 63, 64, 65, 100, 129, 192, 768, 2048};
  for (const char* kind :
       {"normal", "heavy tails", "sparse", "zero", "one feature", "spike", "flat spike"}) {
    for (const std::int64_t d : widths) {
      const Rotation rotation(d);
      for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
        Random random(static_cast<std::uint64_t>(d));
        const Matrix row = make_matrix(make_row(random, kind, d, rotation), d, dtype);
        const std::vector<double> centres[] = {std::vector<double>(d, 0.0),
                                               normals(random, d, 0.3)};
        for (const std::vector<double>& centre : centres) {
          for (const Kernels* k : all_kernels()) {
            // Units of 2^40 are the largest rows of a set; 2^-20 and less are as good as zero.
            for (const double unit : {1.0, 0x1p33, 0x1p-9, 0x1p-19, 0x1p-24, 0x1p-200}) {
              const About about(std::string(k->name) + " " + kind + " " + name_of(dtype) +
                                " d=" + std::to_string(d) + " unit=" + show(unit));
              const double residual = check_row(*k, row, centre, unit);
              if (std::string(kind) == "normal" && unit >= 1.0) CHECK_AT_MOST(residual, 0.012);
            }
          }
        }
      }
    }
  }
}

void zero_rows() {
  Random random(3);
  const std::int64_t d = 100;
  const Rotation rotation(d);
  const Matrix row = make_matrix(normals(random, d), d, DType::float64);
  for (const Kernels* k : all_kernels()) {
    const About about(k->name);
    const Quantised got = quantise(*k, rotation, row, row.values, 0x1p30);  // the row is the centre
    CHECK_EQUAL(got.scale, 0.0);
    CHECK_EQUAL(got.magnitude, 0.0);
    CHECK_EQUAL(got.error, 0.0);
    CHECK_EQUAL(got.square, 0.0);
    CHECK(got.bytes == std::vector<std::uint8_t>(rotation.depth(), 128));
  }
}

// Far from zero and in extreme units: the exact power of two is all that tells rows apart.
void extreme_units() {
  Random random(4);
  const std::int64_t d = 192;
  for (const int exponent : {-410, -300, -100, 100, 300, 500}) {
    const double size = std::ldexp(1.0, exponent);
    std::vector<double> x = normals(random, d, size), centre = normals(random, d, size);
    const Matrix row = make_matrix(x, d, DType::float64);
    for (const Kernels* k : all_kernels()) {
      const About about(std::string(k->name) + " 2^" + std::to_string(exponent));
      CHECK_AT_MOST(check_row(*k, row, centre, std::ldexp(1.0, 34 - exponent)), 0.012);
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"rotation_is_orthogonal", rotation_is_orthogonal},
                    {"bounds_hold", bounds_hold},
                    {"zero_rows", zero_rows},
                    {"extreme_units", extreme_units}},
                   argc, argv);
}
