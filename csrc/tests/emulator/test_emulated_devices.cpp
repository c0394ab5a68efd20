// Several emulated devices, one that fails, and none; and cuda/runtime.hpp on top of them.
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda/events.hpp"
#include "cuda/ptx.cuh"
#include "cuda/rows.hpp"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/emulated_runtime.hpp"

namespace {

using namespace fastgen::cuda;
using namespace fastgen::test;
namespace emulator = fastgen::emulator;

void test_devices() {
  check(cudaSetDevice(0), "");  // somebody uses it: it is current again afterwards
  const std::vector<DeviceInfo> found = devices();
  CHECK_EQUAL(found.size(), std::size_t{2});
  CHECK(found[1].index == 1 && found[1].name == "fastgen emulator" && found[1].major >= 8);
  CHECK_EQUAL(found[0].memory, std::int64_t{400'000'000});
  CHECK_EQUAL(found[0].multiprocessors, multiprocessors(1));
  CHECK_EQUAL(cudaSetDevice(2), cudaErrorInvalidDevice);
  cudaGetLastError();
  {
    const CurrentDevice other(1);
    int device = 0;
    cudaGetDevice(&device);
    CHECK_EQUAL(device, 1);
  }
  int device = 1;
  cudaGetDevice(&device);
  CHECK_EQUAL(device, 0);
  CHECK_THROWS(CurrentDevice(7), CudaError);
}

void test_other_device() {
  const Stream stream = Stream::make(1);
  CHECK_EQUAL(stream.device(), 1);
  DeviceBuffer<int> values = uploaded(std::vector<int>{1, 2, 3}, stream, "test");
  launch("add_kernel", add_kernel, 1, 32, 0, stream, values.data(), 3, 10);
  CHECK_ARRAYS(downloaded(values, stream), (std::vector<int>{11, 12, 13}));
  // From one device to another, each side on its own stream.
  const Stream here = Stream::make(0);
  DeviceBuffer<int> copy(3, here, "test");
  here.synchronize();
  {
    const CurrentDevice current(1);
    CHECK_EQUAL(cudaMemcpyAsync(copy.data(), values.data(), 12, cudaMemcpyDefault, stream.handle()),
                cudaErrorInvalidValue);
    cudaGetLastError();
  }
  check(cudaMemcpyPeerAsync(copy.data(), 0, values.data(), 1, 12, stream.handle()), "");
  stream.synchronize();
  CHECK_ARRAYS(downloaded(copy, here), (std::vector<int>{11, 12, 13}));
  // A kernel goes to the current device only.
  CHECK_EQUAL(emulator::launch("raw", 1, 1, 0, stream.handle(), [] {}),
              cudaErrorInvalidResourceHandle);
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, 0), "");
  CHECK_EQUAL(cudaEventRecord(event, stream.handle()), cudaErrorInvalidResourceHandle);
  check(cudaEventDestroy(event), "");
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, values.data() + 1), "");
  CHECK(attributes.type == cudaMemoryTypeDevice && attributes.device == 1);
  check(cudaPointerGetAttributes(&attributes, &attributes), "");
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
  const Pinned pinned(1);
  check(cudaPointerGetAttributes(&attributes, pinned.data), "");
  CHECK(attributes.type == cudaMemoryTypeHost);
  cudaGetLastError();
  // Memory of one device does not count on the other.
  const DeviceMemory large(100'000'000, stream, "test");
  CHECK(free_memory(0) - free_memory(1) > 90'000'000);
}

