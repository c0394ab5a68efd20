// The emulated runtime: streams run as late as they may, memory is poisoned and may run out; and
// cuda/runtime.hpp on top of it.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"
#include "emulator/fiber.hpp"
#include "tests/check.hpp"
#include "tests/emulator/emulated_runtime.hpp"

#if FASTGEN_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace {

using namespace fastgen::cuda;
using namespace fastgen::test;
namespace emulator = fastgen::emulator;

__global__ void scale_kernel(int* values, int count, int value) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    values[i] *= value;
  }
}
__global__ void read_kernel(const int* from, int* to) { *to = *from; }

// ---- streams

void test_late_copies() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> device(4, stream, "test");
  Pinned host(4);
  for (int i = 0; i < 4; ++i) host.data[i] = i;
  check(cudaMemcpyAsync(device.data(), host.data, 16, cudaMemcpyHostToDevice, stream.handle()), "");
  host.data[0] = 100;  // too early
  CHECK_EQUAL(downloaded(device, stream)[0], 100);
  // runtime.hpp's own copies wait, whatever the memory.
  upload(device.data(), host.data, 16, stream);
  host.data[0] = 200;
  CHECK_EQUAL(downloaded(device, stream)[0], 100);
  // Pageable memory is read at once.
  std::vector<int> plain = {1, 2, 3, 4};
  upload(device.data(), plain.data(), 16, stream);
  plain.assign(4, 9);
  CHECK_ARRAYS(downloaded(device, stream), (std::vector<int>{1, 2, 3, 4}));
  // What has not come yet is poison.
  check(cudaMemcpyAsync(host.data, device.data(), 16, cudaMemcpyDeviceToHost, stream.handle()), "");
  CHECK_EQUAL(host.data[1], -1);
  stream.synchronize();
  CHECK_EQUAL(host.data[1], 2);
}

// A device that reads the host's pages itself need not have read them when the call returns.
void test_pageable_access() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> device(4, stream, "test");
  std::vector<int> plain = {1, 2, 3, 4};
  emulator::set_pageable_access(true);
  check(cudaMemcpyAsync(device.data(), plain.data(), 16, cudaMemcpyHostToDevice, stream.handle()),
        "");
  plain[0] = 100;  // too early
  CHECK_EQUAL(downloaded(device, stream)[0], 100);
  upload(device.data(), plain.data(), 16, stream);
  plain.assign(4, 9);
  CHECK_ARRAYS(downloaded(device, stream), (std::vector<int>{100, 2, 3, 4}));
  emulator::set_pageable_access(false);
}

void test_order_in_a_stream() {
  for (const std::uint64_t seed : {0, 1, 2}) {
    emulator::set_seed(seed);
    const Stream stream = Stream::make(0);
    DeviceBuffer<int> values(100, stream, "test");
    fill_bytes(values.data(), 0, values.bytes(), stream);
    for (int i = 1; i < 8; ++i) {
      launch("add_kernel", add_kernel, 1, 32, 0, stream, values.data(), 100, i);
      launch("scale_kernel", scale_kernel, 1, 32, 0, stream, values.data(), 100, 3);
    }
    int want = 0;
    for (int i = 1; i < 8; ++i) want = (want + i) * 3;
    CHECK_ARRAYS(downloaded(values, stream), std::vector<int>(100, want));
  }
  emulator::set_seed(0);
}

void test_events() {
  const Stream first = Stream::make(0), second = Stream::make(0);
  DeviceBuffer<int> a(1, first, "test"), b(1, first, "test");
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "");
  CHECK_EQUAL(cudaEventQuery(event), cudaSuccess);  // never recorded
  check(cudaStreamWaitEvent(second.handle(), event, 0), "");
  fill_bytes(a.data(), 1, 4, first);
  check(cudaEventRecord(event, first.handle()), "");
  fill_bytes(a.data(), 2, 4, first);  // behind the event
  check(cudaStreamWaitEvent(second.handle(), event, 0), "");
  launch("read_kernel", read_kernel, 1, 1, 0, second, static_cast<const int*>(a.data()), b.data());
  CHECK_EQUAL(cudaEventQuery(event), cudaErrorNotReady);
  CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
  check(cudaEventSynchronize(event), "");
  CHECK_EQUAL(cudaEventQuery(event), cudaSuccess);
  second.synchronize();
  const int got = downloaded(b, first)[0];
  CHECK(got == 0x01010101 || got == 0x02020202);  // the second filling may come before the kernel
  // An event that has been recorded again stands for the last time.
  check(cudaEventRecord(event, first.handle()), "");
  fill_bytes(b.data(), 3, 4, second);
  check(cudaEventRecord(event, second.handle()), "");
  check(cudaStreamWaitEvent(first.handle(), event, 0), "");
  check(cudaEventDestroy(event), "");
  CHECK_EQUAL(downloaded(b, first)[0], 0x03030303);
  CHECK_EQUAL(cudaEventDestroy(event), cudaErrorInvalidResourceHandle);
  CHECK_EQUAL(cudaGetLastError(), cudaErrorInvalidResourceHandle);
}

