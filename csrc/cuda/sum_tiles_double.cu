// The kernels of the sum engine's tiles for double products.
#include "cuda/double_product.cuh"
#include "cuda/sum_tile.cuh"

namespace fastgen::cuda {
namespace {

static_assert(Stash<double>::kBytes <= DoubleProduct::Ring::kScratchBytes);

__global__ void __launch_bounds__(kSumThreads, 1) sum_tiles_double(SumTask<double> task) {
  walk_tiles<DoubleProduct>(task);
}

__global__ void __launch_bounds__(kSumThreads, 1) squares_double(SquareTask<double> task) {
  walk_squares<DoubleProduct>(task);
}

std::int64_t grid_of(const TileList& list, const Stream& stream) {
  return std::min<std::int64_t>(list.count, multiprocessors(stream.device()));
}

}  // namespace

void launch_sum_tiles(const SumTask<double>& task, const Stream& stream) {
  launch("sum_tiles_double", sum_tiles_double, grid_of(task.list, stream), kSumThreads,
         kSumRingBytes + kFormBytes, stream, task);
}

void launch_squares(const SquareTask<double>& task, const Stream& stream) {
  launch("squares_double", squares_double, grid_of(task.list, stream), kSumThreads, kSumRingBytes,
         stream, task);
}

}  // namespace fastgen::cuda
