// Events and page-locked memory.
#include "cuda/events.hpp"

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <vector>

namespace fastgen::cuda {

Event::Event(int device) : device_(device) {
  const CurrentDevice current(device);
  check(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

Event::~Event() {
  const CurrentDevice current(device_, std::nothrow);
  cudaEventDestroy(handle_);
}

void Event::record(const Stream& stream) {
  const CurrentDevice current(device_);
  check(cudaEventRecord(handle_, stream.handle()), "cudaEventRecord");
  recorded_ = true;
}

void Event::hold(const Stream& stream) const {
  if (!recorded_) return;
  const CurrentDevice current(stream.device());
  check(cudaStreamWaitEvent(stream.handle(), handle_, 0), "cudaStreamWaitEvent");
}

void Event::synchronize() const {
  if (!recorded_) return;
  const CurrentDevice current(device_);
  check(cudaEventSynchronize(handle_), "cudaEventSynchronize");
}

void wait_for(const Stream& later, const Stream& earlier) {
  if (later.device() == earlier.device() && later.handle() == earlier.handle()) return;
  Event event(earlier.device());
  event.record(earlier);
  event.hold(later);
}

namespace {

struct PinnedPieces {
  std::mutex mutex;
  std::vector<void*> free;
};
PinnedPieces& pinned_pieces() {
  static PinnedPieces& all = *new PinnedPieces;  // outlives the driver's own clean-up at exit
  return all;
}
constexpr std::size_t kMostPieces = 8;

}  // namespace

PinnedMemory::PinnedMemory(std::int64_t bytes, int device)
    : bytes_(std::max(bytes, kPinnedBytes)), device_(device) {
  if (bytes_ == kPinnedBytes) {
    PinnedPieces& pieces = pinned_pieces();
    const std::lock_guard<std::mutex> lock(pieces.mutex);
    if (!pieces.free.empty()) {
      data_ = pieces.free.back();
      pieces.free.pop_back();
      return;
    }
  }
  const CurrentDevice current(device);
  check(cudaHostAlloc(&data_, static_cast<std::size_t>(bytes_), cudaHostAllocPortable),
        "cudaHostAlloc");
}

PinnedMemory::~PinnedMemory() {
  if (bytes_ == kPinnedBytes) {
    PinnedPieces& pieces = pinned_pieces();
    const std::lock_guard<std::mutex> lock(pieces.mutex);
    if (pieces.free.size() < kMostPieces) {
      pieces.free.push_back(data_);
      return;
    }
  }
  const CurrentDevice current(device_, std::nothrow);
  cudaFreeHost(data_);
}

}  // namespace fastgen::cuda
