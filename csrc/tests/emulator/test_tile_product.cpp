// The main loop of the tile kernels against plain sums: both elements, one plane and two, both widths,
// single tiles and a ring that runs on from tile to tile.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/runtime.hpp"
#include "cuda/tile_product.cuh"
#include "emulator/cuda_runtime.hpp"
#include "tests/check.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cuda::DeviceBuffer;
using cuda::kRingBytes;
using cuda::Stream;
using cuda::tile_column;
using cuda::tile_row;
using cuda::TileOperand;
using cuda::TileSum;

// Whole numbers, so that float32 sums of float16 products are exact.
template <class Element>
Element random_element(Random& random, int most) {
  const int value = static_cast<int>(random.below(2 * most + 1)) - most;
  return static_cast<Element>(value);
}

// Two planes of one side, as the kernels see them; `stride` in elements.
template <class Element>
struct Planes {
  Planes(Random& random, std::int64_t rows, std::int64_t depth, std::int64_t stride, int most,
         const Stream& stream)
      : depth(depth), stride(stride) {
    for (auto& plane : host) {
      // What lies between the rows is large.
      plane.assign(static_cast<std::size_t>(rows * stride), static_cast<Element>(99));
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < depth; ++i) {
          plane[static_cast<std::size_t>(r * stride + i)] = random_element<Element>(random, most);
        }
      }
      device.push_back(cuda::uploaded(plane, stream, "planes"));
    }
  }
  TileOperand operand() const {
    return {{device[0].data(), device[1].data()},
            stride * static_cast<std::int64_t>(sizeof(Element))};
  }
  double at(int plane, std::int64_t row, std::int64_t i) const {
    return static_cast<double>(static_cast<float>(host[plane][row * stride + i]));
  }

  std::int64_t depth, stride;
  std::vector<Element> host[2];
  std::vector<DeviceBuffer<Element>> device;
};

template <class Element>
double plain(const Planes<Element>& x, int x_plane, std::int64_t row, const Planes<Element>& y,
             int y_plane, std::int64_t column) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.depth; ++i)
    sum += x.at(x_plane, row, i) * y.at(y_plane, column, i);
  return sum;
}

// Whether the product of a row and a column is what the contract of the planes asks for.
template <class Element, int kPlanes>
bool right(const Planes<Element>& x, std::int64_t row, const Planes<Element>& y,
           std::int64_t column, TileSum<Element> got) {
  const double high = plain(x, 0, row, y, 0, column);
  if (kPlanes == 1) return got == high;
  const double cross = plain(x, 1, row, y, 0, column) + plain(x, 0, row, y, 1, column);
  if (sizeof(Element) == 1) return std::fabs(got - (high + cross / 254)) <= 0.66;
  return got == high + cross;
}

template <class Element, int kPlanes, int kN>
__global__ void single_tiles(TileOperand rows, TileOperand columns, std::int64_t bytes,
                             std::int64_t width, TileSum<Element>* out) {
  const std::int64_t tiles = width / (32 * kN);
  const std::int64_t row0 = blockIdx.x / tiles * 128, column0 = blockIdx.x % tiles * 32 * kN;
  TileSum<Element> sum[4][kN][4];
  cuda::multiply_tile<Element, kPlanes>(rows, columns, row0, column0, bytes, sum);
  for (int m = 0; m < 4; ++m) {
    for (int n = 0; n < kN; ++n) {
      for (int h = 0; h < 2; ++h) {
        for (int e = 0; e < 2; ++e) {
          out[(row0 + tile_row(m, h)) * width + column0 + tile_column<kN>(n, e)] =
              sum[m][n][2 * h + e];
        }
      }
    }
  }
}

