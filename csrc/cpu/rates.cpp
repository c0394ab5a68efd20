#include "cpu/rates.hpp"

#include <chrono>
#include <limits>
#include <vector>

#include "cpu/dispatch.hpp"
#include "cpu/join.hpp"

namespace fastgen::cpu {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double measure(std::int64_t (*loop)(std::int64_t), int threads, double seconds) {
  std::vector<double> rate(threads, 0.0);
  Tasks tasks;
  tasks.reset(threads);
  run_tasks(tasks, threads, deadline_after(10 * seconds + 10), [&](int, std::int64_t task) {
    const Clock::time_point start = Clock::now();
    double done = 0;
    do done += static_cast<double>(loop(100000));
    while (seconds_since(start) < seconds);
    rate[task] = done / seconds_since(start);
  });
  double sum = 0;
  for (const double r : rate) sum += r;
  return sum;
}

class EmitNothing final : public Consumer {
 public:
  void strip(const Join& join, Worker& worker, int, const Strip& strip,
             const StripRange& range) override {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    for (int r = 0; r < range.rows; ++r) {
      worker.row_threshold[r] = kNever;
      worker.row_weight[r] = 1.0f;
    }
    for (int c = 0; c < range.columns; ++c) worker.column_threshold[c] = kNever;
    EmitStrip task{strip,
                   worker.row_threshold.data(),
                   worker.row_weight.data(),
                   worker.column_threshold.data(),
                   worker.hits.data(),
                   0};
    (join.float_path() ? join.kernels().emit_float : join.kernels().emit_int8)(&task);
  }
  void pair(const Join&, Worker&, std::int64_t, std::int64_t, double) override {}
};

}  // namespace

Rates measure_peak(const Kernels& kernels, int threads, double seconds) {
  return {measure(kernels.peak_int8, threads, seconds),
          measure(kernels.peak_float, threads, seconds)};
}

double measure_tile(const std::string& isa, const std::string& path, std::int64_t n, std::int64_t d,
                    int threads) {
  // Any numbers do: the products do not depend on them.
  std::vector<float> data(static_cast<std::size_t>(n) * d);
  std::uint32_t state = 1;
  for (float& value : data) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * 0x1p-24f;
  }
  const RowView rows{reinterpret_cast<const unsigned char*>(data.data()), DType::float32, n, d,
                     4 * d};
  Prepared prepared(rows, path == "float32" ? Path::float32 : Path::int8, select_kernels(isa),
                    threads);
  while (prepared.advance(1.0) < 1.0) {
  }
  Join join(prepared, &prepared, threads);
  EmitNothing nothing;
  const Deadline never = deadline_after(3600);
  double seconds = 0;
  while (!join.done()) {
    join.prepare_segment(never);
    const Clock::time_point start = Clock::now();
    join.advance(never, nothing);
    seconds += seconds_since(start);
  }
  return 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(d) / seconds;
}

}  // namespace fastgen::cpu
