// Rows made ready on a device, against plain arithmetic on the host, over widths, types, layouts and scales.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/check.hpp"
#include "tests/emulator/prepared_sets.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

std::vector<double> make_values(Random& random, const std::string& kind, std::int64_t n,
                                std::int64_t d) {
  std::vector<double> x = normals(random, n * d);
  const Rotation rotation(d);
  for (std::int64_t i = 0; i < n * d; ++i) {
    double& value = x[i];
    if (kind == "heavy tails") value = std::pow(std::fabs(value), 5) * (value < 0 ? -1 : 1);
    if (kind == "sparse" && random.below(10) != 0) value = random.below(2) ? 0.0 : -0.0;
    if (kind == "spike")
      value = (rotation.signs()[i % d] > 0 ? 1 : -1) * (i / d % 3 + 1) + 1e-2 * value;
    if (kind == "far away") value += 1000;
    if (kind == "columns apart") value *= std::exp2(static_cast<double>(i % d % 13) - 6);
  }
  // Copies, some of them of rows that are copies.
  for (std::int64_t i = 0; kind != "normal" && i < n; ++i) {
    if (i % 4 == 3) std::copy_n(x.begin() + i / 2 * d, d, x.begin() + i * d);
  }
  return x;
}

void widths_and_types() {
  const Layout layouts[] = {Layout::dense, Layout::padded, Layout::reversed};
  int turn = 0;
  for (const std::int64_t d : {1, 2, 15, 16, 17, 64, 65, 100, 128, 192, 768, 2048, 2112}) {
    for (const char* kind :
         {"normal", "heavy tails", "sparse", "spike", "far away", "columns apart"}) {
      for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
        if (d >= 768 && ++turn % 3 != 0) continue;
        const Layout layout = layouts[++turn / 2 % 3];
        const About about(std::string(kind) + " " + name_of(dtype) + " d=" + std::to_string(d) +
                          " layout " + std::to_string(static_cast<int>(layout)));
        Random random(static_cast<std::uint64_t>(d + turn));
        const std::int64_t n = d >= 768 ? 9 : 20;
        const Matrix matrix = make_matrix(make_values(random, kind, n, d), d, dtype, layout);
        const Coarseness worst = check_set(matrix);
        if (std::string(kind) == "normal" && d > 1) {
          CHECK_AT_MOST(worst.one_plane, 0.013);
          CHECK_AT_MOST(worst.two_planes, 0.013 / 200);
        }
        if (d <= 128) check_plain(matrix, Path::exact, Path::exact);
        if (d <= cuda::kDirectFeatures) check_plain(matrix, Path::automatic, Path::direct);
      }
    }
  }
}

// One more size for each way of holding a row: 8 warps in shared memory, scratch memory.
void wide_rows() {
  Random random(5);
  for (const std::int64_t d : {512, 513, 4096, 4097, 8192, 12345, 16384, 16385, 20480, 32768}) {
    const About about("d=" + std::to_string(d));
    const Matrix matrix = make_matrix(make_values(random, "far away", 3, d), d, DType::float32);
    const Coarseness worst = check_set(matrix);
    CHECK_AT_MOST(worst.one_plane, 0.02);
    CHECK_AT_MOST(worst.two_planes, 0.02 / 200);
  }
  for (const std::int64_t d : {65536, 131071}) {
    const About about("d=" + std::to_string(d));
    CHECK_AT_MOST(check_set(make_matrix(normals(random, 2 * d), d, DType::float16)).one_plane,
                  0.02);
  }
  check_plain(make_matrix(normals(random, 2 * 131073), 131073, DType::float32), Path::fine,
              Path::exact);
}

void many_rows() {
  Random random(6);
  // More rows than blocks of 128 rows serve, and far more than a block of threads.
  std::vector<double> x = normals(random, 2 * 70000);
  for (double& value : x) value = std::nearbyint(value * 40);
  for (const DType dtype : {DType::float16, DType::float64}) {
    check_plain(make_matrix(x, 2, dtype), Path::automatic, Path::direct);
  }
  const Matrix matrix = make_matrix(normals(random, 1500 * 5), 5, DType::float32);
  check_set(matrix);
}

void degenerate_sets() {
  Random random(7);
  for (const std::int64_t d : {1, 16, 17, 100, 768}) {
    const About about("d=" + std::to_string(d));
    const std::vector<double> row = normals(random, d);
    std::vector<double> equal;
    for (int i = 0; i < 300; ++i) equal.insert(equal.end(), row.begin(), row.end());
    for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
      check_set(make_matrix(row, d, dtype));                              // one row
      check_set(make_matrix(equal, d, dtype));                            // all the same
      check_set(make_matrix(std::vector<double>(3 * d, 0.0), d, dtype));  // zeros
      check_plain(make_matrix(equal, d, dtype), Path::exact, Path::exact);
    }
    // A row at the mean of the others, to the last bit.
    std::vector<double> cross(3 * d, 0.0);
    for (std::int64_t j = 0; j < d; ++j) {
      cross[j] = std::nearbyint(100 * row[j]);
      cross[2 * d + j] = -cross[j];
    }
    check_set(make_matrix(cross, d, DType::float32));
  }
}

void extreme_scales() {
  Random random(8);
  for (const std::int64_t d : {3, 40, 200}) {
    for (const int exponent : {-1074, -1060, -1022, -500, -440, -300, 300, 500}) {
      const About about("d=" + std::to_string(d) + " 2^" + std::to_string(exponent));
      std::vector<double> x = normals(random, 12 * d);
      for (double& value : x) value = std::ldexp(std::nearbyint(value * 64), exponent - 6);
      const Matrix matrix = make_matrix(x, d, DType::float64);
      if (exponent < -450) {
        check_plain(matrix, Path::int8, Path::exact);
      } else {
        check_set(matrix);
      }
    }
    // Subnormal numbers of the narrower types; rows of very different size side by side.
    check_set(make_matrix(normals(random, 12 * d, 0x1p-20), d, DType::float16));
    check_set(make_matrix(normals(random, 12 * d, 0x1p-140), d, DType::float32));
    std::vector<double> mixed = normals(random, 30 * d);
    for (std::int64_t i = 0; i < 30 * d; ++i) mixed[i] = std::ldexp(mixed[i], -4 * (i / d % 30));
    check_set(make_matrix(mixed, d, DType::float64));
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"degenerate_sets", degenerate_sets},
                    {"widths_and_types", widths_and_types},
                    {"wide_rows", wide_rows},
                    {"many_rows", many_rows},
                    {"extreme_scales", extreme_scales}},
                   argc, argv);
}