// Where only device 1 is used, nothing of device 0's memory is, and no thread is left with a device that
// it did not ask for.
void test_contexts() {
  if (!alone("contexts")) return;
  CHECK_EQUAL(devices().size(), std::size_t{2});
  int host = 0;
  CHECK_EQUAL(device_of(&host), -1);
  CHECK(!has_context(0) && !has_context(1));
  {
    const Stream stream = Stream::make(1);
    DeviceBuffer<int> values = uploaded(std::vector<int>{1, 2, 3}, stream, "test");
    launch("add_kernel", add_kernel, 1, 32, 0, stream, values.data(), 3, 10);
    CHECK_ARRAYS(downloaded(values, stream), (std::vector<int>{11, 12, 13}));
    CHECK(free_memory(1) > 0 && multiprocessors(1) > 0);
    CHECK_EQUAL(current_device(), 0);
    Event event(1);
    event.record(stream);
    std::thread([&] {
      CHECK_EQUAL(device_of(values.data()), 1);
      CHECK_EQUAL(device_of(&values), -1);
      CHECK_EQUAL(current_device(), 0);
    }).join();
  }
  CHECK_EQUAL(current_device(), 0);
  CHECK(has_context(1) && !has_context(0));
  CHECK_THROWS(CurrentDevice(7), CudaError);
  CHECK(has_context(1) && !has_context(0));
  for (const int used : {1, 0}) {  // a thread that has a device has it again afterwards
    check(cudaSetDevice(used), "");
    for (const int other : {0, 1}) {
      const Stream stream = Stream::make(other);
      const DeviceBuffer<int> values = uploaded(std::vector<int>{1}, stream, "test");
      CHECK_EQUAL(current_device(), used);
    }
    CHECK_EQUAL(current_device(), used);
  }
}

// Objects of one thread that end in another: they take no context with them.
void test_ends_in_other_threads() {
  if (!alone("ends_in_other_threads")) return;
  auto stream = std::make_unique<Stream>(Stream::make(1));
  auto event = std::make_unique<Event>(1);
  event->record(*stream);
  auto pinned = std::make_unique<PinnedMemory>(kPinnedBytes + 1, 1);
  auto memory = std::make_unique<DeviceMemory>(100, Stream::make(1), "test");
  const auto end_of = [](auto& object) {
    std::thread([&] {
      object.reset();
      CHECK_EQUAL(current_device(), 0);
    }).join();
    CHECK(has_context(1) && !has_context(0));
  };
  end_of(event);
  end_of(stream);
  end_of(pinned);
  end_of(memory);
}

void test_failing_device() {
  const Stream bad = Stream::make(1), good = Stream::make(0);
  CHECK(has(error_of([&] {
              launch("huge", add_kernel, std::int64_t{1} << 31, 32, 0, good, nullptr, 0, 0);
            }),
            "huge: expected at most 2^31 - 1 blocks, got 2147483648"));
  DeviceBuffer<int> values(1, bad, "test");
  launch("add_kernel", add_kernel, 1, 32, 0, bad, values.data(), 1, 1);
  launch(
      "barrier_kernel",
      +[](int) {
        if (threadIdx.x) __syncthreads();
      },
      1, 32, 0, bad, 0);
  const std::string message = error_of([&] { downloaded(values, bad); });
  CHECK(has(message, "on device 1 (fastgen emulator): unspecified launch failure"));
  CHECK(has(message, "kernel barrier_kernel"));
  CHECK(has(message, "the last kernel launched there was barrier_kernel"));
  // The other device does not mind.
  const DeviceBuffer<int> other = uploaded(std::vector<int>{4}, good, "test");
  CHECK_EQUAL(downloaded(other, good)[0], 4);
  values = DeviceBuffer<int>();  // giving memory back does not throw
  emulator::recover();
}

void test_no_driver() {
  if (!alone("no_driver", "FASTGEN_EMULATOR_DEVICES=0")) return;
  CHECK_EQUAL(devices().size(), std::size_t{0});
  CHECK_EQUAL(cudaGetLastError(), cudaSuccess);
  CHECK(has(error_of([] { Stream::make(0); }), "driver version is insufficient"));
}

}  // namespace

int main(int argc, char** argv) {
  return fastgen::test::run_runtime_tests({{"devices", test_devices},
                                           {"other_device", test_other_device},
                                           {"contexts", test_contexts},
                                           {"ends_in_other_threads", test_ends_in_other_threads},
                                           {"failing_device", test_failing_device},
                                           {"no_driver", test_no_driver}},
                                          argc, argv);
}
