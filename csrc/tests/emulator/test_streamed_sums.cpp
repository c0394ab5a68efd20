// Kernel sums of rows that stay on the host: the same to the last bit as of rows on the device.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/row_source.hpp"
#include "cuda/sum_rows.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/emulator/device_sums.hpp"
#include "tests/rows.hpp"
#include "tests/sum_problems.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {
namespace {

// Rows in any order, of which the page-locked buffers take two at a time.
void picked() {
  Random random(3);
  const std::int64_t n = 6, d = 450000;
  const Matrix x = make_matrix(normals(random, n * d), d, DType::float64, Layout::reversed);
  const cuda::Stream stream = cuda::Stream::make(0);
  const std::vector<std::int32_t> order = {4, 0, 5, 5, 1, 4, 2};
  const cuda::Rows rows = cuda::RowSource(x.view(), true, stream).picked(order);
  CHECK_EQUAL(rows.view().n, static_cast<std::int64_t>(order.size()));
  Values found(static_cast<std::size_t>(rows.view().n * d));
  rows.to_host(0, rows.view().n, found.data());
  for (std::size_t i = 0; i < order.size(); ++i) {
    CHECK(std::memcmp(found.data() + static_cast<std::int64_t>(i) * d, x.view().row(order[i]),
                      static_cast<std::size_t>(d) * 8) == 0);
  }
}

// Rows of the host, uploaded part by part and window by window, give the bits of rows that are there.
void streamed() {
  Random random(5);
  const std::int64_t d = 40, n = 300, m = 150;
  Values values = features(random, n * d);
  for (std::int64_t i = 0; i < n; i += 7) std::copy_n(values.begin(), d, values.begin() + i * d);
  const Matrix x = make_matrix(values, d, DType::float32, Layout::reversed);
  const Matrix y = make_matrix(features(random, m * d), d, DType::float16, Layout::padded);
  const std::vector<KernelOf> looking = {{polynomial(3, 1.0 / d, 1)},
                                         {gaussian(std::sqrt(d)), laplacian(3)}};
  const std::vector<KernelOf> plain = {{polynomial(3, 1.0 / d, 1)}, {gaussian(std::sqrt(d))}};
  for (const bool float64 : {false, true}) {
    for (int turn = 0; turn < 4; ++turn) {
      SumRun run;
      run.kernels = turn % 2 ? plain : looking;
      run.float64 = float64;
      run.normalise = turn == 3;
      choose(run, random, n, m, turn < 2);
      const Values want = run_on_device(x, &y, run).all();
      // Windows of one block; of two where no kernel looks, else of one; and of all. Which sets stay
      // on the host goes round.
      const std::int64_t memory[] = {1, 6 * 128 * 384, 0};
      for (int size = 0; size < 3; ++size) {
        const int sets = (turn + size + float64) % 3 + 1;
        const About about("turn " + show(turn) + (float64 ? ", float64" : ", float32") +
                          ", memory " + show(memory[size]) + ", sets " + show(sets));
        DeviceRun how{memory[size], turn == 2 ? 2 : 1};
        how.x_on_host = sets % 2 == 1;
        how.y_on_host = sets >= 2;
        CHECK_ARRAYS(run_on_device(x, &y, run, how).all(), want);
      }
    }
    SumRun run;
    run.kernels = looking;
    run.float64 = float64;
    run.within = false;
    for (const Matrix* other : {static_cast<const Matrix*>(nullptr), &y}) {
      const About about(other ? "across" : "alone");
      CHECK_ARRAYS(run_on_device(x, other, run, {1, 1, false, true, other != nullptr}).all(),
                   run_on_device(x, other, run).all());
    }
  }
}

// Columns of many rows are added up by blocks of more than the fewest rows, of which a part has some.
void streamed_columns() {
  Random random(6);
  const std::int64_t d = 3, n = 130 * 512 + 5;
  const Values values = features(random, n * d, 3);
  const cuda::Stream stream = cuda::Stream::make(0);
  const std::int64_t memory[] = {1, 1000 * d * 4, 0};
  for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
    const Matrix x = make_matrix(values, d, dtype, Layout::padded);
    const DeviceMatrix rows(x, stream);
    cuda::SumRows want(cuda::RowSource(rows.view, false, stream), {}, false, 0, stream);
    cuda::SumRows got(cuda::RowSource(x.view(), true, stream), {}, false,
                      memory[static_cast<int>(dtype)], stream);
    const About about(test::name_of(dtype));
    CHECK(want.find() && got.find());
    CHECK_EQUAL(got.data().unit, want.data().unit);
    CHECK_EQUAL(got.data().mean_square, want.data().mean_square);
    CHECK_EQUAL(got.data().peak_square[0], want.data().peak_square[0]);
    CHECK_ARRAYS(got.along(0), want.along(0));
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests(
      {{"picked", picked}, {"streamed", streamed}, {"streamed_columns", streamed_columns}}, argc,
      argv);
}
