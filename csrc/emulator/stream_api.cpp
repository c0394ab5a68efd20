// The emulated runtime's calls about streams and events.
#include <memory>
#include <utility>
#include <vector>

#include "emulator/streams.hpp"

using namespace fastgen::emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  FASTGEN_ENTER;
  if (!handle || flags > cudaStreamNonBlocking) return result(cudaErrorInvalidValue);
  auto* stream = new CUstream_st;
  stream->device = current_device();
  stream->blocking = flags != cudaStreamNonBlocking;
  runtime().streams.push_back(stream);
  *handle = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* handle) {
  return cudaStreamCreateWithFlags(handle, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned flags, int) {
  return cudaStreamCreateWithFlags(handle, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const Call call;
  if (usable() == cudaErrorInsufficientDriver) return result(cudaErrorInsufficientDriver);
  CUstream_st* stream = find_stream(handle);
  if (!stream || stream != handle) return result(cudaErrorInvalidResourceHandle);
  stream->destroyed = true;  // what it has been given is done all the same, some time
  finish_destroyed(4);       // or memory that it was to free would pile up
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  const int device = stream->device;
  drain(*stream);
  trim_pools(device);
  return result(runtime().devices[static_cast<std::size_t>(device)]->error);
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  // Something happens while somebody asks again and again.
  if (!stream->queue.empty()) {
    run_next(first_to_run(*stream));
    return cudaErrorNotReady;
  }
  return result(runtime().devices[static_cast<std::size_t>(stream->device)]->error);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(handle);
  Work work;
  work.event = find_event(event);
  if (!stream || !work.event) return result(cudaErrorInvalidResourceHandle);
  work.record = work.event->recorded;
  work.waits = true;
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}

// ---- events
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  FASTGEN_ENTER;
  if (!handle) return result(cudaErrorInvalidValue);
  auto event = std::make_shared<CUevent_st>();
  event->device = current_device();
  event->timing = !(flags & cudaEventDisableTiming);
  runtime().events.push_back(event);
  *handle = event.get();
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* handle) { return cudaEventCreateWithFlags(handle, 0); }
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  FASTGEN_ENTER;
  CUstream_st* stream = find_stream(stream_handle);
  Work work;
  work.event = find_event(handle);
  if (!stream || !work.event || work.event->device != stream->device) {
    return result(cudaErrorInvalidResourceHandle);
  }
  work.record = ++work.event->recorded;
  enqueue(*stream, std::move(work));
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  FASTGEN_ENTER;
  const auto event = find_event(handle);
  if (!event) return result(cudaErrorInvalidResourceHandle);
  for (CUstream_st* stream : std::vector<CUstream_st*>(runtime().streams)) {
    for (const Work& work : stream->queue) {
      if (work.event == event && !work.waits && work.record == event->recorded) {
        drain_until([&] { return event->reached >= event->recorded; }, *stream);
        break;
      }
    }
  }
  trim_pools(event->device);
  return result(runtime().devices[static_cast<std::size_t>(event->device)]->error);
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  FASTGEN_ENTER;
  const auto event = find_event(handle);
  if (!event) return result(cudaErrorInvalidResourceHandle);
  if (event->reached >= event->recorded) return cudaSuccess;
  for (CUstream_st* stream : runtime().streams) {
    for (const Work& work : stream->queue) {
      if (work.event == event && !work.waits && work.record == event->recorded) {
        run_next(first_to_run(*stream));
        return cudaErrorNotReady;
      }
    }
  }
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  FASTGEN_ENTER;
  const auto first = find_event(from), last = find_event(to);
  if (!first || !last || !first->timing || !last->timing || !first->recorded || !last->recorded) {
    return result(cudaErrorInvalidResourceHandle);
  }
  if (first->reached < first->recorded || last->reached < last->recorded) return cudaErrorNotReady;
  *milliseconds = 1.0f;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  const Call call;
  usable();  // no matter if it is, but the thread has a context from here on
  auto& events = runtime().events;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (events[i].get() != handle) continue;
    events.erase(events.begin() + static_cast<std::ptrdiff_t>(i));  // waits hold on to it
    return cudaSuccess;
  }
  return result(cudaErrorInvalidResourceHandle);
}
