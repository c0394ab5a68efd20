// The emulator itself: threads, warps, tensor cores and shared memory against plain loops, and
// whether it reports what it should. test_emulated_runtime.cpp has streams and memory,
// test_emulated_devices.cpp several devices.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/kernels.hpp"

namespace {

using namespace fastgen::cuda;
using fastgen::test::About;
using fastgen::test::kAll;
using fastgen::test::on_device;
using fastgen::test::results;
namespace emulator = fastgen::emulator;

// The message of the error that a kernel ends in; empty if it does not.
template <class... Parameters, class... Arguments>
std::string error_of(void (*kernel)(Parameters...), int blocks, int threads, std::int64_t shared,
                     Arguments... arguments) {
  std::string message;
  try {
    const Stream stream = Stream::make(0);
    launch("bad_kernel", kernel, blocks, threads, shared, stream, arguments...);
    stream.synchronize();
  } catch (const CudaError& error) {
    message = error.what();
  }
  emulator::recover();
  return message;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// ---- warps and barriers

__global__ void shuffle_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int value = 1000 * static_cast<int>(threadIdx.x / 32) + lane * lane;
  int* own = out + 10 * threadIdx.x;
  own[0] = __shfl_sync(kAll, value, (3 * lane + 1) % 32);
  own[1] = __shfl_up_sync(kAll, value, 5);
  own[2] = __shfl_down_sync(kAll, value, 5);
  own[3] = __shfl_xor_sync(kAll, value, 13);
  own[4] = __shfl_sync(kAll, value, 1, 8);
  own[5] = __shfl_xor_sync(kAll, value, 3, 4);
  own[6] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  own[7] = __any_sync(kAll, lane == 7 && threadIdx.x < 32);
  own[8] = __all_sync(kAll, lane != 7 || threadIdx.x < 32);
  own[9] = static_cast<int>(__shfl_down_sync(kAll, 0.5 * lane, 1, 16) * 2);
}

void test_warps() {
  const std::vector<int> got = results<int>(640, shuffle_kernel, 1, 64, 0);
  std::vector<int> want;
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32;
    const auto value = [&](int l) { return 1000 * (t / 32) + l * l; };
    unsigned thirds = 0;
    for (int l = 0; l < 32; l += 3) thirds |= 1u << l;
    for (const int v : {value((3 * lane + 1) % 32), value(lane < 5 ? lane : lane - 5),
                        value(lane > 26 ? lane : lane + 5), value(lane ^ 13),
                        value(lane / 8 * 8 + 1), value(lane ^ 3), static_cast<int>(thirds),
                        int{t < 32}, int{t < 32}, lane % 16 == 15 ? lane : lane + 1}) {
      want.push_back(v);
    }
  }
  CHECK_ARRAYS(got, want);
}

__global__ void barrier_kernel(int* out) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  int sum = 0;
  for (int round = 0; round < 20; ++round) {
    shared[t] = t * round;
    __syncthreads();
    sum += shared[(t + 37 * round) % n];
    __syncthreads();
  }
  out[4 * t] = sum;
  out[4 * t + 1] = __syncthreads_count(t % 3 == 0);
  out[4 * t + 2] = __syncthreads_or(t == 5) + 10 * __syncthreads_or(t == 5000);
  out[4 * t + 3] = __syncthreads_and(t != 5) + 10 * __syncthreads_and(t != 5000);
}

void test_barriers() {
  for (const int n : {1, 31, 32, 96, 250, 1024}) {
    const About about(std::to_string(n) + " threads");
    const std::vector<int> got = results<int>(4 * n, barrier_kernel, 1, n, 4 * n);
    std::vector<int> want;
    for (int t = 0; t < n; ++t) {
      int sum = 0;
      for (int round = 0; round < 20; ++round) sum += (t + 37 * round) % n * round;
      for (const int v : {sum, (n + 2) / 3, int{n > 5}, n > 5 ? 10 : 11}) want.push_back(v);
    }
    CHECK_ARRAYS(got, want);
  }
}

__global__ void atomic_kernel(int* out) {
  auto* wide = reinterpret_cast<unsigned long long*>(out + 8);
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(out, t);
  atomicMin(out + 1, -t);
  atomicMax(out + 2, t);
  atomicOr(reinterpret_cast<unsigned*>(out + 3), 1u << t % 32);
  int seen = *static_cast<volatile int*>(out + 4);
  for (;;) {  // t added by hand
    const int before = atomicCAS(out + 4, seen, seen + t);
    if (before == seen) break;
    seen = before;
  }
  atomicAdd(wide, 1ull << 33);
  atomicMax(wide + 1, static_cast<unsigned long long>(t) << 32);
  if (t == 17) atomicExch(out + 5, 4);
}

