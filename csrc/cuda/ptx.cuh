// Every instruction that has no name in CUDA C++, one function each. Under the host emulator the same
// functions come from csrc/emulator/ptx.hpp, so that kernel sources compile for both unchanged.
#pragma once

#include <cstdint>

#include "cuda/gpu.hpp"

#if !defined(__CUDACC__)
#include "emulator/ptx.hpp"
#else

namespace fastgen::cuda {

// Dynamic shared memory of the block, the only kind that kernels use.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char fastgen_shared[];
  return fastgen_shared;
}

// A pointer into shared memory as the 32-bit address that the instructions below take.
__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes from global to shared memory, past the registers and L1; `bytes` 0 writes zeros
// and reads nothing. Both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(std::uint32_t to, const void* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}
// Closes the group of this thread's copies since the last call.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `kPending` of this thread's groups are unfinished.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit items: lanes 8 i to 8 i + 7 give the addresses of matrix i's rows of 16
// bytes; lane l receives bytes 4 (l % 4) to 4 (l % 4) + 3 of row l / 4 of each.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address));
}

// sum += a . b for a 16 x 32 and a 32 x 8 tile of int8, exact in int32 (wrapping).
__device__ __forceinline__ void multiply_add(std::int32_t (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, "
      "{%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// sum += a . b for a 16 x 16 and a 16 x 8 tile of float16, products exact, added in float32 with
// truncation as the tensor cores do it (GPU generations differ in the last bits).
__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// sum += a . b for an 8 x 4 and a 4 x 8 tile of float64: fused multiply-adds, k ascending. Lane l holds
// a[l / 4][l % 4], b[l % 4][l / 4], and sum[l / 4][2 (l % 4)] and its right neighbour.
__device__ __forceinline__ void multiply_add(double (&sum)[2], double a, double b) {
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(sum[0]), "+d"(sum[1])
               : "d"(a), "d"(b));
}

// The same for two blocks of 8 rows. From sm_90 on one instruction: there the compiler spaces both kinds 16 cycles
// apart, though this one does twice the work (read off its output, not measured); on sm_80 10.
__device__ __forceinline__ void multiply_add(double (&upper)[2], double (&lower)[2], double a_upper,
                                             double a_lower, double b) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, "
      "%2, %3};"
      : "+d"(upper[0]), "+d"(upper[1]), "+d"(lower[0]), "+d"(lower[1])
      : "d"(a_upper), "d"(a_lower), "d"(b));
#else
  multiply_add(upper, a_upper, b);
  multiply_add(lower, a_lower, b);
#endif
}

// 2^x, within 2 ulp of the float32 nearest to it (1.25 2^-22 of it at most); subnormal results are kept.
__device__ __forceinline__ float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// The same with results below 2^-126 flushed to 0: one instruction instead of five.
__device__ __forceinline__ float exp2_flushed(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace fastgen::cuda

#endif
