// The driver's contexts, reached through the runtime: a module linked with the driver would not load
// where there is none.
#include "cuda/contexts.hpp"

#include "cuda/runtime.hpp"

namespace fastgen::cuda {
namespace {

// Functions of the driver, with results that are 0 for success; null where there is no driver.
struct Driver {
  int (*primary_state)(int device, unsigned* flags, int* active) = nullptr;
  int (*get_current)(void** context) = nullptr;
  int (*set_current)(void* context) = nullptr;
};

template <class Function>
void find(Function* function, const char* name, [[maybe_unused]] unsigned version) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableDefault, &result);
#else
  const cudaError_t status = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result);
#endif
  if (status == cudaSuccess && result == cudaDriverEntryPointSuccess) {
    *function = reinterpret_cast<Function>(found);
  } else {
    cudaGetLastError();
  }
}

const Driver& driver() {
  static const Driver functions = [] {
    Driver found;
    find(&found.primary_state, "cuDevicePrimaryCtxGetState", 7000);
    find(&found.get_current, "cuCtxGetCurrent", 4000);
    find(&found.set_current, "cuCtxSetCurrent", 4000);
    return found;
  }();
  return functions;
}

// Null where the thread has none, or nobody has used the driver so far.
void* current_context() {
  void* context = nullptr;
  const bool known = driver().get_current && driver().get_current(&context) == 0;
  return known ? context : nullptr;
}

}  // namespace

bool has_context(int device) {
  unsigned flags = 0;
  int active = 0;
  const auto state = driver().primary_state;
  return !state || state(device, &flags, &active) != 0 || active != 0;
}

int current_device() {
  int device = 0;
  if (current_context()) check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

CurrentDevice::CurrentDevice(int device) {
  const cudaError_t status = enter(device);
  if (status == cudaSuccess) return;
  leave();
  check(status, "cudaSetDevice");
}
CurrentDevice::CurrentDevice(int device, std::nothrow_t) noexcept { enter(device); }
CurrentDevice::~CurrentDevice() { leave(); }

cudaError_t CurrentDevice::enter(int device) noexcept {
  before_ = current_context();
  int current = -1;
  if (before_ && cudaGetDevice(&current) == cudaSuccess && current == device) return cudaSuccess;
  entered_ = true;
  return cudaSetDevice(device);
}

void CurrentDevice::leave() noexcept {
  if (entered_ && driver().set_current) driver().set_current(before_);
}

}  // namespace fastgen::cuda
