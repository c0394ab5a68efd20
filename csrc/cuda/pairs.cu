// Canonical squared distances of listed pairs: one warp a pair.
#include "cuda/pairs.hpp"

#include <algorithm>

#include "common/check.hpp"
#include "cuda/distance.cuh"
#include "cuda/ptx.cuh"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPairsAtOnce = std::int64_t{1} << 22;  // 100 MB of indices and distances

__global__ __launch_bounds__(kThreads, 4) void distances_of_pairs(RowView x, RowView y,
                                                                  const std::int64_t* i,
                                                                  const std::int64_t* j,
                                                                  std::int64_t count, double* sq) {
  const std::int64_t pair =
      (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;  // the same for the whole warp
  if (pair >= count) return;
  const double value = warp_sq_distance(x, i[pair], y, static_cast<std::int32_t>(j[pair]));
  if (threadIdx.x % 32 == 0) sq[pair] = value;
}

}  // namespace

void pair_sq_distances(const RowView& x, const RowView& y, const std::int64_t* i,
                       const std::int64_t* j, std::int64_t count, double* sq,
                       const Stream& stream) {
  FASTGEN_CHECK(x.d == y.d && count >= 0);
  const char* purpose = "the listed pairs";
  const std::int64_t at_once = std::min(count, kPairsAtOnce);
  DeviceBuffer<std::int64_t> from(at_once, stream, purpose), to(at_once, stream, purpose);
  DeviceBuffer<double> found(at_once, stream, purpose);
  for (std::int64_t begin = 0; begin < count; begin += at_once) {
    const std::int64_t here = std::min(at_once, count - begin);
    for (std::int64_t p = begin; p < begin + here; ++p) {
      FASTGEN_CHECK(0 <= i[p] && i[p] < x.n && 0 <= j[p] && j[p] < y.n);
    }
    upload(from.data(), i + begin, here * 8, stream);
    upload(to.data(), j + begin, here * 8, stream);
    launch("distances_of_pairs", distances_of_pairs, blocks_for(here * 32, kThreads), kThreads, 0,
           stream, x, y, from.data(), to.data(), here, found.data());
    download(sq + begin, found.data(), here * 8, stream);
  }
}

}  // namespace fastgen::cuda