template <class Element, int kPlanes, int kN>
void check_single(std::int64_t rows, std::int64_t columns, std::int64_t bytes, std::int64_t gap,
                  int most) {
  const About about("element of " + std::to_string(sizeof(Element)) + " bytes, " +
                    std::to_string(kPlanes) + " planes, " + std::to_string(32 * kN) + " columns, " +
                    std::to_string(bytes) + " bytes");
  const Stream stream = Stream::make(0);
  Random random(static_cast<std::uint64_t>(bytes));
  const std::int64_t size = sizeof(Element), depth = bytes / size;
  const Planes<Element> x(random, rows, depth, depth + gap / size, most, stream);
  const Planes<Element> y(random, columns, depth, depth + 2 * gap / size, most, stream);
  DeviceBuffer<TileSum<Element>> out(rows * columns, stream, "sums");
  cuda::launch("single_tiles", single_tiles<Element, kPlanes, kN>,
               rows / 128 * (columns / (32 * kN)), cuda::kTileThreads, kRingBytes<kN>, stream,
               x.operand(), y.operand(), bytes, columns, out.data());
  const auto sums = cuda::downloaded(out, stream);
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      wrong +=
          !right<Element, kPlanes>(x, r, y, c, sums[static_cast<std::size_t>(r * columns + c)]);
    }
  }
  CHECK_EQUAL(wrong, std::int64_t{0});
}

// Short rows have fewer slices than the ring has slots.
void single() {
  for (const std::int64_t bytes : {128, 256, 640}) {
    check_single<std::int8_t, 1, 4>(256, 256, bytes, 0, 127);
    check_single<std::int8_t, 1, 8>(128, 512, bytes, 16, 127);
    check_single<__half, 1, 4>(128, 256, bytes, 48, 60);
  }
  for (const std::int64_t bytes : {128, 384}) {
    check_single<std::int8_t, 2, 4>(128, 128, bytes, 16, 127);
    check_single<std::int8_t, 2, 8>(128, 256, bytes, 0, 127);
    check_single<__half, 2, 4>(128, 128, bytes, 0, 60);
    check_single<__half, 2, 8>(128, 256, bytes, 16, 60);
  }
}

// Rows of all 127 reach the largest sums, also between the planes.
template <int kPlanes>
void check_largest(std::int64_t bytes, bool positive) {
  const About about(std::to_string(kPlanes) + " planes of " + std::to_string(bytes));
  const Stream stream = Stream::make(0);
  const std::vector<std::int8_t> most(static_cast<std::size_t>(128 * bytes), 127);
  const std::vector<std::int8_t> least(most.size(), -127);
  const DeviceBuffer<std::int8_t> high = cuda::uploaded(most, stream, "rows");
  const DeviceBuffer<std::int8_t> low = cuda::uploaded(least, stream, "rows");
  DeviceBuffer<std::int32_t> out(128 * 128, stream, "sums");
  const TileOperand rows{{high.data(), high.data()}, bytes};
  const void* const other = positive ? high.data() : low.data();
  const TileOperand columns{{other, other}, bytes};
  cuda::launch("largest", single_tiles<std::int8_t, kPlanes, 4>, 1, cuda::kTileThreads,
               kRingBytes<4>, stream, rows, columns, bytes, std::int64_t{128}, out.data());
  const auto sums = cuda::downloaded(out, stream);
  const double product = (positive ? 127.0 : -127.0) * 127.0 * static_cast<double>(bytes);
  const double want = kPlanes == 1 ? product : product + 2 * product / 254;
  double off = 0;
  for (const std::int32_t sum : sums) off = std::fmax(off, std::fabs(sum - want));
  CHECK_AT_MOST(off, kPlanes == 1 ? 0.0 : 0.66);
}
void largest() {
  check_largest<1>(131072, false);
  check_largest<2>(66048, true);
}

// Tiles of a list, dealt to few blocks; what the epilogue may use is overwritten.
struct RingJob {
  TileOperand rows, columns;
  std::int64_t bytes, width;
  const int4* tiles;  // row0, column0, whether columns from 128 on exist
  int count;
};

