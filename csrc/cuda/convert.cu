// Conversion, picking and checking of rows on a device.
#include "cuda/convert.hpp"

#include <cstdint>

#include "common/check.hpp"
#include "cuda/gpu.hpp"
#include "cuda/ptx.cuh"

namespace fastgen::cuda {
namespace {

// A block moves tiles of 32 x 32 numbers through shared memory: 8 warps read along the dimension that
// is contiguous in the source and write along the features.
constexpr int kSide = 32;
constexpr int kWarps = 8;
constexpr int kPitch = kSide + 1;  // so that a column of the tile hits 32 banks

// Exact for everything but 64-bit integers, which are rounded to nearest.
__device__ double load(Element element, const unsigned char* at) {
  switch (element) {
    case Element::float16:
      return static_cast<double>(__half2float(*reinterpret_cast<const __half*>(at)));
    case Element::float32:
      return static_cast<double>(*reinterpret_cast<const float*>(at));
    case Element::float64:
      return *reinterpret_cast<const double*>(at);
    case Element::bfloat16: {
      const unsigned bits = *reinterpret_cast<const std::uint16_t*>(at);
      return static_cast<double>(__int_as_float(static_cast<int>(bits << 16)));
    }
    case Element::int8:
      return *reinterpret_cast<const std::int8_t*>(at);
    case Element::int16:
      return *reinterpret_cast<const std::int16_t*>(at);
    case Element::int32:
      return *reinterpret_cast<const std::int32_t*>(at);
    case Element::int64:
      return static_cast<double>(*reinterpret_cast<const std::int64_t*>(at));
    case Element::uint8:
      return *at;
    case Element::uint16:
      return *reinterpret_cast<const std::uint16_t*>(at);
    case Element::uint32:
      return *reinterpret_cast<const std::uint32_t*>(at);
    case Element::uint64:
      return static_cast<double>(*reinterpret_cast<const std::uint64_t*>(at));
  }
  return 0.0;
}

__device__ void store(DType dtype, void* to, std::int64_t place, double value) {
  if (dtype == DType::float64) {
    static_cast<double*>(to)[place] = value;
  } else if (dtype == DType::float32) {
    static_cast<float*>(to)[place] = static_cast<float>(value);
  } else {
    static_cast<__half*>(to)[place] = __float2half_rn(static_cast<float>(value));
  }
}

__global__ void __launch_bounds__(kSide* kWarps)
    convert_tile(Matrix from, const std::int64_t* indices, std::int64_t n, void* to, DType dtype,
                 bool by_columns) {
  double* tile = reinterpret_cast<double*>(shared_memory());
  const int lane = threadIdx.x % kSide, warp = threadIdx.x / kSide;
  const std::int64_t across = (from.d + kSide - 1) / kSide;
  const std::int64_t row0 = blockIdx.x / across * kSide, column0 = blockIdx.x % across * kSide;
  for (int step = warp; step < kSide; step += kWarps) {
    const int i = by_columns ? lane : step, j = by_columns ? step : lane;
    const std::int64_t row = row0 + i, column = column0 + j;
    if (row < n && column < from.d) {
      const std::int64_t source = indices == nullptr ? row : indices[row];
      tile[i * kPitch + j] =
          load(from.element, from.data + source * from.row_stride + column * from.column_stride);
    }
  }
  __syncthreads();
  for (int i = warp; i < kSide; i += kWarps) {
    const std::int64_t row = row0 + i, column = column0 + lane;
    if (row < n && column < from.d) {
      store(dtype, to, row * from.d + column, tile[i * kPitch + lane]);
    }
  }
}

__device__ float read(const __half* at) { return __half2float(*at); }
__device__ float read(const float* at) { return *at; }
__device__ double read(const double* at) { return *at; }
// A limit beyond float32 is infinity here, which no finite number exceeds.
__device__ bool is_beyond(float value, double limit) {
  return fabsf(value) > static_cast<float>(limit);
}
__device__ bool is_beyond(double value, double limit) { return fabs(value) > limit; }

// `lanes` threads (a power of two, at most a warp) look at a row. Four blocks: left to itself nvcc 13.0
// keeps to 40 registers on sm_120, and spills.
template <class T>
__global__ void __launch_bounds__(256, 4)
    check_rows(RowView rows, double limit, int lanes, unsigned long long* first) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t row = thread / lanes;
  if (row >= rows.n) return;
  const T* values = reinterpret_cast<const T*>(rows.data + row * rows.row_stride);
  bool infinite = false, large = false;
  for (std::int64_t j = thread % lanes; j < rows.d; j += lanes) {
    const auto value = read(values + j);
    infinite |= !isfinite(value);
    large |= is_beyond(value, limit);
  }
  if (infinite) atomicMin(first, static_cast<unsigned long long>(row));
  if (large && !infinite) atomicMin(first + 1, static_cast<unsigned long long>(row));
}

template <class T>
void check_rows_of(const RowView& rows, double limit, unsigned long long* first,
                   const Stream& stream) {
  int lanes = 1;
  while (lanes < 32 && lanes < rows.d) lanes *= 2;
  launch("check_rows", check_rows<T>, blocks_for(rows.n * lanes, 256), 256, 0, stream, rows, limit,
         lanes, first);
}

}  // namespace

void convert(const Matrix& from, const std::int64_t* indices, std::int64_t n, void* to, DType dtype,
             const Stream& stream) {
  const auto size = [](std::int64_t stride) { return stride < 0 ? -stride : stride; };
  const bool by_columns = indices == nullptr && size(from.row_stride) < size(from.column_stride);
  const std::int64_t blocks = blocks_for(n, kSide) * blocks_for(from.d, kSide);
  FASTGEN_CHECK(blocks < std::int64_t{1} << 31);
  launch("convert_tile", convert_tile, blocks, kSide * kWarps,
         kSide * kPitch * static_cast<std::int64_t>(sizeof(double)), stream, from, indices, n, to,
         dtype, by_columns);
}

void find_bad_rows(const RowView& rows, double limit, unsigned long long* first,
                   const Stream& stream) {
  switch (rows.dtype) {
    case DType::float16:
      return check_rows_of<__half>(rows, limit, first, stream);
    case DType::float32:
      return check_rows_of<float>(rows, limit, first, stream);
    case DType::float64:
      return check_rows_of<double>(rows, limit, first, stream);
  }
}

}  // namespace fastgen::cuda
