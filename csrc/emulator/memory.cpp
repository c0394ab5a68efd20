// Device memory: ordinary memory that the address sanitizer lets nobody touch but the device that
// runs.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "emulator/cuda_runtime.hpp"
#include "emulator/fiber.hpp"
#include "emulator/streams.hpp"

#if FASTGEN_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(pointer, bytes) \
  (static_cast<void>(pointer), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(pointer, bytes) \
  (static_cast<void>(pointer), static_cast<void>(bytes))
#endif

namespace fastgen::emulator {
namespace {

// Devices give out multiples of 256 bytes. Here never of 512, so that nobody comes to rely on more.
constexpr std::int64_t kAlign = 256, kGrain = 512;

std::int64_t block_bytes(std::int64_t bytes) {
  return (bytes + kGrain - 1) / kGrain * kGrain + 2 * kGrain;
}

void set_open(const Piece& piece, bool open) {
  if (open) {
    ASAN_UNPOISON_MEMORY_REGION(piece.data, static_cast<std::size_t>(piece.bytes));
  } else {
    ASAN_POISON_MEMORY_REGION(piece.data, static_cast<std::size_t>(piece.bytes));
  }
}

// Nothing that anybody could take for data: NaNs, -1, the largest unsigned numbers.
void fill(const Piece& piece) {
  set_open(piece, true);
  std::memset(piece.data, 0xff, static_cast<std::size_t>(piece.bytes));
  set_open(piece,
           piece.device >= 0 && runtime().devices[static_cast<std::size_t>(piece.device)]->open);
}

std::shared_ptr<Piece> make_piece(std::size_t bytes, int device) {
  auto piece = std::make_shared<Piece>();
  piece->bytes = static_cast<std::int64_t>(bytes);
  piece->counted = (piece->bytes + kGrain - 1) / kGrain * kGrain;
  piece->device = device;
  const std::size_t size = static_cast<std::size_t>(block_bytes(piece->bytes));
  piece->block = static_cast<unsigned char*>(std::aligned_alloc(kGrain, size));
  if (!piece->block) return nullptr;
  piece->data = piece->block + kAlign;
  ASAN_POISON_MEMORY_REGION(piece->block, size);
  runtime().pieces[reinterpret_cast<std::uintptr_t>(piece->data)] = piece;
  return piece;
}

void release(const std::shared_ptr<Piece>& piece) {
  piece->live = false;
  if (piece->block) {
    const std::size_t size = static_cast<std::size_t>(block_bytes(piece->bytes));
    ASAN_UNPOISON_MEMORY_REGION(piece->block, size);
#if !FASTGEN_ASAN  // which keeps freed memory closed
    std::memset(piece->data, 0xff, static_cast<std::size_t>(piece->bytes));
#endif
    std::free(piece->block);
  }
  runtime().pieces.erase(reinterpret_cast<std::uintptr_t>(piece->data));
}

std::int64_t in_use(int device) {
  Runtime& all = runtime();
  const Device& at = *all.devices[static_cast<std::size_t>(device)];
  std::int64_t sum = at.plain + at.default_pool.reserved;
  for (const auto& pool : all.own_pools) {
    if (pool->device == device) sum += pool->reserved;
  }
  return sum;
}

bool is_pool(cudaMemPool_t pool) {
  Runtime& all = runtime();
  for (const auto& device : all.devices) {
    if (pool == &device->default_pool) return true;
  }
  for (const auto& own : all.own_pools) {
    if (pool == own.get()) return !own->destroyed;
  }
  return false;
}

}  // namespace

std::shared_ptr<Piece> piece_at(const void* pointer) {
  auto& pieces = runtime().pieces;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto next = pieces.upper_bound(address);
  if (next == pieces.begin()) return nullptr;
  --next;
  return address < next->first + static_cast<std::uintptr_t>(next->second->bytes) ? next->second
                                                                                  : nullptr;
}

void open_memory(const std::vector<int>& devices) {
  Runtime& all = runtime();
  for (std::size_t i = 0; i < all.devices.size(); ++i) {
    const int device = static_cast<int>(i);
    const bool open = std::find(devices.begin(), devices.end(), device) != devices.end();
    if (all.devices[i]->open == open) continue;
    all.devices[i]->open = open;
    for (const auto& [address, piece] : all.pieces) {
      if (piece->device == device && (piece->live || !open)) set_open(*piece, open);
    }
  }
}

std::shared_ptr<Piece> find_piece(const void* pointer, std::size_t bytes) {
  const auto piece = piece_at(pointer);
  if (!piece || piece->dropped) return nullptr;
  const auto* begin = static_cast<const unsigned char*>(pointer);
  return begin + bytes <= piece->data + piece->bytes ? piece : nullptr;
}

bool is_device_memory(const void* address) {
  static std::uintptr_t begin = 0,
                        end = 0;  // of the piece last found; pieces do not come and go in a kernel
  static std::uint64_t number = 0;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (number == runtime().number && at >= begin && at < end) return true;
  const auto piece = piece_at(address);
  if (!piece || piece->device < 0) return false;
  number = runtime().number;
  begin = reinterpret_cast<std::uintptr_t>(piece->data);
  end = begin + static_cast<std::uintptr_t>(piece->bytes);
  return true;
}

void trim_pools(int device) {
  Runtime& all = runtime();
  const auto trim = [](CUmemPool_st& pool) {
    if (pool.reserved > pool.threshold) pool.reserved = std::max(pool.used, pool.threshold);
  };
  trim(all.devices[static_cast<std::size_t>(device)]->default_pool);
  for (const auto& pool : all.own_pools) {
    if (pool->device == device) trim(*pool);
  }
}

}  // namespace fastgen::emulator

using namespace fastgen::emulator;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  FASTGEN_ENTER;
  if (!pointer) return result(cudaErrorInvalidValue);
  *pointer = nullptr;
  if (!bytes) return cudaSuccess;
  const int device = current_device();
  const std::int64_t room = runtime().memory_limit - in_use(device);
  if (bytes > static_cast<std::size_t>(std::max<std::int64_t>(room, 0)) ||
      block_bytes(static_cast<std::int64_t>(bytes)) - 2 * kGrain > room) {
    return result(cudaErrorMemoryAllocation);
  }
  const auto piece = make_piece(bytes, device);
  if (!piece) return result(cudaErrorMemoryAllocation);
  piece->live = true;
  fill(*piece);
  runtime().devices[static_cast<std::size_t>(device)]->plain += piece->counted;
  *pointer = piece->data;
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, std::size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  if (!runtime().pools) return result(cudaErrorNotSupported);
  if (!pointer || !bytes || !is_pool(pool)) return result(cudaErrorInvalidValue);
  *pointer = nullptr;
  // A stream of one device may allocate from another's pool only if the two are peers.
  if (pool->device != stream->device) return result(cudaErrorInvalidValue);
  const int device = pool->device;
  const std::int64_t room = runtime().memory_limit - in_use(device) + (pool->reserved - pool->used);
  if (bytes > static_cast<std::size_t>(std::max<std::int64_t>(room, 0)) ||
      block_bytes(static_cast<std::int64_t>(bytes)) - 2 * kGrain > room) {
    return result(cudaErrorMemoryAllocation);
  }
  const auto piece = make_piece(bytes, device);
  if (!piece) return result(cudaErrorMemoryAllocation);
  piece->pool = pool;
  pool->used += piece->counted;
  pool->reserved = std::max(pool->reserved, pool->used);
  *pointer = piece->data;
  Work work;
  work.run = [piece] {
    piece->live = true;
    fill(*piece);  // what another stream has put there too early is lost
    return std::string();
  };
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  return cudaMallocFromPoolAsync(
      pointer, bytes, &runtime().devices[static_cast<std::size_t>(stream->device)]->default_pool,
      handle);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  const Call call;
  if (runtime().devices.empty()) return result(cudaErrorInsufficientDriver);
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  if (!runtime().pools) return result(cudaErrorNotSupported);
  const auto piece = piece_at(pointer);
  if (!piece || piece->data != pointer || piece->device < 0 || piece->dropped) {
    return result(cudaErrorInvalidValue);
  }
  piece->dropped = true;
  if (piece->pool) {
    piece->pool->used -= piece->counted;
  } else {
    runtime().devices[static_cast<std::size_t>(piece->device)]->plain -= piece->counted;
  }
  if (device_error(stream->device) != cudaSuccess) {
    release(piece);
    return result(device_error(stream->device));
  }
  Work work;
  work.run = [piece] {
    release(piece);
    return std::string();
  };
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const Call call;
  if (runtime().devices.empty()) return result(cudaErrorInsufficientDriver);
  if (!pointer) return cudaSuccess;
  const auto piece = piece_at(pointer);
  if (!piece || piece->data != pointer || piece->device < 0 || piece->dropped) {
    return result(cudaErrorInvalidValue);
  }
  drain_device(piece->device);
  if (piece->pool) {
    piece->pool->used -= piece->counted;
  } else {
    runtime().devices[static_cast<std::size_t>(piece->device)]->plain -= piece->counted;
  }
  release(piece);
  return result(device_error(piece->device));
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  FASTGEN_ENTER;
  if (!pointer || flags > 7) return result(cudaErrorInvalidValue);
  *pointer = nullptr;
  if (!bytes) return cudaSuccess;
  const auto piece = make_piece(bytes, -1);
  if (!piece) return result(cudaErrorMemoryAllocation);
  piece->live = true;
  fill(*piece);
  set_open(*piece, true);
  *pointer = piece->data;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return cudaHostAlloc(pointer, bytes, 0);
}

