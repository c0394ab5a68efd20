#include "cuda/half_rows.hpp"

#include <type_traits>

#include "cuda/density_items.cuh"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {
namespace {

// A row as float16, a warp each; zeros beyond the last feature and the last row.
template <class Item>
__global__ void __launch_bounds__(256) half_rows_kernel(HalfTask task) {
  const std::int64_t place = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  const bool inside = place < task.list.count;
  const std::int64_t row = inside ? point_row(task.list, place) : 0;
  double square = 0, lost = 0;
#pragma unroll 2
  for (std::int64_t f = threadIdx.x % 32; f < task.depth; f += 32) {
    double z = 0;
    if (inside && f < task.rows.d) {
      const double value = static_cast<double>(number(__ldg(items_of<Item>(task.rows, row) + f)));
      z = (value * task.unit - __ldg(task.centre + f)) * task.factor;
    }
    const __half half = __double2half(z * task.scale);
    reinterpret_cast<__half*>(task.out)[place * task.depth + f] = half;
    const double rest = z - static_cast<double>(__half2float(half)) / task.scale;
    square = fma(z, z, square);
    lost = fma(rest, rest, lost);
  }
  square = warp_sum(square);
  lost = warp_sum(lost);
  if (threadIdx.x % 32 != 0) return;
  task.squares[place] = 0.5 * square;
  task.residuals[place] = sqrt(lost);
}

}  // namespace

void make_half(const HalfTask& task, std::int64_t padded, const Stream& stream) {
  with_item(task.rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("half_rows", half_rows_kernel<Item>, padded / 8, 256, 0, stream, task);
  });
}

}  // namespace fastgen::cuda
