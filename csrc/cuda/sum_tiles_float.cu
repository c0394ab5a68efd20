// The kernels of the sum engine's tiles for float products.
#include "cuda/split_product.cuh"
#include "cuda/sum_tile.cuh"

namespace fastgen::cuda {
namespace {

static_assert(Stash<float>::kBytes <= SplitProduct::Ring::kScratchBytes);

__global__ void __launch_bounds__(kSumThreads, 1) sum_tiles_float(SumTask<float> task) {
  walk_tiles<SplitProduct>(task);
}

__global__ void __launch_bounds__(kSumThreads, 1) squares_float(SquareTask<float> task) {
  walk_squares<SplitProduct>(task);
}

std::int64_t grid_of(const TileList& list, const Stream& stream) {
  return std::min<std::int64_t>(list.count, multiprocessors(stream.device()));
}

}  // namespace

void launch_sum_tiles(const SumTask<float>& task, const Stream& stream) {
  launch("sum_tiles_float", sum_tiles_float, grid_of(task.list, stream), kSumThreads,
         kSumRingBytes + kFormBytes, stream, task);
}

void launch_squares(const SquareTask<float>& task, const Stream& stream) {
  launch("squares_float", squares_float, grid_of(task.list, stream), kSumThreads, kSumRingBytes,
         stream, task);
}

}  // namespace fastgen::cuda