void test_atomics() {
  const std::vector<int> got = results<int>(12, atomic_kernel, 3, 100, 0);
  CHECK_EQUAL(got[0], 299 * 150);
  CHECK_EQUAL(got[1], -299);
  CHECK_EQUAL(got[2], 299);
  CHECK_EQUAL(got[3], -1);
  CHECK_EQUAL(got[4], 299 * 150);
  CHECK_EQUAL(got[5], 4);
  std::uint64_t wide[2];
  std::memcpy(wide, got.data() + 8, sizeof(wide));
  CHECK_EQUAL(wide[0], std::uint64_t{300} << 33);
  CHECK_EQUAL(wide[1], std::uint64_t{299} << 32);
}

// The order of arrival: t writes the number of those before it.
__global__ void order_kernel(int* out) {
  out[1 + blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(out, 1);
}

void test_seeds() {
  std::vector<std::vector<int>> orders;
  for (const std::uint64_t seed : {1, 2, 3, 1}) {
    emulator::set_seed(seed);
    orders.push_back(results<int>(1 + 512, order_kernel, 4, 128, 0));
  }
  emulator::set_seed(0);
  CHECK_ARRAYS(orders[3], orders[0]);
  CHECK(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2]);
}

// ---- shared memory and copies into it

__global__ void fresh_kernel(int bytes, int* out) {
  const unsigned char* shared = shared_memory();
  int fresh = 0;
  for (int i = 0; i < bytes; ++i) fresh += shared[i] == 0xff;
  out[blockIdx.x] = fresh;
  memset(shared_memory(), 1, static_cast<std::size_t>(bytes));
}

void test_shared_memory() {
  CHECK_ARRAYS(results<int>(5, fresh_kernel, 5, 1, 1001, 1001), std::vector<int>(5, 1001));
  const std::int64_t common = 99 * 1024, most = 227 * 1024;
  CHECK(has(error_of(fresh_kernel, 1, 1, most + 1, 0, static_cast<int*>(nullptr)), "bad_kernel"));
  emulator::set_shared_limit(most);
  CHECK_EQUAL(results<int>(1, fresh_kernel, 1, 1, most, static_cast<int>(most))[0],
              static_cast<int>(most));
  emulator::set_shared_limit(common);
  CHECK_EQUAL(results<int>(1, fresh_kernel, 1, 1, common, static_cast<int>(common))[0],
              static_cast<int>(common));
  CHECK(has(error_of(fresh_kernel, 1, 1, common + 1, 0, static_cast<int*>(nullptr)),
            "invalid argument"));
}

__global__ void copy_kernel(const int* from, int* out) {
  int* shared = reinterpret_cast<int*>(shared_memory());
  const std::uint32_t base = shared_address(shared);
  for (int i = 0; i < 24; ++i) shared[i] = 7;
  for (int group = 0; group < 3; ++group) {
    copy_async_16(base + 32 * group, from + 4 * group);
    copy_async_16(base + 32 * group + 16, group == 1 ? nullptr : from, group == 1 ? 0 : 16);
    copy_async_commit();
  }
  const auto look = [&](int row) {
    for (int i = 0; i < 6; ++i) out[6 * row + i] = shared[4 * i];
  };
  look(0);
  copy_async_wait<3>();
  look(1);
  copy_async_wait<1>();
  look(2);
  copy_async_wait<0>();
  look(3);
}

void test_copies() {
  const Stream stream = Stream::make(0);
  std::vector<int> values(12);
  for (int i = 0; i < 12; ++i) values[i] = 100 + i;
  const auto from = on_device(values, stream);
  stream.synchronize();
  const auto got = results<int>(24, copy_kernel, 1, 1, 96, static_cast<const int*>(from.data()));
  const std::vector<int> want = {-1,  -1,  -1,  -1, -1, -1, -1,  -1,  -1,  -1, -1,  -1,
                                 100, 100, 104, 0,  -1, -1, 100, 100, 104, 0,  108, 100};
  CHECK_ARRAYS(got, want);
}

// ---- what it must complain about

