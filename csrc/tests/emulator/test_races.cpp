// Whether the detector of races (emulator/races.hpp, in builds that have it) finds what no barrier
// orders, and nothing else; elsewhere that the kernels that are right run.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/kernels.hpp"

namespace {

using namespace fastgen::cuda;
using fastgen::test::About;
using fastgen::test::kAll;
namespace emulator = fastgen::emulator;

#if defined(FASTGEN_EMULATOR_RACES)
constexpr bool kDetects = true;
#else
constexpr bool kDetects = false;
#endif

// Each case with a barrier where one is needed (`right`), and without.
enum class Case {
  block,      // every thread reads what another warp has written
  warp,       // every lane reads what another lane has written
  overwrite,  // every thread overwrites what another has read
  shuffle,    // a shuffle is no barrier of memory
  bytes,      // neighbouring bytes are different memory
  copy,       // copied by one thread, read by another
  reuse,      // a copy into what another warp still reads
  matrices,   // load_matrices of what another warp has written
  counter,    // a counter, atomic for some, plain for others
  totals,     // atomic for everybody, read after the barrier
  between_blocks,
  count,
};

__global__ void racing_kernel(Case which, bool right, const int* from, int* out) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  const std::uint32_t base = shared_address(shared);
  std::uint32_t words[4] = {0, 0, 0, 0};
  int seen = 0;
  switch (which) {
    case Case::block:
      shared[t] = t;
      if (right) __syncthreads();
      seen = shared[(t + 32) % n];
      break;
    case Case::warp:
      shared[t] = t;
      if (right) __syncwarp();
      seen = shared[t ^ 1];
      break;
    case Case::overwrite:
      shared[t] = t;
      __syncthreads();
      seen = shared[(t + 32) % n];
      if (right) __syncthreads();
      shared[t] = -t;
      break;
    case Case::shuffle:
      shared[t] = t;
      seen = __shfl_xor_sync(kAll, t, 1);
      if (right) __syncwarp();
      seen += shared[t ^ 1];
      break;
    case Case::bytes: {
      unsigned char* bytes = shared_memory();
      bytes[t] = 1;
      if (!right && t == 5) bytes[4] = 2;
      break;
    }
    case Case::copy:
      if (t < 32) copy_async_16(base + 16 * t, from + 4 * t);
      copy_async_commit();
      copy_async_wait<0>();
      if (right) __syncthreads();
      if (t >= 32) seen = shared[t];
      break;
    case Case::reuse:
      shared[t] = t;
      __syncthreads();
      if (t >= 32) seen = shared[t];
      if (right) __syncthreads();
      if (t < 32) copy_async_16(base + 16 * t, from + 4 * t);
      copy_async_commit();
      copy_async_wait<0>();
      break;
    case Case::matrices:
      shared[2 * t] = shared[2 * t + 1] = t;
      if (right) __syncthreads();
      load_matrices(words, base + 16 * (31 - t % 32));
      seen = static_cast<int>(words[0]);
      break;
    case Case::counter:
      if (t == 0) *shared = 0;
      __syncthreads();
      if (right || t != 40) {
        atomicAdd(shared, 1);
      } else {
        *shared += 1;
      }
      break;
    case Case::totals:
      if (t == 0) *shared = 0;
      __syncthreads();
      atomicAdd(shared, 1);
      atomicMax(out + 512, t);
      if (right) __syncthreads();
      seen = *shared;
      break;
    default:
      if (right || t == 0) out[512 + (right ? n * static_cast<int>(blockIdx.x) + t : 0)] = t;
  }
  out[n * static_cast<int>(blockIdx.x) + t] = seen;
}

void test_cases() {
  const Stream stream = Stream::make(0);
  const DeviceBuffer<int> from(128, stream, "from"), out(1024, stream, "out");
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    emulator::set_seed(seed);
    for (int which = 0; which < static_cast<int>(Case::count); ++which) {
      for (const bool right : {true, false}) {
        if (!right && !kDetects) continue;
        const About about("case " + std::to_string(which) + (right ? ", right" : ", wrong") +
                          ", seed " + std::to_string(seed));
        std::string message;
        try {
          launch("racing_kernel", racing_kernel, 2, 64, 512, stream, static_cast<Case>(which),
                 right, static_cast<const int*>(from.data()), out.data());
          stream.synchronize();
        } catch (const CudaError& error) {
          message = error.what();
        }
        emulator::recover();
        CHECK_EQUAL(message.empty(), right);
        if (right) {
          CHECK_EQUAL(message, std::string());
        } else {
          CHECK(message.find("race in ") != std::string::npos);
          CHECK(message.find("test_races.cpp:") != std::string::npos);
        }
      }
    }
  }
  emulator::set_seed(0);
}

}  // namespace

int main(int argc, char** argv) {
  return fastgen::test::run_tests({{"cases", test_cases}}, argc, argv);
}