// Without an event either of two streams may come first: over many seeds both happen.
void test_unordered_streams() {
  int seen[2] = {0, 0};
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    emulator::set_seed(seed);
    const Stream first = Stream::make(0), second = Stream::make(0);
    DeviceBuffer<int> value(1, first, "test");
    first.synchronize();
    for (int i = 0; i < 4; ++i) fill_bytes(value.data(), 1, 4, first);
    for (int i = 0; i < 4; ++i) fill_bytes(value.data(), 2, 4, second);
    check(cudaDeviceSynchronize(), "");
    const int got = downloaded(value, first)[0];
    ++seen[got == 0x02020202];
  }
  emulator::set_seed(0);
  CHECK(seen[0] > 0 && seen[1] > 0);
}

void test_legacy_stream() {
  for (const std::uintptr_t handle : {0, 1}) {
    const Stream legacy(0, handle);
    cudaStream_t blocking_handle;
    check(cudaStreamCreate(&blocking_handle), "");
    const Stream blocking(0, reinterpret_cast<std::uintptr_t>(blocking_handle));
    DeviceBuffer<int> value(1, legacy, "test");
    for (int i = 0; i < 10; ++i) {  // in turns: each waits for the other
      fill_bytes(value.data(), 2 * i, 4, legacy);
      launch("add_kernel", add_kernel, 1, 1, 0, blocking, value.data(), 1, 5);
    }
    const Stream own(0, 2);  // the thread's own: a blocking stream, too
    launch("add_kernel", add_kernel, 1, 1, 0, legacy, value.data(), 1, 100);
    launch("add_kernel", add_kernel, 1, 1, 0, own, value.data(), 1, 1000);
    CHECK_EQUAL(downloaded(value, legacy)[0], 18 * 0x01010101 + 1105);
    check(cudaStreamDestroy(blocking_handle), "");
  }
}

void test_destroyed_stream() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> value(1, stream, "test");
  stream.synchronize();
  cudaStream_t other;
  check(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), "");
  check(cudaMemsetAsync(value.data(), 5, 4, other), "");
  check(cudaStreamDestroy(other), "");
  CHECK_EQUAL(cudaStreamSynchronize(other), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
  check(cudaDeviceSynchronize(), "");
  CHECK_EQUAL(downloaded(value, stream)[0], 0x05050505);
}

void test_asking_again() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> value(1, stream, "test");
  for (int i = 0; i < 5; ++i) fill_bytes(value.data(), i, 4, stream);
  int asked = 0;
  while (cudaStreamQuery(stream.handle()) == cudaErrorNotReady && asked < 100) ++asked;
  CHECK(asked > 0 && asked < 100);
}

// ---- memory

void test_poison() {
  const Stream stream = Stream::make(0);
  const DeviceBuffer<int> fresh(50, stream, "test");
  CHECK_ARRAYS(downloaded(fresh, stream), std::vector<int>(50, -1));
  CHECK(reinterpret_cast<std::uintptr_t>(fresh.data()) % 256 == 0);
#if FASTGEN_ASAN
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(fresh.data());
  CHECK(__asan_address_is_poisoned(bytes) && __asan_address_is_poisoned(bytes + 199));
#endif
}

#if FASTGEN_ASAN
__global__ void look_kernel(const unsigned char* bytes, int count, int* out) {
  for (int i = -256; i < count + 256; ++i) out[i + 256] = __asan_address_is_poisoned(bytes + i);
}

// A kernel sees exactly its device's memory, and a block its shared memory.
void test_bounds() {
  const Stream stream = Stream::make(0), other = Stream::make(1);
  DeviceMemory bytes(1001, stream, "test"), foreign(1001, other, "test");
  DeviceBuffer<int> out(1001 + 512, stream, "test");
  other.synchronize();
  const auto look = [&](const DeviceMemory& memory) {
    launch("look_kernel", look_kernel, 1, 1, 0, stream,
           static_cast<const unsigned char*>(memory.data()), 1001, out.data());
    return downloaded(out, stream);
  };
  std::vector<int> want(1001 + 512, 1);
  CHECK_ARRAYS(look(foreign), want);
  std::fill(want.begin() + 256, want.begin() + 256 + 1001, 0);
  CHECK_ARRAYS(look(bytes), want);
}
#endif

