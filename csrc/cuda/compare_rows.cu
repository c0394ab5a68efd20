// Kernels that compare rows with rows and with centres (compare_rows.hpp).
#include "cuda/compare_rows.hpp"

#include <type_traits>

#include "common/check.hpp"
#include "common/clusters.hpp"
#include "cuda/distance.cuh"
#include "cuda/ptx.cuh"
#include "cuda/row_items.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// A warp a pair; it stops at the first 32 features that differ.
template <class Item>
__global__ void __launch_bounds__(kThreads)
    compare_kernel(RowView rows, const Suspect* suspects, std::int64_t count, char* same) {
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (pair >= count) return;
  const Suspect suspect = suspects[pair];
  const Item* x = items_of<Item>(rows, suspect.leader);
  const Item* y = items_of<Item>(rows, suspect.row);
  bool differ = false;
  for (std::int64_t i = 0; i < rows.d && !differ; i += 32) {
    const bool mine = i + lane < rows.d && number(x[i + lane]) != number(y[i + lane]);
    differ = __any_sync(0xffffffffu, mine);
  }
  if (lane == 0) same[pair] = differ ? 0 : 1;
}

template <class Item>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(RowView rows, const std::int32_t* list, double* to) {
  const Item* from = items_of<Item>(rows, list[blockIdx.x]);
  double* row = to + static_cast<std::int64_t>(blockIdx.x) * rows.d;
  for (std::int64_t i = threadIdx.x; i < rows.d; i += kThreads) {
    row[i] = static_cast<double>(number(from[i]));
  }
}

// A warp a pair of samples t <= s; t = s stands for the mean.
__global__ void __launch_bounds__(kThreads)
    sample_kernel(RowView rows, const std::int32_t* list, int samples, RowView mean, double* sq) {
  const int pair = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  const int s = pair / samples, t = pair % samples;
  if (s >= samples || t > s) return;  // whole warps
  const double distance = t == s ? warp_sq_distance(rows, list[s], mean, 0)
                                 : warp_sq_distance(rows, list[s], rows, list[t]);
  if (threadIdx.x % 32 == 0) sq[pair] = distance;
}

// Tiles of 64 rows x 64 centres, 32 features at a time in shared memory, 4 x 4 of them a thread.
// Centre 0 is the mean of all rows, the origin.
constexpr int kSide = 64;
constexpr int kSlice = 32;
constexpr int kPitch = kSide + 4;  // keeps 16-byte reads aligned
constexpr std::int64_t kAssignShared =
    2 * kSlice * kPitch * static_cast<std::int64_t>(sizeof(float));
static_assert(kMaxClusters < kSide && kSide * (kSide + 1) <= 2 * kSlice * kPitch, "they fit");

template <class Item>
__global__ void __launch_bounds__(kThreads, 2)
    assign_kernel(RowView rows, const std::int32_t* list, std::int64_t count, const double* mean,
                  double unit, const float* centres, int clusters, std::int8_t* cluster_of) {
  float* row_slice = reinterpret_cast<float*>(shared_memory());
  float* centre_slice = row_slice + kSlice * kPitch;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kSide, d = rows.d;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int row4 = static_cast<int>(threadIdx.x / 16) * 4;
  const int centre4 = static_cast<int>(threadIdx.x % 16) * 4;
  float sum[4][4] = {};
  for (std::int64_t begin = 0; begin < d; begin += kSlice) {
    const std::int64_t i = begin + lane;
    const double origin = i < d ? mean[i] : 0.0;
    for (int r = warp; r < kSide; r += kWarps) {
      float x = 0, c = 0;
      if (i < d) {
        if (first + r < count) {
          const double value =
              static_cast<double>(number(items_of<Item>(rows, list[first + r])[i]));
          x = static_cast<float>((value - origin) * unit);
        }
        c = centres[r * d + i];
      }
      row_slice[lane * kPitch + r] = x;
      centre_slice[lane * kPitch + r] = c;
    }
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < kSlice; ++k) {
      const float4 x = *reinterpret_cast<const float4*>(row_slice + k * kPitch + row4);
      const float4 c = *reinterpret_cast<const float4*>(centre_slice + k * kPitch + centre4);
      const float xs[4] = {x.x, x.y, x.z, x.w}, cs[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float t = __fsub_rn(xs[r], cs[j]);
          sum[r][j] = __fmaf_rn(t, t, sum[r][j]);
        }
      }
    }
    __syncthreads();
  }
  float* sq = row_slice;  // [64][65]
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sq[(row4 + r) * (kSide + 1) + centre4 + j] = sum[r][j];
  }
  __syncthreads();
  if (threadIdx.x < kSide && first + threadIdx.x < count) {
    const float* mine = sq + threadIdx.x * (kSide + 1);
    float best = static_cast<float>(kSqClusterReach) * mine[0];
    int nearest = -1;
    for (int c = 0; c < clusters; ++c) {
      if (mine[c + 1] < best) {
        best = mine[c + 1];
        nearest = c;
      }
    }
    cluster_of[first + threadIdx.x] = static_cast<std::int8_t>(nearest);
  }
}

}  // namespace

