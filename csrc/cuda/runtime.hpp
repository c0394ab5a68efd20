// What the engines need of the CUDA runtime: devices, streams, memory and launches, with errors as
// exceptions that say what was asked for and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/contexts.hpp"
#include "cuda/gpu.hpp"

namespace fastgen::cuda {

// A failing call or launch; the message names it and the device.
struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The device has not enough free memory; the message says how much was needed. The device stays
// usable.
struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct DeviceInfo {
  int index;
  std::string name;
  int major, minor;  // compute capability
  std::int64_t memory;
  int multiprocessors;
};

// Devices that the kernels can run on (sm_80 and newer). None where there is no driver, whatever
// the reason.
std::vector<DeviceInfo> devices();

// Throws CudaError or OutOfMemory unless `status` is success. `what`: "cudaMemcpyAsync", a kernel's
// name.
void check(cudaError_t status, const char* what);

// A stream of one device: the caller's (borrowed), or one of our own.
class Stream {
 public:
  // Borrowed; `owner` is let go with the last copy.
  Stream(int device, std::uintptr_t handle, std::shared_ptr<void> owner = nullptr);
  static Stream make(int device);  // own; destroyed with the last copy
  int device() const { return device_; }
  cudaStream_t handle() const { return handle_; }
  void synchronize() const;

 private:
  int device_;
  cudaStream_t handle_;
  std::shared_ptr<void> owned_;
};

// Device memory in stream order: freed on the stream that it was made for. Items are plain values
// and start unset.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(std::int64_t bytes, const Stream& stream, const char* purpose);
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  ~DeviceMemory();
  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
  bool pooled_ = false;
  std::shared_ptr<Stream> stream_;
};

template <class T>
class DeviceBuffer {
  static_assert(std::is_trivially_copyable<T>::value, "plain values only");

 public:
  DeviceBuffer() = default;
  // `purpose` completes "out of memory for <purpose>".
  DeviceBuffer(std::int64_t size, const Stream& stream, const char* purpose)
      : memory_(size * static_cast<std::int64_t>(sizeof(T)), stream, purpose), size_(size) {}
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::int64_t size() const { return size_; }
  std::int64_t bytes() const { return memory_.bytes(); }

 private:
  DeviceMemory memory_;
  std::int64_t size_ = 0;
};

// Sets all bytes of a buffer, in stream order.
void fill_bytes(void* device, int byte, std::int64_t bytes, const Stream& stream);
// Copies from or to ordinary host memory; both return when the host memory may be used again, so a
// download waits for everything before it in the stream.
void upload(void* device, const void* host, std::int64_t bytes, const Stream& stream);
void download(void* host, const void* device, std::int64_t bytes, const Stream& stream);
void copy_on_device(void* to, const void* from, std::int64_t bytes, const Stream& stream);

template <class T>
DeviceBuffer<T> uploaded(const std::vector<T>& values, const Stream& stream, const char* purpose) {
  DeviceBuffer<T> buffer(static_cast<std::int64_t>(values.size()), stream, purpose);
  upload(buffer.data(), values.data(), buffer.bytes(), stream);
  return buffer;
}
template <class T>
std::vector<T> downloaded(const DeviceBuffer<T>& buffer, const Stream& stream) {
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  download(values.data(), buffer.data(), buffer.bytes(), stream);
  return values;
}

int attribute(cudaDeviceAttr which, int device);
// Multiprocessors of a device, and the free bytes of its memory.
int multiprocessors(int device);
std::int64_t free_memory(int device);

constexpr std::int64_t blocks_for(std::int64_t items, std::int64_t per_block) {
  return (items + per_block - 1) / per_block;
}

// Runs `kernel` with `threads` threads per block and `shared` bytes of shared memory. `name` is for
// messages. A grid of 0 blocks does nothing. At most 2^31 - 1 blocks.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
            std::int64_t shared, const Stream& stream, Arguments&&... arguments);

}  // namespace fastgen::cuda

#include "cuda/launch.hpp"
