// Streams are queues that nothing runs before somebody has to know: the latest schedule that CUDA
// allows, and now and then an earlier one.
#include "emulator/streams.hpp"

#include <algorithm>
#include <cstdlib>

#include "emulator/cuda_runtime.hpp"
#include "emulator/kernel.hpp"

namespace fastgen::emulator {
namespace {

// A device's queue is finite: a launch into a full one waits.
constexpr std::size_t kMostQueued = 1024;

std::int64_t environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoll(text, nullptr, 10) : otherwise;
}

Runtime* make_runtime() {
  auto* made = new Runtime;  // never destroyed: modules unload in any order
  const std::int64_t count = environment("FASTGEN_EMULATOR_DEVICES", 1);
  made->memory_limit = environment("FASTGEN_EMULATOR_MEMORY", std::int64_t{1} << 30);
  const auto pools = environment("FASTGEN_EMULATOR_POOLS", 1);
  made->pools_promised = pools != 0;
  made->pools = pools == 1;
  made->pageable_access = environment("FASTGEN_EMULATOR_PAGEABLE_ACCESS", 0) != 0;
  made->shared_limit =
      std::min(kMostShared, 1024 * environment("FASTGEN_EMULATOR_SHARED", kCommonShared / 1024));
  for (int i = 0; i < count; ++i) {
    made->devices.push_back(std::make_unique<Device>());
    Device& device = *made->devices.back();
    device.default_pool.device = i;
    device.legacy.device = i;
    device.legacy.legacy = true;
    made->streams.push_back(&device.legacy);
  }
  return made;
}

// One per thread and device, made when it is first asked for.
thread_local std::vector<CUstream_st*> streams_of_thread;

CUstream_st* stream_of_thread() {
  Runtime& all = runtime();
  streams_of_thread.resize(all.devices.size());
  CUstream_st*& stream = streams_of_thread[static_cast<std::size_t>(current_device())];
  if (!stream) {
    stream = new CUstream_st;
    stream->device = current_device();
    all.streams.push_back(stream);
  }
  return stream;
}

// The stream that has to go on first before this one's next piece of work can run: itself, if it
// can.
CUstream_st* in_the_way(CUstream_st& stream) {
  const Work& work = stream.queue.front();
  if (stream.legacy || stream.blocking) {
    for (CUstream_st* other : runtime().streams) {
      if (other == &stream || other->device != stream.device || other->queue.empty()) continue;
      if (stream.legacy ? !(other->blocking && !other->legacy) : !other->legacy) continue;
      if (other->queue.front().number < work.number) return other;
    }
  }
  if (work.waits && work.event->reached < work.record) {
    for (CUstream_st* other : runtime().streams) {
      for (const Work& theirs : other->queue) {
        if (!theirs.waits && theirs.event == work.event && theirs.record >= work.record)
          return other;
      }
    }
    // Its recording was thrown away with a failed device: there is nothing to wait for.
  }
  return &stream;
}

}  // namespace

CUstream_st& first_to_run(CUstream_st& stream) {
  CUstream_st* at = &stream;
  for (;;) {
    CUstream_st* next = in_the_way(*at);
    if (next == at) return *at;
    at = next;  // ends: each has older work than the one that waits for it
  }
}

namespace {

void fail(int device, const std::string& text) {
  Runtime& all = runtime();
  all.devices[static_cast<std::size_t>(device)]->error = cudaErrorLaunchFailure;
  all.last_fault = text;
  for (CUstream_st* stream : all.streams) {
    if (stream->device != device) continue;
    for (const Work& work : stream->queue) {
      if (work.event && !work.waits)
        work.event->reached = std::max(work.event->reached, work.record);
    }
    stream->queue.clear();
  }
}

}  // namespace

void run_next(CUstream_st& stream) {
  Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (work.event && !work.waits) work.event->reached = std::max(work.event->reached, work.record);
  if (!work.run) return;
  // What has no devices allocates, frees or records.
  if (!work.devices.empty()) open_memory(work.devices);
  const std::string error = work.run();
  if (!error.empty()) fail(stream.device, error);
}

namespace {

Dice& dice() {
  static Dice made(seed() + 1);
  return made;
}

}  // namespace

