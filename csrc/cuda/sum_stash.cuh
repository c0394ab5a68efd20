// A thread's products in shared memory, where loops may index them.
#pragma once

#include <cstdint>

#include "cuda/slice_ring.cuh"

namespace fastgen::cuda {

// Some of a thread's 8 rows at a time, 8 values each, at the ring's scratch: a run of 4 rows in float32, 6
// rows in float64. The other rows wait in registers until the first run is done with.
template <class Real>
class Stash {
 public:
  static constexpr int kRows = sizeof(Real) == 4 ? 4 : 6;
  static constexpr std::int64_t kBytes = kRows * 8 * std::int64_t{sizeof(Real)} * kSumThreads;

  __device__ __forceinline__ explicit Stash(std::uint32_t offset)
      : own_(shared_memory() + offset + threadIdx.x * 16) {}
  __device__ __forceinline__ void load(int r, Real (&values)[8]) const {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const Piece piece = *at(r, p);
#pragma unroll
      for (int i = 0; i < kItems; ++i) values[p * kItems + i] = piece.items[i];
    }
  }
  __device__ __forceinline__ void store(int r, const Real (&values)[8]) const {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      Piece piece;
#pragma unroll
      for (int i = 0; i < kItems; ++i) piece.items[i] = values[p * kItems + i];
      *at(r, p) = piece;
    }
  }

 private:
  // 16 bytes of every thread side by side.
  static constexpr int kItems = 16 / sizeof(Real), kPieces = 8 / kItems;
  struct alignas(16) Piece {
    Real items[kItems];
  };
  __device__ __forceinline__ Piece* at(int r, int piece) const {
    const int place = r < kRows ? r : r - kRows;
    return reinterpret_cast<Piece*>(own_ + (place * kPieces + piece) * kSumThreads * 16);
  }
  unsigned char* own_;
};

}  // namespace fastgen::cuda
