// The emulated runtime's errors and devices.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "emulator/cuda_runtime.hpp"
#include "emulator/kernel.hpp"
#include "emulator/streams.hpp"

namespace fastgen::emulator {
namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int context_of_thread = -1;  // its device; -1: none

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
};

const ErrorText& find_error(cudaError_t error) {
  static constexpr ErrorText kUnknown = {cudaSuccess, "unrecognized error code",
                                         "unrecognized error code"};
  for (const ErrorText& known : kErrors) {
    if (known.error == error) return known;
  }
  return kUnknown;
}

}  // namespace

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}
int current_device() { return std::max(context_of_thread, 0); }
cudaError_t device_error(int device) {
  return runtime().devices[static_cast<std::size_t>(device)]->error;
}
cudaError_t usable() {
  Runtime& all = runtime();
  if (all.devices.empty()) return cudaErrorInsufficientDriver;
  context_of_thread = current_device();
  all.devices[static_cast<std::size_t>(context_of_thread)]->context = true;
  return device_error(context_of_thread);
}

}  // namespace fastgen::emulator

using namespace fastgen::emulator;

const char* cudaGetErrorName(cudaError_t error) { return find_error(error).name; }
const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaErrorLaunchFailure) return find_error(error).text;
  static thread_local std::string text;
  text = std::string(find_error(error).text) + ": " + runtime().last_fault;
  return text.c_str();
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() {
  const Call call;
  const Runtime& all = runtime();
  if (all.devices.empty()) return last_error;
  const cudaError_t lasting = device_error(current_device());
  return lasting != cudaSuccess ? lasting : last_error;
}

// ---- devices
namespace {

int get_context_state(int device, unsigned* flags, int* active) {
  const Call call;
  const Runtime& all = runtime();
  if (device < 0 || device >= static_cast<int>(all.devices.size())) return 101;
  *flags = 0;
  *active = all.devices[static_cast<std::size_t>(device)]->context;
  return 0;
}

// Contexts are the numbers of their devices, from 1 on.
int get_current_context(void** context) {
  *context = reinterpret_cast<void*>(static_cast<std::intptr_t>(context_of_thread + 1));
  return 0;
}
int set_current_context(void* context) {
  context_of_thread = static_cast<int>(reinterpret_cast<std::intptr_t>(context)) - 1;
  return 0;
}

void* driver_function(const std::string& name) {
  if (name == "cuDevicePrimaryCtxGetState") return reinterpret_cast<void*>(get_context_state);
  if (name == "cuCtxGetCurrent") return reinterpret_cast<void*>(get_current_context);
  if (name == "cuCtxSetCurrent") return reinterpret_cast<void*>(set_current_context);
  return nullptr;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = driver_function(symbol);
  if (result)
    *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = runtime().devices.empty() ? 0 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const Call call;
  *count = static_cast<int>(runtime().devices.size());
  return *count ? cudaSuccess : result(cudaErrorInsufficientDriver);
}
cudaError_t cudaGetDevice(int* device) {
  const Call call;
  if (runtime().devices.empty()) return result(cudaErrorInsufficientDriver);
  *device = current_device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const Call call;
  Runtime& all = runtime();
  if (all.devices.empty()) return result(cudaErrorInsufficientDriver);
  if (device < 0 || device >= static_cast<int>(all.devices.size()))
    return result(cudaErrorInvalidDevice);
  context_of_thread = device;
  all.devices[static_cast<std::size_t>(device)]->context = true;
  return result(all.devices[static_cast<std::size_t>(device)]->error);
}
cudaError_t cudaDeviceSynchronize() {
  FASTGEN_ENTER;
  drain_device(current_device());
  trim_pools(current_device());
  return result(usable());
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call;
  Runtime& all = runtime();
  if (all.devices.empty()) return result(cudaErrorInsufficientDriver);
  if (device < 0 || device >= static_cast<int>(all.devices.size()))
    return result(cudaErrorInvalidDevice);
  if (!value) return result(cudaErrorInvalidValue);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = kMostThreads;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrClockRate:
      *value = 1000000;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;  // few: small problems have more blocks than that
      break;
    case cudaDevAttrL2CacheSize:
      *value = 4 << 20;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = all.shared_limit > kCommonShared ? 9 : 8;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = all.shared_limit > kCommonShared ? 0 : 9;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(all.shared_limit) + 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(all.shared_limit);
      break;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      *value = 2;
      break;
    case cudaDevAttrPageableMemoryAccess:
      *value = all.pageable_access;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = all.pools_promised;
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const auto attribute = [device](cudaDeviceAttr which) {
    int value = 0;
    cudaDeviceGetAttribute(&value, which, device);
    return value;
  };
  const Call call;
  Runtime& all = runtime();
  if (all.devices.empty()) return result(cudaErrorInsufficientDriver);
  if (device < 0 || device >= static_cast<int>(all.devices.size()))
    return result(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof(properties->name), "fastgen emulator");
  properties->totalGlobalMem = static_cast<std::size_t>(all.memory_limit);
  properties->sharedMemPerBlock =
      static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlock));
  properties->sharedMemPerBlockOptin =
      static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  properties->sharedMemPerMultiprocessor =
      static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
  properties->maxThreadsPerMultiProcessor = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
  properties->major = attribute(cudaDevAttrComputeCapabilityMajor);
  properties->minor = attribute(cudaDevAttrComputeCapabilityMinor);
  properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
  properties->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
  properties->memoryPoolsSupported = attribute(cudaDevAttrMemoryPoolsSupported);
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