Runtime& runtime() {
  static Runtime& made = *make_runtime();
  return made;
}

Call::Call() : lock_(runtime().mutex) {}
Call::~Call() { open_memory({}); }

CUstream_st* find_stream(cudaStream_t handle) {
  Runtime& all = runtime();
  if (handle == nullptr || handle == cudaStreamLegacy) {
    return &all.devices[static_cast<std::size_t>(current_device())]->legacy;
  }
  if (handle == cudaStreamPerThread) return stream_of_thread();
  for (CUstream_st* stream : all.streams) {
    if (stream == handle && !stream->destroyed) return stream;
  }
  return nullptr;
}

std::shared_ptr<CUevent_st> find_event(cudaEvent_t handle) {
  for (const auto& event : runtime().events) {
    if (event.get() == handle) return event;
  }
  return nullptr;
}

void enqueue(CUstream_st& stream, Work work) {
  work.number = ++runtime().number;
  stream.queue.push_back(std::move(work));
  while (stream.queue.size() > kMostQueued) run_next(first_to_run(stream));
}

void drain_until(const std::function<bool()>& done, CUstream_st& stream) {
  while (!done() && !stream.queue.empty()) {
    CUstream_st* next = &first_to_run(stream);
    if (dice().below(8) == 0) {  // something that nobody waits for yet
      Runtime& all = runtime();
      CUstream_st* other =
          all.streams[dice().below(static_cast<std::uint32_t>(all.streams.size()))];
      if (!other->queue.empty()) next = &first_to_run(*other);
    }
    run_next(*next);
  }
}

void drain(CUstream_st& stream) {
  drain_until([] { return false; }, stream);
}

namespace {

// Destroyed streams with nothing left to do.
void forget_destroyed() {
  Runtime& all = runtime();
  std::vector<CUstream_st*> kept;
  for (CUstream_st* stream : all.streams) {
    if (stream->destroyed && stream->queue.empty()) {
      delete stream;
    } else {
      kept.push_back(stream);
    }
  }
  all.streams.swap(kept);
}

}  // namespace

void finish_destroyed(std::size_t most) {
  for (;;) {
    CUstream_st* oldest = nullptr;
    std::size_t count = 0;
    for (CUstream_st* stream : runtime().streams) {
      if (!stream->destroyed || stream->queue.empty()) continue;
      if (!oldest) oldest = stream;
      ++count;
    }
    if (count <= most) break;
    drain(*oldest);
  }
  forget_destroyed();
}

void drain_device(int device) {
  Runtime& all = runtime();
  for (;;) {
    std::vector<CUstream_st*> busy;
    for (CUstream_st* stream : all.streams) {
      if (stream->device == device && !stream->queue.empty()) busy.push_back(stream);
    }
    if (busy.empty()) break;
    run_next(first_to_run(*busy[dice().below(static_cast<std::uint32_t>(busy.size()))]));
  }
  forget_destroyed();
}

cudaError_t launch(const char* name, std::int64_t blocks, int threads, std::int64_t shared,
                   cudaStream_t handle, std::function<void()> body) {
  const Call call;
  Runtime& all = runtime();
  const cudaError_t error = usable();
  if (all.devices.empty()) return result(error);
  const int device = current_device();
  CUstream_st* stream = find_stream(handle);
  // The errors that a launch gives: a stream of another device is not a stream of this one.
  if (!stream || stream->device != device) return result(cudaErrorInvalidResourceHandle);
  if (error != cudaSuccess) return result(error);
  if (blocks < 1 || blocks > 0x7fffffff || threads < 1 || threads > kMostThreads) {
    return result(cudaErrorInvalidConfiguration);
  }
  if (shared < 0 || shared > all.shared_limit) return result(cudaErrorInvalidValue);
  Work work;
  work.devices = {device};
  work.run = [=, body = std::move(body)] {
    return run_kernel(name, blocks, threads, shared, body);
  };
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}

void set_shared_limit(std::int64_t bytes) { runtime().shared_limit = std::min(bytes, kMostShared); }

void set_pageable_access(bool access) { runtime().pageable_access = access; }

void recover() {
  const Call call;
  for (const auto& device : runtime().devices) device->error = cudaSuccess;
  cudaGetLastError();
}

}  // namespace fastgen::emulator
