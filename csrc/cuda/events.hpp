// Points in streams that other streams, or the host, wait for; and host memory that devices copy from
// while the host goes on.
#pragma once

#include <cstdint>

#include "cuda/runtime.hpp"

namespace fastgen::cuda {

class Event {
 public:
  explicit Event(int device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Marks everything that the stream, of this event's device, has been given so far.
  void record(const Stream& stream);
  // These do nothing before the first `record`.
  void hold(const Stream& stream) const;
  void synchronize() const;

 private:
  int device_;
  bool recorded_ = false;
  cudaEvent_t handle_ = nullptr;
};

// Makes `later` wait for all work that `earlier` has been given so far; nothing if they are the same.
void wait_for(const Stream& later, const Stream& earlier);

// Page-locked host memory, for any device; `device` is one in use. A few pieces of `kPinnedBytes` are
// kept for the next who asks: page-locking costs about 1 ms, and letting go may wait for all devices.
constexpr std::int64_t kPinnedBytes = std::int64_t{8} << 20;

class PinnedMemory {
 public:
  PinnedMemory(std::int64_t bytes, int device);
  ~PinnedMemory();  // when no copy needs it any more
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  unsigned char* data() const { return static_cast<unsigned char*>(data_); }

 private:
  std::int64_t bytes_;
  int device_;
  void* data_ = nullptr;
};

}  // namespace fastgen::cuda