__global__ void bad_kernel(int what, int* out) {
  const unsigned t = threadIdx.x, lane = t % 32;
  unsigned char* shared = shared_memory();
  const std::uint32_t base = shared_address(shared);
  std::uint32_t words[4];
  switch (what) {
    case 0:
      break;
    case 1:  // a warp of which some lanes come
      if (lane < 5) __syncwarp();
      break;
    case 2:  // lanes of a warp in different places
      if (lane < 5) {
        __syncwarp();
      } else {
        __shfl_sync(kAll, 1, 0);
      }
      break;
    case 3:
      if (t != 40) __syncthreads();
      break;
    case 4:  // one warp waits for the others, one lane for its warp
      if (t == 40) {
        __syncwarp();
      } else {
        __syncthreads();
      }
      break;
    case 5:
      __shfl_sync(0xffffu, 1, 0);
      break;
    case 6:
      load_matrices(words, base + 8);
      break;
    case 7:
      load_matrices(words, base + 1024 - (lane == 31 ? 0 : 16));
      break;
    case 8:
      copy_async_16(base + 4, nullptr, 0);
      break;
    case 9:
      copy_async_16(base, reinterpret_cast<const void*>(8), 0);
      break;
    case 10:
      copy_async_16(base + 16 * lane, out);
      copy_async_commit();
      copy_async_wait<1>();
      break;
    case 11:
      copy_async_16(base + 1024 - 8, nullptr, 0);
      break;
    case 12:
      shared_address(&t);
      break;
    case 13:  // barriers of one block in two places
      if (t < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
      break;
    case 14:
      load_matrices(words, 16);  // not an address in the window
      break;
    default:
      if (t == 17) throw std::string("not a thing for kernels");
  }
}

void test_complaints() {
  const Stream stream = Stream::make(0);
  const DeviceBuffer<int> out(4, stream, "out");
  const struct {
    int what;
    const char* parts[3];
  } cases[] = {
      {1, {"__syncwarp", "", ""}},
      {2, {"__syncwarp", "__shfl_sync", "wait in"}},
      {3, {"__syncthreads", "thread 40", "have ended"}},
      {4, {"deadlock", "threads 40 wait in __syncwarp", "__syncthreads"}},
      {5, {"__shfl_sync", "mask 0000ffff", ""}},
      {6, {"load_matrices", "misaligned", "byte 8"}},
      {7, {"load_matrices", "byte 1024 of shared memory", ""}},
      {8, {"copy_async_16", "misaligned", "byte 4"}},
      {9, {"copy_async_16", "misaligned", "global"}},
      {10, {"copy_async_16", "never waited for", ""}},
      {11, {"copy_async_16", "byte 1016 of shared memory", ""}},
      {12, {"shared_address", "not in shared memory", ""}},
      {13, {"__syncthreads", "others wait in", ""}},
      {14, {"load_matrices", "byte -1008", ""}},
      {15, {"exception", "thread 17", ""}},
  };
  for (const std::uint64_t seed : {0, 1, 2, 3, 4}) {
    emulator::set_seed(seed);
    CHECK_EQUAL(error_of(bad_kernel, 2, 64, 1024, 0, out.data()), std::string());
    for (const auto& bad : cases) {
      const About about("case " + std::to_string(bad.what) + ", seed " + std::to_string(seed));
      const std::string message = error_of(bad_kernel, 2, 64, 1024, bad.what, out.data());
      const bool named = has(message, "kernel bad_kernel") && has(message, "block ") &&
                         has(message, ", thread ") && has(message, "on device 0");
      CHECK(named);
      for (const char* part : bad.parts) CHECK(has(message, part));
      if (!named) std::fprintf(stderr, "%s\n", message.c_str());
    }
  }
  emulator::set_seed(0);
  CHECK(has(error_of(bad_kernel, 1, 1025, 0, 0, out.data()), "invalid configuration"));
  CHECK(has(error_of(bad_kernel, 1, 0, 0, 0, out.data()), "bad_kernel failed on device 0"));
}

void test_after_a_failure() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> out(1, stream, "out");
  launch("first", bad_kernel, 1, 64, 1024, stream, 3, out.data());
  launch("second", bad_kernel, 1, 64, 1024, stream, 0, out.data());
  CHECK_THROWS(stream.synchronize(), CudaError);
  CHECK_THROWS(launch("third", bad_kernel, 1, 64, 1024, stream, 0, out.data()), CudaError);
  CHECK_EQUAL(cudaPeekAtLastError(), cudaErrorLaunchFailure);
  emulator::recover();
  launch("fourth", bad_kernel, 1, 64, 1024, stream, 0, out.data());
  stream.synchronize();
  CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
}

}  // namespace

int main(int argc, char** argv) {
  return fastgen::test::run_tests({{"warps", test_warps},
                                   {"barriers", test_barriers},
                                   {"atomics", test_atomics},
                                   {"seeds", test_seeds},
                                   {"shared_memory", test_shared_memory},
                                   {"copies", test_copies},
                                   {"complaints", test_complaints},
                                   {"after_a_failure", test_after_a_failure}},
                                  argc, argv);
}
