// Carries of the totals that every tile adds to, on the device and on the host: the number stays, and low limbs
// keep room for more, so that no number of rows is too many.
#include <cstdint>
#include <vector>

#include "common/limbs.hpp"
#include "cuda/split_rows.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_sums.hpp"
#include "tests/rows.hpp"
#include "tests/sum_problems.hpp"

namespace fastgen::test {
namespace {

constexpr std::int64_t kUnit = std::int64_t{1} << 37, kFull = std::int64_t{1} << 50;

__extension__ using Wide = __int128;
Wide number(std::int64_t high, std::int64_t low) { return static_cast<Wide>(high) * kUnit + low; }

void on_device() {
  const std::vector<std::int64_t> lows{0,
                                       1,
                                       -1,
                                       kUnit - 1,
                                       kUnit,
                                       -kUnit,
                                       -kUnit - 1,
                                       kFull - 1,
                                       -kFull,
                                       (std::int64_t{1} << 62) + 5,
                                       -(std::int64_t{1} << 62) - 5};
  const std::vector<std::int64_t> highs(lows.size(), -7);
  const cuda::Stream stream = cuda::Stream::make(0);
  const auto high = cuda::uploaded(highs, stream, "test"),
             low = cuda::uploaded(lows, stream, "test");
  cuda::carry_limbs(reinterpret_cast<cuda::Limb*>(high.data()),
                    reinterpret_cast<cuda::Limb*>(low.data()), high.size(), stream);
  const std::vector<std::int64_t> high_after = cuda::downloaded(high, stream);
  const std::vector<std::int64_t> low_after = cuda::downloaded(low, stream);
  for (std::size_t i = 0; i < lows.size(); ++i) {
    CHECK(0 <= low_after[i] && low_after[i] < kUnit);
    CHECK(number(high_after[i], low_after[i]) == number(highs[i], lows[i]));
  }
}

void on_host() {
  for (const std::int64_t begin : {std::int64_t{0}, kUnit - 1, kFull - 1, kFull - kUnit}) {
    for (const std::int64_t added : {std::int64_t{1}, kUnit - 1, kUnit, -kUnit, 5 * kUnit - 1}) {
      std::int64_t total_high = 3, total_low = begin;
      for (int times = 1; times <= 3; ++times) {
        add_carried(total_high, total_low, -2, added);
        CHECK(0 <= total_low && total_low < kFull);
        CHECK(number(total_high, total_low) == number(3 - 2 * times, begin + times * added));
      }
    }
  }
}

// What an engine ends with, whose low limbs follow each other: of rows, squares, forms.
void of_engine() {
  const cuda::Stream stream = cuda::Stream::make(0);
  Random random(13);
  const std::int64_t d = 5, labels = 3;
  const Matrix x = make_matrix(features(random, 300 * d), d, DType::float32);
  const Matrix y = make_matrix(features(random, 140 * d), d, DType::float32);
  const DeviceMatrix rows(x, stream), others(y, stream);
  const std::vector<std::int8_t> of_rows = some_labels(random, 440, labels);
  const std::vector<std::vector<KernelTerm>> kernels{{gaussian(2)}, {polynomial(3, 0.2, 1)}};
  cuda::KernelSums engine(rows.view, &others.view, kernels, {1, 300, 140, nullptr, nullptr},
                          of_rows.data(), labels, cuda::SumOptions{true, false, false, 0, 1, 1},
                          stream);
  while (!engine.done()) engine.advance(1);
  const std::int64_t count = static_cast<std::int64_t>(kernels.size());
  const std::vector<cuda::Limb>& limbs = engine.limbs();
  const std::int64_t squares = 3 * count, forms = labels * count;
  const std::int64_t stride =
      (static_cast<std::int64_t>(limbs.size()) - 2 * (squares + forms)) / (5 * count);
  const auto check_low = [&](std::int64_t begin, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i) {
      const cuda::Limb low = limbs[static_cast<std::size_t>(4 * count * stride + begin + i)];
      CHECK(low < static_cast<cuda::Limb>(kUnit));
    }
  };
  check_low(squares, squares);
  check_low(2 * squares + forms, forms);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"on_device", on_device}, {"on_host", on_host}, {"of_engine", of_engine}}, argc,
                   argv);
}
