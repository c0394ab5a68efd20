// Devices, streams and memory: CUDA's errors become exceptions with a sentence in them.
#include "cuda/runtime.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>

namespace fastgen::cuda {
namespace {

constexpr int kMostDevices = 64;

// Freed memory that a pool keeps when its stream is waited for. The engines wait once per batch,
// and take their scratch anew each time: mapping it again would cost some tenths of a millisecond
// (an estimate), a fair part of a batch. 256 MB is all the scratch that they may have beside O(n)
// bytes, and the most that others (PyTorch's allocator, say) miss while this process computes
// nothing here.
constexpr std::uint64_t kKeptBytes = std::uint64_t{256} << 20;

// The kernel that was launched last on each device.
std::array<std::atomic<const char*>, kMostDevices> last_launches{};

std::atomic<const char*>* last_launch(int device) {
  return device >= 0 && device < kMostDevices ? &last_launches[static_cast<std::size_t>(device)]
                                              : nullptr;
}

std::string device_text(int device) {
  cudaDeviceProp properties;
  std::string text = "device " + std::to_string(device);
  if (cudaGetDeviceProperties(&properties, device) == cudaSuccess) {
    text += std::string(" (") + properties.name + ")";
  }
  return text;
}

std::string megabytes(std::int64_t bytes) {
  char text[48];
  const double size = static_cast<double>(bytes) / 1e6;
  std::snprintf(text, sizeof(text), size < 10 ? "%.1f MB" : "%.0f MB", size);
  return text;
}

// A pool of our own on every device: the process's default pool, which others may use, stays as it
// is.
struct Pools {
  std::mutex mutex;
  std::array<std::optional<cudaMemPool_t>, kMostDevices> known;  // null: the device has none
};
Pools& pools() {
  static Pools& all = *new Pools;  // outlives the driver's own clean-up at exit
  return all;
}

// A pool that has given memory and taken it back.
cudaError_t make_pool(cudaMemPool_t* pool, int device) {
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.handleTypes = cudaMemHandleTypeNone;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  if (const cudaError_t status = cudaMemPoolCreate(pool, &properties)) return status;
  std::uint64_t kept = kKeptBytes;
  void* piece = nullptr;
  cudaError_t status = cudaMemPoolSetAttribute(*pool, cudaMemPoolAttrReleaseThreshold, &kept);
  if (!status) status = cudaMallocFromPoolAsync(&piece, 1, *pool, nullptr);
  if (!status) status = cudaFreeAsync(piece, nullptr);
  if (status) cudaMemPoolDestroy(*pool);
  return status;
}

// Null where the device has none (some virtual GPUs), or says that it has and then fails to make one
// (sandboxes that know few of the driver's calls): then memory is taken and given back synchronously.
cudaMemPool_t pool_of(int device) {
  Pools& all = pools();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::optional<cudaMemPool_t>& known = all.known.at(static_cast<std::size_t>(device));
  if (known) return *known;
  int supported = 0;
  check(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device),
        "cudaDeviceGetAttribute");
  cudaMemPool_t pool = nullptr;
  const cudaError_t status = supported ? make_pool(&pool, device) : cudaErrorNotSupported;
  if (status) {
    cudaGetLastError();  // or the next call would be blamed for this one
    pool = nullptr;
  }
  if (status != cudaErrorMemoryAllocation) known = pool;
  return pool;
}

cudaError_t allocate(void** data, std::int64_t bytes, cudaMemPool_t pool, const Stream& stream) {
  const auto size = static_cast<std::size_t>(bytes);
  return pool ? cudaMallocFromPoolAsync(data, size, pool, stream.handle()) : cudaMalloc(data, size);
}

// What other streams and the pool hold on to comes free.
void give_back(cudaMemPool_t pool) {
  cudaGetLastError();  // or the next call would be blamed for this one
  cudaDeviceSynchronize();
  if (pool) cudaMemPoolTrimTo(pool, 0);
}

// Whether a copy from this host memory may still be going on when the call returns: the driver copies
// ordinary memory to its own first, but need not where the device reads it through page tables (a GH200,
// and others with "heterogeneous memory management").
bool may_be_read_late(const void* host, int device) {
  if (attribute(cudaDevAttrPageableMemoryAccess, device)) return true;
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, host) != cudaSuccess) {
    cudaGetLastError();
    return true;
  }
  return attributes.type != cudaMemoryTypeUnregistered;
}

void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind,
          const Stream& stream) {
  if (bytes == 0) return;
  const CurrentDevice current(stream.device());
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream.handle()),
        "cudaMemcpyAsync");
}

}  // namespace

void note_launch(const char* name, int device) {
  if (auto* last = last_launch(device)) last->store(name, std::memory_order_relaxed);
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  int device = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess;
  std::string message = std::string(what) + " failed";
  if (known) message += " on " + device_text(device);
  message += std::string(": ") + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  // The call that reports a failed kernel is not the one that launched it.
  const auto* last = known ? last_launch(device) : nullptr;
  const char* kernel = last ? last->load(std::memory_order_relaxed) : nullptr;
  if (kernel && std::strcmp(kernel, what) != 0) {
    message += std::string("; the last kernel launched there was ") + kernel;
  }
  throw CudaError(message);
}

