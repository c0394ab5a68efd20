// Which device is the current one in a thread: the driver's contexts behind the runtime's numbers.
// Included by runtime.hpp.
#pragma once

#include <new>

#include "cuda/gpu.hpp"

namespace fastgen::cuda {

// Whether this process has used the device: making it current would create its context, some 500 MB
// of its memory, in every process of a machine that meant to use another one.
bool has_context(int device);

// The device of the thread's context; 0 where it has none, as the runtime would choose.
int current_device();

// Makes a device current in this thread and restores what was: a context of the caller's own, or none.
// The runtime alone could only leave a device current to a thread that had none, and for other
// libraries in the thread it would be the current one from then on.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  CurrentDevice(int device, std::nothrow_t) noexcept;  // for destructors: as well as it can be had
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  cudaError_t enter(int device) noexcept;
  void leave() noexcept;

  void* before_ = nullptr;  // a context
  bool entered_ = false;
};

}  // namespace fastgen::cuda
