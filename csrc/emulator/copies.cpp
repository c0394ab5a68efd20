// The emulated runtime's copies and fillings.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "emulator/streams.hpp"

using namespace fastgen::emulator;

namespace {

struct End {
  bool valid = true;
  int device = -1;      // -1: host
  bool pinned = false;  // page-locked host memory
  bool pooled = false;
};

End end_of(const void* pointer, std::size_t bytes) {
  End end;
  const auto piece = piece_at(pointer);
  if (!piece) return end;
  end.valid = find_piece(pointer, bytes) != nullptr;
  end.device = piece->device;
  end.pinned = piece->device < 0;
  end.pooled = piece->pool != nullptr;
  return end;
}

// Rows of `width` bytes at two pitches.
struct Rectangle {
  std::size_t to_pitch, from_pitch, width, height;
  std::size_t to_bytes() const { return to_pitch * (height - 1) + width; }
  std::size_t from_bytes() const { return from_pitch * (height - 1) + width; }
};

void copy_now(void* to, const void* from, const Rectangle& size) {
  for (std::size_t i = 0; i < size.height; ++i) {
    std::memcpy(static_cast<unsigned char*>(to) + i * size.to_pitch,
                static_cast<const unsigned char*>(from) + i * size.from_pitch, size.width);
  }
}

cudaError_t copy(void* to, const void* from, const Rectangle& size, cudaMemcpyKind kind,
                 cudaStream_t handle, bool now, bool peers = false) {
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  if (!size.width || !size.height) return cudaSuccess;
  if (size.width > size.to_pitch || size.width > size.from_pitch)
    return result(cudaErrorInvalidValue);
  const End target = end_of(to, size.to_bytes()), source = end_of(from, size.from_bytes());
  if (!to || !from || !target.valid || !source.valid) return result(cudaErrorInvalidValue);
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
    return result(cudaErrorInvalidMemcpyDirection);
  if (kind != cudaMemcpyDefault) {
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device != (target.device >= 0) || from_device != (source.device >= 0)) {
      return result(cudaErrorInvalidValue);
    }
  }
  if (target.pooled || source.pooled) {
    // Pools: the stream's device has to be the current one (CUDA programming guide, stream-ordered
    // memory), and one device does not see another's unless somebody has asked for it.
    const bool apart = target.device >= 0 && source.device >= 0 && target.device != source.device;
    if (!peers && (apart || stream->device != current_device()))
      return result(cudaErrorInvalidValue);
  }
  Work work;
  for (const int device : {target.device, source.device}) {
    if (device >= 0) work.devices.push_back(device);
  }
  if (source.device < 0 && !source.pinned && !runtime().pageable_access) {
    // The host's memory is read at once.
    auto staged = std::make_shared<std::vector<unsigned char>>(size.from_bytes());
    copy_now(staged->data(), from, {size.from_pitch, size.from_pitch, size.width, size.height});
    work.run = [=] {
      copy_now(to, staged->data(), size);
      return std::string();
    };
  } else {
    work.run = [=] {
      copy_now(to, from, size);
      return std::string();
    };
  }
  if (target.pinned) {  // nobody may look before it has come
    for (std::size_t i = 0; i < size.height; ++i) {
      std::memset(static_cast<unsigned char*>(to) + i * size.to_pitch, 0xff, size.width);
    }
  }
  enqueue(*stream, std::move(work));
  // To pageable memory the call waits; so does the synchronous call, except from device to device.
  if ((target.device < 0 && !target.pinned) ||
      (now && !(target.device >= 0 && source.device >= 0))) {
    drain(*stream);
  }
  return result(device_error(stream->device));
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  FASTGEN_ENTER;
  return copy(to, from, {bytes, bytes, bytes, 1}, kind, stream, false);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  FASTGEN_ENTER;
  return copy(to, from, {bytes, bytes, bytes, 1}, kind, nullptr, true);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                std::size_t bytes, cudaStream_t stream) {
  FASTGEN_ENTER;
  if (bytes &&
      (end_of(to, bytes).device != to_device || end_of(from, bytes).device != from_device)) {
    return result(cudaErrorInvalidValue);
  }
  return copy(to, from, {bytes, bytes, bytes, 1}, cudaMemcpyDeviceToDevice, stream, false, true);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  FASTGEN_ENTER;
  return copy(to, from, {to_pitch, from_pitch, width, height}, kind, stream, false);
}
cudaError_t cudaMemsetAsync(void* pointer, int byte, std::size_t bytes, cudaStream_t handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  if (!bytes) return cudaSuccess;
  const auto piece = find_piece(pointer, bytes);
  if (!piece || piece->device < 0) return result(cudaErrorInvalidValue);
  Work work;
  work.devices = {piece->device};
  work.run = [=] {
    std::memset(pointer, byte, bytes);
    return std::string();
  };
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}
cudaError_t cudaMemset(void* pointer, int byte, std::size_t bytes) {
  return cudaMemsetAsync(pointer, byte, bytes, nullptr);
}