void test_use_before_allocation() {
  const Stream first = Stream::make(0), second = Stream::make(0);
  const DeviceBuffer<int> value(1, first, "test");
  check(cudaMemsetAsync(value.data(), 1, 4, first.handle()), "");
  first.synchronize();
  CHECK_EQUAL(downloaded(value, second)[0], 0x01010101);
  // Nothing may be copied from or to memory that has been given back, or past its end.
  void* pointer;
  check(cudaMalloc(&pointer, 100), "");
  int host = 0;
  CHECK_EQUAL(cudaMemcpy(&host, static_cast<char*>(pointer) + 97, 4, cudaMemcpyDeviceToHost),
              cudaErrorInvalidValue);
  CHECK_EQUAL(cudaMemcpy(&host, pointer, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  check(cudaFreeAsync(pointer, first.handle()), "");
  CHECK_EQUAL(cudaMemcpy(&host, pointer, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaFree(pointer), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaFreeAsync(&host, first.handle()), cudaErrorInvalidValue);
  CHECK_EQUAL(cudaGetLastError(), cudaErrorInvalidValue);
}

void test_out_of_memory() {
  constexpr std::int64_t kLarge = 300'000'000;
  const Stream stream = Stream::make(0);
  const std::int64_t before = free_memory(0);
  {
    const DeviceMemory first(kLarge, stream, "the first half");
    CHECK(free_memory(0) <= before - kLarge);
    const std::string message =
        error_of([&] { const DeviceMemory second(kLarge, stream, "the second half"); });
    CHECK(has(message,
              "out of memory for the second half: needed 300 MB on device 0 (fastgen emulator), "));
    CHECK(has(message, " MB free"));
    CHECK_THROWS(DeviceMemory(kLarge, stream, "test"), OutOfMemory);
    CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
    // The device stays usable.
    const DeviceBuffer<int> small(3, stream, "test");
    fill_bytes(small.data(), 1, 12, stream);
    CHECK_EQUAL(downloaded(small, stream)[2], 0x01010101);
  }
  // What has been freed can be had at once, also by another stream, although the pool still keeps
  // it.
  const DeviceMemory again(kLarge, stream, "test");
  CHECK_THROWS(DeviceMemory(std::int64_t{1} << 60, stream, "test"), OutOfMemory);
}

// Freed memory stays in the pool up to a bound; others can have the rest after a wait.
void test_pool() {
  const Stream stream = Stream::make(0);
  check(cudaDeviceSynchronize(), "");
  const auto free_to_others = [] {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "");
    return static_cast<std::int64_t>(free);
  };
  const std::int64_t before = free_memory(0);
  {
    const DeviceMemory memory(300'000'000, stream, "test");
  }
  stream.synchronize();
  CHECK_EQUAL(free_memory(0), before);
  CHECK(free_to_others() >= before - (std::int64_t{256} << 20));
  CHECK(free_to_others() < before);
  cudaMemPool_t ours;
  std::uint64_t threshold = 1;
  check(cudaDeviceGetDefaultMemPool(&ours, 0), "");
  check(cudaMemPoolGetAttribute(ours, cudaMemPoolAttrReleaseThreshold, &threshold), "");
  CHECK_EQUAL(threshold, std::uint64_t{0});  // the process's own pool is left alone
}

void test_moving_memory() {
  const Stream stream = Stream::make(0);
  DeviceBuffer<int> a(5, stream, "test");
  fill_bytes(a.data(), 1, a.bytes(), stream);
  int* data = a.data();
  DeviceBuffer<int> b = std::move(a);
  CHECK(b.data() == data);
  a = DeviceBuffer<int>(7, stream, "test");
  a = std::move(b);
  CHECK(a.data() == data);
  CHECK_ARRAYS(downloaded(a, stream), std::vector<int>(5, 0x01010101));
  const DeviceBuffer<int> none(0, stream, "test");
  CHECK(none.data() == nullptr);
  CHECK_ARRAYS(downloaded(none, stream), std::vector<int>());
  DeviceBuffer<int> copy(5, stream, "test");
  copy_on_device(copy.data(), a.data(), a.bytes(), stream);
  CHECK_ARRAYS(downloaded(copy, stream), std::vector<int>(5, 0x01010101));
}

void test_memory() {
  test_order_in_a_stream();
  test_moving_memory();
  test_out_of_memory();
}

void test_no_pools() {
  if (alone("no_pools", "FASTGEN_EMULATOR_POOLS=0")) test_memory();
}

void test_broken_pools() {
  if (alone("broken_pools", "FASTGEN_EMULATOR_POOLS=2")) test_memory();
}

}  // namespace

int main(int argc, char** argv) {
  return fastgen::test::run_runtime_tests({{"late_copies", test_late_copies},
                                           {"pageable_access", test_pageable_access},
                                           {"order_in_a_stream", test_order_in_a_stream},
                                           {"events", test_events},
                                           {"unordered_streams", test_unordered_streams},
                                           {"legacy_stream", test_legacy_stream},
                                           {"destroyed_stream", test_destroyed_stream},
                                           {"asking_again", test_asking_again},
                                           {"poison", test_poison},
#if FASTGEN_ASAN
                                           {"bounds", test_bounds},
#endif
                                           {"use_before_allocation", test_use_before_allocation},
                                           {"out_of_memory", test_out_of_memory},
                                           {"pool", test_pool},
                                           {"moving_memory", test_moving_memory},
                                           {"no_pools", test_no_pools},
                                           {"broken_pools", test_broken_pools}},
                                          argc, argv);
}
