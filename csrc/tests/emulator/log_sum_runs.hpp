// The density engine on a device, run to its end, and checked against plain loops (tests/densities.hpp).
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/log_sums.hpp"
#include "tests/check.hpp"
#include "tests/densities.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {

using Path = cuda::DensityPath;

inline const cuda::Stream& stream() {
  static const cuda::Stream one = cuda::Stream::make(0);
  return one;
}

inline const char* name(Path path) {
  return path == Path::automatic ? "automatic" : path == Path::direct ? "direct" : "tiles";
}

inline std::vector<Path> paths(std::int64_t d) {
  return d <= 16 ? std::vector<Path>{Path::direct, Path::tiles}
                 : std::vector<Path>{Path::automatic};
}

// Samples from which float16 products are tried, and points that a cheaper walk served in the last run.
inline std::int64_t screen_from = 1 << 30, served_first = 0;
inline double listed = 18;  // see LogSums::screen_from

// Points [first, first + count) of a problem.
struct Slice {
  std::int64_t first, count;
};

inline DensityResult run(const Densities& problem, Path path,
                         std::int64_t batch = std::int64_t{1} << 31, double seconds = 3600,
                         Slice slice = {0, -1}) {
  const DeviceMatrix points(problem.points, stream()), samples(problem.samples, stream());
  if (slice.count < 0) slice.count = problem.points.n;
  RowView view = points.view;
  view.data += slice.first * view.row_stride;
  view.n = slice.count;
  cuda::LogSums engine(view, samples.view, problem.bandwidths,
                       problem.weights.empty() ? nullptr : problem.weights.data(),
                       problem.leave_one_out, slice.first, path, stream());
  engine.limit_batches(batch);
  engine.screen_from(screen_from, listed);
  engine.want_shares();
  DensityResult result;
  double fraction = 0;
  bool rises = true;
  while (!engine.done() && result.calls < 100000) {
    const double now = engine.advance(seconds);
    rises = rises && fraction <= now && now <= 1 && engine.done() == (now == 1);
    fraction = now;
    ++result.calls;
  }
  CHECK(rises);
  CHECK_EQUAL(engine.advance(seconds), 1.0);
  CHECK(!engine.too_narrow());
  result.logs.assign(static_cast<std::size_t>(slice.count) * problem.bandwidths.size(), -5.0);
  result.dominated.assign(problem.bandwidths.size(), -5);
  engine.log_sums(result.logs.data());
  engine.dominated(result.dominated.data());
  result.shares.assign(result.logs.size(), -5.0);
  engine.shares(result.shares.data());
  served_first = engine.served_first();
  return result;
}

inline void check_everywhere(const Densities& problem) {
  const About about(describe(problem));
  const DensityReference want(problem);
  for (const Path path : paths(problem.samples.d)) {
    const About subject(name(path));
    check_density(want, run(problem, path), problem);
  }
}

inline Densities normal_problem(Random& random, std::int64_t n, std::int64_t m, std::int64_t d,
                                DType dtype, const Values& bandwidths) {
  Densities problem;
  problem.points = make_matrix(normals(random, n * d), d, dtype);
  problem.samples = make_matrix(normals(random, m * d), d, dtype, Layout::padded);
  problem.bandwidths = bandwidths;
  return problem;
}

inline void leave_one_out(Densities& problem) {
  problem.points = problem.samples;
  problem.leave_one_out = true;
}

const DType kTypes[] = {DType::float16, DType::float32, DType::float64};

}  // namespace fastgen::test