template <class Element, int kPlanes, int kN, int kStages>
__global__ void ring_tiles(RingJob job, TileSum<Element>* out) {
  using Ring = cuda::TileRing<Element, kPlanes, kN, kStages>;
  unsigned char* const memory = cuda::shared_memory();
  // Copies that next() starts have arrived with the tile.
  int4* const notes = reinterpret_cast<int4*>(memory + kRingBytes<kN, kStages>);
  Ring ring(job.rows, job.columns, job.bytes, memory);
  int place = static_cast<int>(blockIdx.x), coming = -1, buffer = 0;
  const auto next = [&] {
    if (place >= job.count) return;
    const int4 tile = job.tiles[place];
    coming = place;
    place += static_cast<int>(gridDim.x);
    buffer ^= 1;
    if (threadIdx.x == 0)
      cuda::copy_async_16(cuda::shared_address(notes + buffer), job.tiles + coming);
    ring.open(tile.x, tile.y, tile.z != 0);
  };
  ring.start(next);
  while (coming >= 0) {
    const int4* const note = notes + buffer;
    const int current = coming;
    coming = -1;
    TileSum<Element> sum[4][kN][4];
    ring.multiply(sum, next);
    const int4 tile = *note;
    if (tile.w != current) return;  // nothing is written: seen below
    __syncthreads();
    int* const scratch = reinterpret_cast<int*>(memory + ring.scratch());
    for (int i = static_cast<int>(threadIdx.x); i < Ring::kSlotBytes / 4;
         i += static_cast<int>(blockDim.x)) {
      scratch[i] = -1;
    }
    for (int m = 0; m < 4; ++m) {
      for (int n = 0; n < kN; ++n) {
        for (int h = 0; h < 2; ++h) {
          for (int e = 0; e < 2; ++e) {
            const int column = tile_column<kN>(n, e);
            if (column >= 128 && !tile.z) continue;
            out[(tile.x + tile_row(m, h)) * job.width + tile.y + column] = sum[m][n][2 * h + e];
          }
        }
      }
    }
  }
  cuda::copy_async_wait<0>();
}

template <class Element, int kPlanes, int kN, int kStages>
void check_ring(std::int64_t bytes, std::int64_t blocks) {
  const About about("ring of " + std::to_string(kStages) + ", " + std::to_string(kPlanes) +
                    " planes, " + std::to_string(32 * kN) + " columns, " + std::to_string(bytes) +
                    " bytes, " + std::to_string(blocks) + " blocks");
  const Stream stream = Stream::make(0);
  Random random(static_cast<std::uint64_t>(bytes + kPlanes));
  const std::int64_t rows = 256, columns = 384, depth = bytes / static_cast<int>(sizeof(Element));
  const Planes<Element> x(random, rows, depth, depth, 60, stream);
  const Planes<Element> y(random, columns, depth, depth, 60, stream);
  std::vector<int4> tiles;
  for (int row0 = 128; row0 >= 0; row0 -= 128) {
    for (int column0 = 0; column0 < columns; column0 += 32 * kN) {
      const bool wide = kN == 8 && column0 + 128 < columns;
      tiles.push_back(make_int4(row0, column0, wide, static_cast<int>(tiles.size())));
    }
  }
  const DeviceBuffer<int4> list = cuda::uploaded(tiles, stream, "tiles");
  DeviceBuffer<TileSum<Element>> out(rows * columns, stream, "sums");
  const RingJob job{x.operand(), y.operand(), bytes,
                    columns,     list.data(), static_cast<int>(tiles.size())};
  cuda::launch("ring_tiles", ring_tiles<Element, kPlanes, kN, kStages>, blocks, cuda::kTileThreads,
               kRingBytes<kN, kStages> + 64, stream, job, out.data());
  const auto sums = cuda::downloaded(out, stream);
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      wrong +=
          !right<Element, kPlanes>(x, r, y, c, sums[static_cast<std::size_t>(r * columns + c)]);
    }
  }
  CHECK_EQUAL(wrong, std::int64_t{0});
}

void ring() {
  for (const std::int64_t blocks : {1, 3}) {
    check_ring<std::int8_t, 1, 8, 3>(128, blocks);
    check_ring<std::int8_t, 1, 8, 3>(256, blocks);
    check_ring<std::int8_t, 1, 4, 2>(128, blocks);
    check_ring<std::int8_t, 1, 4, 2>(384, blocks);
  }
  check_ring<std::int8_t, 1, 8, 4>(384, 2);
  check_ring<std::int8_t, 2, 8, 3>(128, 2);
  check_ring<std::int8_t, 2, 4, 2>(256, 2);
  check_ring<__half, 1, 4, 3>(256, 2);
  check_ring<__half, 2, 8, 3>(128, 1);
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  fastgen::emulator::set_shared_limit(227 * 1024);
  return run_tests({{"single", single}, {"largest", largest}, {"ring", ring}}, argc, argv);
}
