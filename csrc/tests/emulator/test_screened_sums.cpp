// The density engine's exponents by float16 products, for points to which few samples matter.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "tests/emulator/log_sum_runs.hpp"

namespace fastgen::test {
namespace {

// Few samples matter to a point: float16 products find them. Under what share of points they must serve is what
// they did when this was written.
void test_cases() {
  Random random(8);
  struct Case {
    std::int64_t d;
    double h, least;
  };
  const Case cases[] = {{17, 0.05, 1},  {17, 0.4, 0.9}, {33, 0.5, 0.9},  {64, 0.02, 1},
                        {64, 0.4, 0.9}, {64, 1.0, 0},   {130, 0.6, 0.9}, {17, 30.0, 1},
                        {64, 40.0, 1},  {130, 3.0, 0}};
  int turn = 0;
  for (const Case& one : cases) {
    for (const DType dtype : {DType::float16, DType::float32}) {
      ++turn;
      Densities problem = normal_problem(random, 40, 150, one.d, dtype, {one.h});
      if (turn % 3 == 0) problem.weights = some_weights(random, 150, 1e-6);
      if (turn % 4 == 1) leave_one_out(problem);
      const About about(describe(problem) + " h " + show(one.h));
      check_density(DensityReference(problem), run(problem, Path::automatic), problem);
      CHECK_AT_MOST(one.least * static_cast<double>(problem.points.n),
                    static_cast<double>(served_first));
    }
  }
}

void test_clusters() {
  Random random(9);
  // Copies, clusters, and a point and a sample far from all others.
  for (const double h : {1e-3, 0.1}) {
    Values y;
    for (int i = 0; i < 150; ++i) {
      for (int f = 0; f < 20; ++f) {
        y.push_back(i % 3 + (i % 10 < 3 ? 0.0 : 1e-2 * random.normal()) + (i == 77 ? 1e3 : 0.0));
      }
    }
    Densities problem;
    problem.bandwidths = {h};
    problem.samples = make_matrix(y, 20, DType::float32);
    leave_one_out(problem);
    check_everywhere(problem);
    problem.leave_one_out = false;
    Values x = normals(random, 5 * 20);
    for (int f = 0; f < 20; ++f) x[f] *= 1e6;
    problem.points = make_matrix(x, 20, DType::float32);
    check_everywhere(problem);
  }
}

// Nothing listed: sums of float16 exponents alone are refused where they are too coarse, and good where not.
void test_refused() {
  Random random(11);
  listed = -20;
  std::int64_t served = 0, refused = 0;
  for (const double h : {1.0, 8.0, 30.0, 100.0, 1e3, 1e4}) {
    for (const std::int64_t d : {20, 70}) {
      Densities problem = normal_problem(random, 40, 150, d, DType::float32, {h});
      const About about(describe(problem) + " h " + show(h));
      check_density(DensityReference(problem), run(problem, Path::automatic), problem);
      served += served_first;
      refused += problem.points.n - served_first;
    }
  }
  CHECK(served > 100);
  CHECK(refused > 100);
  listed = 18;
}

void test_same_bits() {
  Random random(10);
  // The same bits whatever points share a batch; lists in another order.
  Densities problem = normal_problem(random, 150, 260, 64, DType::float32, {0.6});
  for (const bool alone : {false, true}) {
    if (alone) leave_one_out(problem);
    const DensityResult whole = run(problem, Path::automatic);
    emulator::set_seed(5);
    const DensityResult batched = run(problem, Path::automatic, 67, 0);
    CHECK(served_first > 100);
    emulator::set_seed(0);
    CHECK_ARRAYS(batched.logs, whole.logs);
    CHECK_ARRAYS(batched.dominated, whole.dominated);
  }
}

// Where there is no memory for float16 rows, or for lists of a batch, all points go to tiles, which need neither.
void test_memory() {
  Random random(12);
  Densities problem = normal_problem(random, 400, 150, 64, DType::float32, {0.4});
  screen_from = 1 << 30;
  const DensityResult want = run(problem, Path::automatic);
  screen_from = 1;
  run(problem, Path::automatic);
  CHECK(served_first > 300);
  // Too little for the pilot's lists, 10 MB, and enough for those but not for a batch's, 26 MB.
  for (const std::int64_t room : {5 << 20, 18 << 20}) {
    const About about(show(room) + " bytes");
    const cuda::DeviceBuffer<char> taken(cuda::free_memory(0) - room, stream(), "test");
    const DensityResult got = run(problem, Path::automatic, std::int64_t{1} << 31, 0);
    CHECK_EQUAL(served_first, std::int64_t{0});
    CHECK_ARRAYS(got.logs, want.logs);
    CHECK_ARRAYS(got.dominated, want.dominated);
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  screen_from = 1;
  const int status = run_tests({{"cases", test_cases},
                                {"clusters", test_clusters},
                                {"refused", test_refused},
                                {"same_bits", test_same_bits},
                                {"memory", test_memory}},
                               argc, argv);
  std::printf("largest share of the bound: %.3f\n", share_seen[0]);
  return status;
}