namespace {

std::vector<DeviceInfo> find_devices() {
  std::vector<DeviceInfo> found;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return found;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    if (properties.major < 8) continue;
    found.push_back({i, properties.name, properties.major, properties.minor,
                     static_cast<std::int64_t>(properties.totalGlobalMem),
                     properties.multiProcessorCount});
  }
  return found;
}

}  // namespace

std::vector<DeviceInfo> devices() {
  // Asking takes milliseconds a device. They do not change, but where there are none a driver may
  // yet come.
  static std::mutex& mutex = *new std::mutex;
  static std::vector<DeviceInfo>& known = *new std::vector<DeviceInfo>;
  const std::lock_guard<std::mutex> lock(mutex);
  if (known.empty()) known = find_devices();
  return known;
}

Stream::Stream(int device, std::uintptr_t handle, std::shared_ptr<void> owner)
    : device_(device), handle_(reinterpret_cast<cudaStream_t>(handle)), owned_(std::move(owner)) {}

Stream Stream::make(int device) {
  const CurrentDevice current(device);
  cudaStream_t handle = nullptr;
  check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  Stream stream(device, reinterpret_cast<std::uintptr_t>(handle));
  stream.owned_ = std::shared_ptr<void>(handle, [device](void* owned) {
    const CurrentDevice destroyed(device, std::nothrow);
    cudaStreamDestroy(static_cast<cudaStream_t>(owned));  // its work goes on to the end
  });
  return stream;
}

void Stream::synchronize() const {
  const CurrentDevice current(device_);
  check(cudaStreamSynchronize(handle_), "cudaStreamSynchronize");
}

DeviceMemory::DeviceMemory(std::int64_t bytes, const Stream& stream, const char* purpose) {
  if (bytes == 0) return;
  if (bytes < 0) throw CudaError(std::string("a negative size of memory for ") + purpose);
  const CurrentDevice current(stream.device());
  const cudaMemPool_t pool = pool_of(stream.device());
  cudaError_t status = allocate(&data_, bytes, pool, stream);
  if (status == cudaErrorMemoryAllocation) {
    give_back(pool);
    status = allocate(&data_, bytes, pool, stream);
  }
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    data_ = nullptr;
    throw OutOfMemory(std::string("out of memory for ") + purpose + ": needed " + megabytes(bytes) +
                      " on " + device_text(stream.device()) + ", " +
                      megabytes(free_memory(stream.device())) + " free");
  }
  check(status, pool ? "cudaMallocFromPoolAsync" : "cudaMalloc");
  bytes_ = bytes;
  pooled_ = pool != nullptr;
  stream_ = std::make_shared<Stream>(stream);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      pooled_(other.pooled_),
      stream_(std::move(other.stream_)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(pooled_, other.pooled_);
  std::swap(stream_, other.stream_);
  return *this;
}

DeviceMemory::~DeviceMemory() {
  if (!data_) return;
  // No exceptions from here: on a device that has failed nothing can be freed.
  const CurrentDevice current(stream_->device(), std::nothrow);
  if (pooled_) {
    cudaFreeAsync(data_, stream_->handle());
  } else {
    cudaFree(data_);  // waits for the device
  }
  cudaGetLastError();
}

void fill_bytes(void* device, int byte, std::int64_t bytes, const Stream& stream) {
  if (bytes == 0) return;
  const CurrentDevice current(stream.device());
  check(cudaMemsetAsync(device, byte, static_cast<std::size_t>(bytes), stream.handle()),
        "cudaMemsetAsync");
}

void upload(void* device, const void* host, std::int64_t bytes, const Stream& stream) {
  const CurrentDevice current(stream.device());
  copy(device, host, bytes, cudaMemcpyHostToDevice, stream);
  if (bytes && may_be_read_late(host, stream.device())) stream.synchronize();
}

void download(void* host, const void* device, std::int64_t bytes, const Stream& stream) {
  copy(host, device, bytes, cudaMemcpyDeviceToHost, stream);
  stream.synchronize();
}

void copy_on_device(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  copy(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

int multiprocessors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }

std::int64_t free_memory(int device) {
  const CurrentDevice current(device);
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  std::int64_t bytes = static_cast<std::int64_t>(free);
  if (const cudaMemPool_t pool = pool_of(device)) {  // what our pool keeps is free to us
    std::uint64_t reserved = 0, used = 0;
    check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
          "cudaMemPoolGetAttribute");
    check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used),
          "cudaMemPoolGetAttribute");
    bytes += static_cast<std::int64_t>(reserved - std::min(used, reserved));
  }
  return bytes;
}

}  // namespace fastgen::cuda
