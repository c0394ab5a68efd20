// The products that tensor cores compute, with their layouts and their rounding. A tile step of a
// kernel makes some 700 calls, so they are written with vectors.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "emulator/cuda_runtime.hpp"
#include "emulator/ptx.hpp"
#include "emulator/races.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

namespace fastgen::emulator {
namespace {

std::int64_t conflicts = 0;

TensorCores kind = [] {
  const char* text = std::getenv("FASTGEN_EMULATOR_TENSOR_CORES");
  return text && std::strcmp(text, "ampere") == 0 ? TensorCores::ampere : TensorCores::hopper;
}();

// GCC defines __AVX2__ for the whole file or not at all.
#define FASTGEN_EMULATOR_VECTORS 128
namespace any_cpu {
#include "emulator/tensor_products-inl.hpp"
}
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FASTGEN_EMULATOR_AVX2 1
#undef FASTGEN_EMULATOR_VECTORS
#define FASTGEN_EMULATOR_VECTORS 256
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
#include "emulator/tensor_products-inl.hpp"
}
#pragma GCC pop_options
const bool has_avx2 = __builtin_cpu_supports("avx2") > 0;
#endif

}  // namespace

std::int64_t bank_conflicts() { return conflicts; }

void set_tensor_cores(TensorCores wanted) { kind = wanted; }

void multiply_int8(const void* const* in, void* const* out) {
#if defined(FASTGEN_EMULATOR_AVX2)
  if (has_avx2) return avx2::multiply_int8(in, out);
#endif
  any_cpu::multiply_int8(in, out);
}

void multiply_half(const void* const* in, void* const* out) {
#if defined(FASTGEN_EMULATOR_AVX2)
  if (has_avx2) return avx2::multiply_half(in, out, kind);
#endif
  any_cpu::multiply_half(in, out, kind);
}

void load_matrices(const void* const* in, void* const* out, Site site) {
  const unsigned char* rows[32];
  for (int j = 0; j < 4; ++j) {
    int most = 0, rows_of_banks[8] = {};
    for (int i = 8 * j; i < 8 * j + 8; ++i) {
      const std::uint32_t address = *static_cast<const std::uint32_t*>(in[i]);
      most = std::max(most, ++rows_of_banks[address / 16 % 8]);
    }
    conflicts += most - 1;
  }
  for (int i = 0; i < 32; ++i) {
    rows[i] = shared_at(*static_cast<const std::uint32_t*>(in[i]), 16, 16, "load_matrices", site);
    races::read(rows[i], 16, threadIdx.x / 32 * 32 + static_cast<unsigned>(i), site);
  }
  for (int lane = 0; lane < 32; ++lane) {
    std::uint32_t* to = static_cast<std::uint32_t*>(out[lane]);
    for (int j = 0; j < 4; ++j) std::memcpy(to + j, rows[8 * j + lane / 4] + 4 * (lane % 4), 4);
  }
}

void multiply_double(const void* const* in, void* const*) {
  double a[8][4], b[8][4];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const DoubleFragments*>(in[lane]);
    a[lane / 4][lane % 4] = own.a;
    b[lane / 4][lane % 4] = own.b;
  }
  for (int lane = 0; lane < 32; ++lane) {
    double* sum = static_cast<const DoubleFragments*>(in[lane])->sum;
    for (int e = 0; e < 2; ++e) {
      const double* x = a[lane / 4];
      const double* y = b[2 * (lane % 4) + e];
      for (int k = 0; k < 4; ++k) sum[e] = std::fma(x[k], y[k], sum[e]);
    }
  }
}

}  // namespace fastgen::emulator