cudaError_t cudaFreeHost(void* pointer) {
  const Call call;
  if (usable() == cudaErrorInsufficientDriver) return result(cudaErrorInsufficientDriver);
  if (!pointer) return cudaSuccess;
  const auto piece = piece_at(pointer);
  if (!piece || piece->data != pointer || piece->device >= 0 || !piece->block) {
    return result(cudaErrorInvalidValue);
  }
  for (std::size_t i = 0; i < runtime().devices.size(); ++i) drain_device(static_cast<int>(i));
  release(piece);
  return result(usable());
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned) {
  FASTGEN_ENTER;
  if (!pointer || !bytes || piece_at(pointer)) return result(cudaErrorInvalidValue);
  auto piece = std::make_shared<Piece>();
  piece->data = static_cast<unsigned char*>(pointer);
  piece->bytes = static_cast<std::int64_t>(bytes);
  piece->live = true;
  runtime().pieces[reinterpret_cast<std::uintptr_t>(pointer)] = piece;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* pointer) {
  FASTGEN_ENTER;
  const auto piece = piece_at(pointer);
  if (!piece || piece->data != pointer || piece->device >= 0 || piece->block) {
    return result(cudaErrorInvalidValue);
  }
  for (std::size_t i = 0; i < runtime().devices.size(); ++i) drain_device(static_cast<int>(i));
  release(piece);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  FASTGEN_ENTER;
  *total = static_cast<std::size_t>(runtime().memory_limit);
  *free = *total - static_cast<std::size_t>(in_use(current_device()));
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  FASTGEN_ENTER;
  if (!attributes) return result(cudaErrorInvalidValue);
  const auto piece = piece_at(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
  if (!piece || piece->dropped) return cudaSuccess;
  void* plain = const_cast<void*>(pointer);
  if (piece->device >= 0) {
    *attributes = {cudaMemoryTypeDevice, piece->device, plain, nullptr};
  } else {
    *attributes = {cudaMemoryTypeHost, current_device(), plain, plain};
  }
  return cudaSuccess;
}

// ---- pools
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  FASTGEN_ENTER;
  Runtime& all = runtime();
  if (!all.pools) return result(cudaErrorNotSupported);
  if (!pool || !properties || properties->allocType != cudaMemAllocationTypePinned ||
      properties->location.type != cudaMemLocationTypeDevice || properties->location.id < 0 ||
      properties->location.id >= static_cast<int>(all.devices.size())) {
    return result(cudaErrorInvalidValue);
  }
  all.own_pools.push_back(std::make_unique<CUmemPool_st>());
  *pool = all.own_pools.back().get();
  (*pool)->device = properties->location.id;
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  FASTGEN_ENTER;
  if (!is_pool(pool)) return result(cudaErrorInvalidValue);
  pool->destroyed = true;
  pool->threshold = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  FASTGEN_ENTER;
  Runtime& all = runtime();
  if (device < 0 || device >= static_cast<int>(all.devices.size()))
    return result(cudaErrorInvalidDevice);
  *pool = &all.devices[static_cast<std::size_t>(device)]->default_pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  FASTGEN_ENTER;
  if (!is_pool(pool) || !value) return result(cudaErrorInvalidValue);
  if (attribute == cudaMemPoolAttrReleaseThreshold) {
    pool->threshold = static_cast<std::int64_t>(
        std::min<std::uint64_t>(*static_cast<std::uint64_t*>(value), std::uint64_t{1} << 62));
  }
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  FASTGEN_ENTER;
  if (!is_pool(pool) || !value) return result(cudaErrorInvalidValue);
  auto& number = *static_cast<std::uint64_t*>(value);
  switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
      number = static_cast<std::uint64_t>(pool->threshold);
      return cudaSuccess;
    case cudaMemPoolAttrReservedMemCurrent:
      number = static_cast<std::uint64_t>(pool->reserved);
      return cudaSuccess;
    case cudaMemPoolAttrUsedMemCurrent:
      number = static_cast<std::uint64_t>(pool->used);
      return cudaSuccess;
    default:
      return result(cudaErrorInvalidValue);
  }
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t keep) {
  FASTGEN_ENTER;
  if (!is_pool(pool)) return result(cudaErrorInvalidValue);
  pool->reserved = std::min(pool->reserved, std::max(pool->used, static_cast<std::int64_t>(keep)));
  return cudaSuccess;
}
