// The device's sum engine run to its end, with all of its answers (tests/sums.hpp has the CPU's).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/kernel_sums.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/rows.hpp"
#include "tests/sum_checks.hpp"
#include "tests/sums.hpp"

namespace fastgen::test {

// What the CPU's engine does not have.
struct DeviceRun {
  std::int64_t memory = 0;
  int shares = 1;
  bool unlike = false;  // every other share has as much memory as there is
  bool x_on_host = false, y_on_host = false;
};

inline SumResult answers(const cuda::KernelSums& engine, const SumRun& run,
                         const std::int64_t* sizes, int sets, int labels) {
  SumResult result;
  result.float64 = engine.float64();
  result.overflow = engine.overflow();
  for (int s = 0; s < 2; ++s) result.zero_row[s] = engine.zero_row(s);
  if (result.overflow || result.zero_row[0] >= 0 || result.zero_row[1] >= 0) return result;
  for (int k = 0; k < static_cast<int>(run.kernels.size()); ++k) {
    KernelResult kernel;
    for (int s = 0; s < sets; ++s) {
      for (int t = 0; t < sets; ++t) {
        if (s == t && sets == 2 && !run.within) continue;
        kernel.row_sums[s][t].resize(run.count * sizes[s]);
        engine.row_sums(k, s, t, kernel.row_sums[s][t].data());
        if (s > t) continue;
        kernel.squares[s][t].resize(run.count);
        engine.squares(k, s, t, kernel.squares[s][t].data());
      }
      kernel.diagonal[s].resize(run.count * sizes[s]);
      engine.diagonal(k, s, kernel.diagonal[s].data());
      kernel.shift[s].resize(run.count * sizes[s]);
      engine.shift(k, s, kernel.shift[s].data());
    }
    kernel.forms.resize(labels);
    if (labels) engine.forms(k, kernel.forms.data());
    result.kernels.push_back(std::move(kernel));
  }
  return result;
}

inline SumResult run_on_device(const Matrix& x, const Matrix* y, const SumRun& run,
                               const DeviceRun& how = {}) {
  const std::int64_t pooled = x.n + (y ? y->n : 0);
  const auto size = [&](const Indices& chosen, std::int64_t n) {
    return chosen.empty() ? n : static_cast<std::int64_t>(chosen.size()) / run.count;
  };
  const SumSubsets subsets{run.count, size(run.x, x.n), y ? size(run.y, y->n) : 0,
                           run.x.empty() ? nullptr : run.x.data(),
                           run.y.empty() ? nullptr : run.y.data()};
  const int labels = static_cast<int>(static_cast<std::int64_t>(run.labels.size()) / pooled);
  const std::int64_t sizes[] = {subsets.x_size, subsets.y_size};
  const cuda::Stream stream = cuda::Stream::make(0);
  const DeviceMatrix rows(x, stream);
  std::unique_ptr<DeviceMatrix> others;
  if (y) others = std::make_unique<DeviceMatrix>(*y, stream);
  const RowView host_view = y ? y->view() : RowView{};
  std::vector<std::unique_ptr<cuda::KernelSums>> engines;
  std::vector<std::int64_t> total;
  int calls = 0;
  for (int share = 0; share < how.shares; ++share) {
    const std::int64_t memory = how.unlike && share % 2 ? 0 : how.memory;
    engines.push_back(std::make_unique<cuda::KernelSums>(
        how.x_on_host ? x.view() : rows.view,
        y ? (how.y_on_host ? &host_view : &others->view) : nullptr, run.kernels, subsets,
        labels ? run.labels.data() : nullptr, labels,
        cuda::SumOptions{run.within, run.normalise, run.float64, share, how.shares, memory,
                         how.x_on_host, how.y_on_host},
        stream));
    cuda::KernelSums& engine = *engines.back();
    for (double before = 0; !engine.done(); ++calls) {
      const double fraction = engine.advance(run.seconds);
      CHECK(before <= fraction && fraction <= 1 && (fraction == 1) == engine.done());
      before = fraction;
    }
    total.resize(engine.limbs().size(), 0);
    for (std::size_t i = 0; i < total.size(); ++i) {
      total[i] = static_cast<std::int64_t>(static_cast<cuda::Limb>(total[i]) + engine.limbs()[i]);
    }
  }
  if (how.shares > 1) engines[0]->set_limbs(total.data(), static_cast<std::int64_t>(total.size()));
  SumResult result = answers(*engines[0], run, sizes, y ? 2 : 1, labels);
  result.calls = calls;
  return result;
}

// Runs the engine and checks all of its answers by definition.
inline SumResult check_on_device(const Matrix& x, const Matrix* y, const Reference& want,
                                 SumRun run, bool float64, const DeviceRun& how = {}) {
  run.kernels = want.kernels;
  SumResult got = run_on_device(x, y, run, how);
  CHECK_EQUAL(got.float64, float64);
  CHECK(!got.overflow && got.zero_row[0] < 0 && got.zero_row[1] < 0);
  for (std::size_t k = 0; k < got.kernels.size(); ++k) {
    for (std::int64_t g = 0; g < run.count; ++g) {
      const About about("kernel " + show(k) + " subset " + show(g));
      check_kernel(want, k, got.kernels[k], run, g, got.float64 ? 0x1p-53 : 0x1p-24);
    }
  }
  return got;
}

}  // namespace fastgen::test