void compare_suspects(const RowView& rows, const std::vector<Suspect>& suspects,
                      std::vector<char>& same, const Stream& stream) {
  const DeviceBuffer<Suspect> pairs = uploaded(suspects, stream, "grouping identical rows");
  const DeviceBuffer<char> answers(pairs.size(), stream, "grouping identical rows");
  with_item(rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("compare_rows", compare_kernel<Item>, blocks_for(pairs.size(), kWarps), kThreads, 0,
           stream, rows, pairs.data(), pairs.size(), answers.data());
  });
  same = downloaded(answers, stream);
}

std::vector<double> gather_rows(const RowView& rows, const std::vector<std::int32_t>& list,
                                const Stream& stream) {
  const DeviceBuffer<std::int32_t> device_list = uploaded(list, stream, "a sample of rows");
  const DeviceBuffer<double> gathered(device_list.size() * rows.d, stream, "a sample of rows");
  with_item(rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("gather_rows", gather_kernel<Item>, device_list.size(), kThreads, 0, stream, rows,
           device_list.data(), gathered.data());
  });
  return downloaded(gathered, stream);
}

std::vector<double> sample_distances(const RowView& rows, const std::vector<std::int32_t>& list,
                                     const std::vector<double>& mean, const Stream& stream) {
  const DeviceBuffer<std::int32_t> device_list = uploaded(list, stream, "a sample of rows");
  const DeviceBuffer<double> device_mean = uploaded(mean, stream, "the mean of the rows");
  const DeviceBuffer<double> sq(device_list.size() * device_list.size(), stream,
                                "distances of a sample of rows");
  fill_bytes(sq.data(), 0, sq.bytes(), stream);
  const RowView mean_view{reinterpret_cast<const unsigned char*>(device_mean.data()),
                          DType::float64, 1, rows.d, 0};
  launch("sample_distances", sample_kernel, blocks_for(sq.size(), kWarps), kThreads, 0, stream,
         rows, device_list.data(), static_cast<int>(list.size()), mean_view, sq.data());
  return downloaded(sq, stream);
}

std::vector<std::int8_t> assign_clusters(const RowView& rows, const std::vector<std::int32_t>& list,
                                         const std::vector<double>& mean,
                                         const std::vector<std::vector<double>>& centres,
                                         double unit, const Stream& stream) {
  const std::int64_t d = rows.d;
  FASTGEN_CHECK(centres.size() <= static_cast<std::size_t>(kMaxClusters));
  std::vector<float> shifted(static_cast<std::size_t>(kSide * d), 0.0f);
  for (std::size_t c = 0; c < centres.size(); ++c) {
    for (std::int64_t i = 0; i < d; ++i) {
      shifted[(c + 1) * d + i] = static_cast<float>((centres[c][i] - mean[i]) * unit);
    }
  }
  const DeviceBuffer<std::int32_t> device_list = uploaded(list, stream, "distinct rows");
  const DeviceBuffer<double> device_mean = uploaded(mean, stream, "the mean of the rows");
  const DeviceBuffer<float> device_centres = uploaded(shifted, stream, "centres of clusters");
  const DeviceBuffer<std::int8_t> cluster_of(device_list.size(), stream, "clusters of rows");
  with_item(rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("assign_clusters", assign_kernel<Item>, blocks_for(device_list.size(), kSide), kThreads,
           kAssignShared, stream, rows, device_list.data(), device_list.size(), device_mean.data(),
           unit, device_centres.data(), static_cast<int>(centres.size()), cluster_of.data());
  });
  return downloaded(cluster_of, stream);
}

}  // namespace fastgen::cuda
