// How a kernel starts: through the CUDA runtime, or on the host emulator. Included by runtime.hpp.
#pragma once

namespace fastgen::cuda {

// Remembers the kernel for the message of an error that shows itself only later.
void note_launch(const char* name, int device);

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
            std::int64_t shared, const Stream& stream, Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable<std::decay_t<Parameters>>::value && ...),
                "kernels take plain values");
  static_assert((!std::is_reference<Parameters>::value && ...), "kernels take plain values");
  static_assert((sizeof(std::decay_t<Parameters>) + ... + 0) <= 4096 - 16 * sizeof...(Parameters),
                "4 KB of parameters, with what aligns them");
  if (blocks == 0) return;
  if (blocks < 0 || blocks > 0x7fffffff) {
    throw CudaError(std::string(name) + ": expected at most 2^31 - 1 blocks, got " +
                    std::to_string(blocks));
  }
  const CurrentDevice current(stream.device());
  std::tuple<std::decay_t<Parameters>...> values(std::forward<Arguments>(arguments)...);
#if defined(FASTGEN_EMULATOR)
  check(emulator::launch(name, blocks, threads, shared, stream.handle(),
                         [kernel, values] { std::apply(kernel, values); }),
        name);
#else
  // More than 48 KB a block has to be asked for. The device's limit, not what this launch needs: another
  // thread may be launching the same kernel with more.
  if (shared > 48 * 1024) {
    int most = 0;
    check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device()),
          name);
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, most),
          name);
  }
  std::apply(
      [&](auto&... value) {
        void* pointers[sizeof...(value) + 1] = {static_cast<void*>(&value)...};
        check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                               dim3(static_cast<unsigned>(blocks)),
                               dim3(static_cast<unsigned>(threads)), pointers,
                               static_cast<std::size_t>(shared), stream.handle()),
              name);
      },
      values);
#endif
  note_launch(name, stream.device());
}

}  // namespace fastgen::cuda
