// The density engine on a device against plain loops in long double: every width of rows, one bandwidth and
// many, weights, rows left out, far points, clusters and copies; and the same bits for any batches.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "tests/emulator/log_sum_runs.hpp"

namespace fastgen::test {
namespace {

void test_widths() {
  Random random(1);
  int turn = 0;
  for (const std::int64_t d :
       {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 20, 33, 64, 100}) {
    const double typical = std::sqrt(static_cast<double>(d));
    for (const DType dtype : kTypes) {
      ++turn;
      const double h = typical * (turn % 3 == 0 ? 0.15 : turn % 3 == 1 ? 0.5 : 1.5);
      Densities problem = normal_problem(random, 37, 45 + 7 * (turn % 5), d, dtype, {h});
      if (turn % 4 == 1) problem.weights = some_weights(random, problem.samples.n, 1e-6);
      if (turn % 5 == 2) leave_one_out(problem);
      check_everywhere(problem);
    }
  }
}

void test_bandwidths() {
  Random random(2);
  int turn = 0;
  for (const std::int64_t d : {1, 2, 6, 16, 24}) {
    const double typical = std::sqrt(static_cast<double>(d));
    for (const DType dtype : kTypes) {
      const std::vector<Values> grids = {
          grid(std::sqrt(2.0), 25, 0.3 * typical),
          grid(2, 7, typical),
          grid(1.3, 6, 0.4 * typical),
          {typical, 0.2 * typical, typical, 1e-4 * typical, 30 * typical}};
      for (const Values& bandwidths : grids) {
        if (++turn % 2 == 0 && d != 2) continue;
        Densities problem = normal_problem(random, 21, 50, d, dtype, bandwidths);
        if (turn % 3 == 0) problem.weights = some_weights(random, 50, 1e-5);
        if (turn % 4 == 1) leave_one_out(problem);
        check_everywhere(problem);
      }
    }
  }
}

// Blocks of 64 to 1024 points, tiles of 128 to 512 samples, parts of 1024: one less, one more, several.
void test_sizes() {
  Random random(3);
  const Slice sizes[] = {{1, 1},     {1, 2},    {2, 1},    {5, 513},  {65, 127},
                         {129, 129}, {63, 256}, {130, 31}, {3, 1025}, {260, 100},
                         {1, 2500},  {1100, 3}, {64, 128}, {7, 1536}, {40, 1023}};
  int turn = 0;
  for (const Slice size : sizes) {
    for (const std::int64_t d : {1, 2, 5, 19}) {
      ++turn;
      const Values bandwidths = turn % 3 == 0 ? Values{0.3, 0.9, 0.1} : Values{0.4};
      Densities problem =
          normal_problem(random, size.first, size.count, d, kTypes[turn % 3], bandwidths);
      if (turn % 4 == 0) problem.weights = some_weights(random, size.count, 1e-3);
      if (turn % 5 == 0) leave_one_out(problem);
      check_everywhere(problem);
    }
  }
}

// Points 1e4 and 1e8 bandwidths away, an offset common to all rows, an outlier far beyond them.
void test_far() {
  Random random(4);
  for (const std::int64_t d : {1, 2, 9, 16, 17, 64}) {
    for (const DType dtype : {DType::float32, DType::float64}) {
      for (const double far : {1e4, 1e8}) {
        Values x = normals(random, 9 * d), y = normals(random, 40 * d);
        for (std::int64_t f = 0; f < d; ++f) {
          x[f] *= far;
          x[d + f] += far;
        }
        Densities problem;
        problem.points = make_matrix(x, d, dtype);
        problem.samples = make_matrix(y, d, dtype);
        problem.bandwidths = {1.0};
        check_everywhere(problem);
        problem.bandwidths = {0.5, 1.0, 3.0, 1e3};
        check_everywhere(problem);

        for (double& value : x) value = 1.0 + random.normal();
        for (double& value : y) value = random.normal();
        for (std::int64_t f = 0; f < d; ++f) y[5 * d + f] *= far;  // a sample
        problem.points = make_matrix(x, d, dtype);
        problem.samples = make_matrix(y, d, dtype);
        check_everywhere(problem);
        problem.bandwidths = {0.7 * std::sqrt(static_cast<double>(d))};
        check_everywhere(problem);
      }
      Values all = normals(random, 50 * d);
      for (double& value : all) value += 1000.0;
      Densities problem;
      problem.samples = make_matrix(all, d, dtype);
      problem.bandwidths = {0.6 * std::sqrt(static_cast<double>(d))};
      leave_one_out(problem);
      check_everywhere(problem);
    }
  }
}

// Copies, clusters much tighter than their distance, and bandwidths from far too narrow to far too wide.
void test_clusters() {
  Random random(5);
  for (const std::int64_t d : {1, 2, 3, 10, 17, 40}) {
    for (const DType dtype : kTypes) {
      Values y;
      for (int i = 0; i < 70; ++i) {
        for (std::int64_t f = 0; f < d; ++f) {
          const double centre = i % 3 == 0 ? 1.0 : i % 3 == 1 ? -3.0 : 0.5;
          y.push_back(centre + (i % 10 < 3 ? 0.0 : 1e-3 * random.normal()));
        }
      }
      Densities problem;
      problem.samples = make_matrix(y, d, dtype);
      leave_one_out(problem);
      for (const double h : {1e-8, 1e-5, 1e-3, 0.1, 10.0, 1e6}) {
        problem.bandwidths = {h};
        check_everywhere(problem);
      }
      problem.bandwidths = {1e-6, 1e-5, 1e-4, 1e-3, 0.3, 10.0, 1e4};
      check_everywhere(problem);
      problem.weights = some_weights(random, 70, 1e-4);
      check_everywhere(problem);
    }
  }
}

// Many copies of one sample at distances under which the rounding of an exponent shows in float32.
void test_copies() {
  Random random(12);
  for (const std::int64_t d : {1, 3, 8, 16, 17}) {
    const Values y = normals(random, d);
    Values x, copies;
    for (int i = 0; i < 60; ++i) {
      // Exponents from 0.4 to 84, in all features alike.
      const double step = std::sqrt(2 * (0.4 + 1.4 * i) / static_cast<double>(d));
      for (std::int64_t f = 0; f < d; ++f) x.push_back(y[f] + step);
    }
    for (int i = 0; i < 300; ++i) copies.insert(copies.end(), y.begin(), y.end());
    Densities problem;
    problem.points = make_matrix(x, d, DType::float32);
    problem.samples = make_matrix(copies, d, DType::float32);
    for (const double h : {1.0, 0.9}) {
      problem.bandwidths = {h};
      check_everywhere(problem);
    }
  }
}

// Units in which squares are no float64 numbers, weights that float32 cannot hold, bandwidths of all scales.
void test_ranges() {
  Random random(6);
  for (const std::int64_t d : {1, 2, 16, 17, 30}) {
    for (const double unit : {1e-300, 1e-140, 1e-30, 1e30, 1e149}) {
      const double typical = std::sqrt(static_cast<double>(d));
      Values x = normals(random, 12 * d), y = normals(random, 30 * d);
      Densities scaled, plain;
      plain.points = make_matrix(x, d, DType::float64);
      plain.samples = make_matrix(y, d, DType::float64);
      plain.bandwidths = {0.3 * typical, typical, 0.01 * typical, 1e4};
      // A power of two, which rounds nothing.
      const double two = std::exp2(std::round(std::log2(unit)));
      for (double& value : x) value *= two;
      for (double& value : y) value *= two;
      scaled.points = make_matrix(x, d, DType::float64);
      scaled.samples = make_matrix(y, d, DType::float64);
      for (const double h : plain.bandwidths) scaled.bandwidths.push_back(h * two);
      const About about(describe(scaled) + " in units of " + show(unit));
      const DensityReference want(plain);
      for (const Path path : paths(d)) {
        const About subject(name(path));
        check_density(want, run(scaled, path), scaled);
      }
    }
    for (const double lightest : {1e-30, 1e-200, 1e-289}) {
      Densities problem = normal_problem(random, 9, 40, d, DType::float32, {0.8});
      problem.weights = some_weights(random, 40, lightest);
      check_everywhere(problem);
      problem.bandwidths = {0.1, 0.9, 2.0};
      leave_one_out(problem);
      check_everywhere(problem);
    }
    Densities wide = normal_problem(random, 5, 20, d, DType::float32, {1e15, 1e-15, 1.0, 1e10});
    check_everywhere(wide);
    Densities far = normal_problem(random, 4, 20, d, DType::float64, {1.0});
    far.points = make_matrix(
        [&] {
          Values x = normals(random, 4 * d);
          for (std::int64_t f = 0; f < d; ++f) {
            x[f] = 1e100;
            x[d + f] = 1e149;
          }
          return x;
        }(),
        d, DType::float64);
    check_everywhere(far);
    far.bandwidths = {1e-3, 1.0};
    check_everywhere(far);
  }
}

// -inf is what no float64 can hold, and bandwidths beyond float64 are refused.
void test_ends() {
  for (const std::int64_t d : {1, 2, 17}) {
    Values x(static_cast<std::size_t>(2 * d), 0.0);
    x[d - 1] = 1.6e150;
    x[2 * d - 1] = 2e150;
    Densities problem;
    problem.points = make_matrix(x, d, DType::float64);
    problem.samples = make_matrix(Values(static_cast<std::size_t>(d), 0.0), d, DType::float64);
    problem.bandwidths = {1e-4, 1e-3};
    for (const Path path : paths(d)) {
      const DensityResult got = run(problem, path);
      CHECK_AT_MOST(std::fabs(got.logs[0] / -1.28e308 - 1), 1e-12);
      CHECK_AT_MOST(std::fabs(got.logs[1] / -1.28e306 - 1), 1e-12);
      CHECK(got.logs[2] == -std::numeric_limits<double>::infinity());
      CHECK_AT_MOST(std::fabs(got.logs[3] / -2e306 - 1), 1e-12);
    }
    Densities alone;
    alone.samples = make_matrix(Values(static_cast<std::size_t>(d), 0.5), d, DType::float32);
    leave_one_out(alone);
    alone.bandwidths = {1.0};
    for (const Path path : paths(d)) {
      const DensityResult got = run(alone, path);
      CHECK(got.logs[0] == -std::numeric_limits<double>::infinity());
      CHECK_EQUAL(got.dominated[0], std::int64_t{0});
    }
    for (const Path path : paths(d)) {
      const DeviceMatrix points(problem.points, stream()), samples(problem.samples, stream());
      cuda::LogSums engine(points.view, samples.view, {1e-200}, nullptr, false, 0, path, stream());
      while (!engine.done()) engine.advance(1.0);
      CHECK(engine.too_narrow());
    }
  }
}

// The same bits whatever points share a batch, a call, or a device, and in whatever order threads go.
void test_same_bits() {
  Random random(7);
  int turn = 0;
  for (const std::int64_t d : {1, 2, 5, 18}) {
    for (const DType dtype : kTypes) {
      for (const bool several : {false, true}) {
        ++turn;
        const double typical = std::sqrt(static_cast<double>(d));
        Densities problem = normal_problem(random, 130, 1030, d, dtype, {0.3 * typical});
        if (several) problem.bandwidths = grid(std::sqrt(2.0), 9, 0.5 * typical);
        if (turn % 3 == 0) problem.weights = some_weights(random, 1030, 1e-4);
        if (turn % 2 == 0) {
          problem.samples = make_matrix(normals(random, 150 * d), d, dtype);
          if (!problem.weights.empty()) problem.weights.resize(150, 0.5);
          leave_one_out(problem);
        }
        const About about(describe(problem));
        for (const Path path : paths(d)) {
          const About subject(name(path));
          const DensityResult whole = run(problem, path);
          emulator::set_seed(static_cast<std::uint64_t>(turn));
          const DensityResult batched = run(problem, path, 37, 0);
          emulator::set_seed(0);
          CHECK_ARRAYS(batched.logs, whole.logs);
          CHECK_ARRAYS(batched.dominated, whole.dominated);
          Values joined;
          std::vector<std::int64_t> dominated(problem.bandwidths.size(), 0);
          for (std::int64_t first = 0; first < problem.points.n; first += 71) {
            const std::int64_t count = std::min<std::int64_t>(71, problem.points.n - first);
            const DensityResult part = run(problem, path, 64, 3600, {first, count});
            joined.insert(joined.end(), part.logs.begin(), part.logs.end());
            for (std::size_t b = 0; b < dominated.size(); ++b) dominated[b] += part.dominated[b];
          }
          CHECK_ARRAYS(joined, whole.logs);
          CHECK_ARRAYS(dominated, whole.dominated);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  const int status = run_tests({{"widths", test_widths},
                                {"bandwidths", test_bandwidths},
                                {"sizes", test_sizes},
                                {"far", test_far},
                                {"clusters", test_clusters},
                                {"copies", test_copies},
                                {"ranges", test_ranges},
                                {"ends", test_ends},
                                {"same_bits", test_same_bits}},
                               argc, argv);
  std::printf("largest share of the bound: float32 %.3f, float64 %.3f\n", share_seen[0],
              share_seen[1]);
  return status;
}
