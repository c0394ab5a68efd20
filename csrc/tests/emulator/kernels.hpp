// Runs small kernels and brings their results back.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"

namespace fastgen::test {

constexpr unsigned kAll = 0xffffffffu;

// Runs a kernel whose last argument is an array of `count` results.
template <class T, class... Parameters, class... Arguments>
std::vector<T> results(std::int64_t count, void (*kernel)(Parameters...), std::int64_t blocks,
                       int threads, std::int64_t shared, Arguments... arguments) {
  const cuda::Stream stream = cuda::Stream::make(0);
  cuda::DeviceBuffer<T> out(count, stream, "results");
  cuda::fill_bytes(out.data(), 0, out.bytes(), stream);
  cuda::launch("kernel", kernel, blocks, threads, shared, stream, arguments..., out.data());
  return cuda::downloaded(out, stream);
}

template <class T>
cuda::DeviceBuffer<T> on_device(const std::vector<T>& values, const cuda::Stream& stream) {
  return cuda::uploaded(values, stream, "values");
}

}  // namespace fastgen::test
