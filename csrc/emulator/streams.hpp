// Inside of the emulated runtime: devices, their streams, and who has to wait for whom.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "emulator/runtime_api.hpp"

struct CUevent_st {
  int device = 0;
  bool timing = false;
  std::uint64_t recorded = 0;  // calls of cudaEventRecord
  std::uint64_t reached = 0;   // the last of them that its stream has come to
  bool destroyed = false;
};

namespace fastgen::emulator {

// One thing that a stream does.
struct Work {
  std::uint64_t number = 0;           // in the order of the host's calls
  std::function<std::string()> run;   // returns what went wrong; empty for a wait or a record
  std::vector<int> devices;           // whose memory it uses
  std::shared_ptr<CUevent_st> event;  // that it waits for, or records
  std::uint64_t record = 0;           // which recording
  bool waits = false;
};

}  // namespace fastgen::emulator

struct CUstream_st {
  int device = 0;
  bool blocking = true;  // waits for the legacy stream and is waited for
  bool legacy = false;
  bool destroyed = false;
  std::deque<fastgen::emulator::Work> queue;
};

struct CUmemPool_st {
  int device = 0;
  std::int64_t used = 0, reserved = 0, threshold = 0;
  bool destroyed = false;
};

namespace fastgen::emulator {

struct Device {
  cudaError_t error = cudaSuccess;  // after a failed kernel: the answer to everything
  std::int64_t plain = 0;           // bytes of cudaMalloc
  CUmemPool_st default_pool;
  CUstream_st legacy;
  bool open = false;     // its memory may be touched
  bool context = false;  // somebody has used it
};

// A piece of device memory, or of page-locked host memory (device -1).
struct Piece {
  unsigned char* data = nullptr;
  unsigned char* block = nullptr;  // what malloc gave; null: not ours (registered)
  std::int64_t bytes = 0;
  std::int64_t counted = 0;  // bytes that the device or the pool counts
  int device = -1;
  CUmemPool_st* pool = nullptr;
  bool live = false;     // from the allocation's place in its stream on
  bool dropped = false;  // cudaFreeAsync has been called
};

struct Runtime {
  std::recursive_mutex mutex;
  std::vector<std::unique_ptr<Device>> devices;
  std::int64_t memory_limit = 0;
  std::int64_t shared_limit = 0;
  bool pools = true;
  bool pools_promised = true;  // what the attribute says
  bool pageable_access = false;
  std::vector<CUstream_st*> streams;  // all, the legacy ones too
  std::map<std::uintptr_t, std::shared_ptr<Piece>> pieces;
  std::vector<std::shared_ptr<CUevent_st>> events;
  std::vector<std::unique_ptr<CUmemPool_st>> own_pools;
  std::uint64_t number = 0;
  std::string last_fault;
};
Runtime& runtime();

// Every call of the API: one at a time, and when it returns no device memory may be touched.
class Call {
 public:
  Call();
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};
// Keeps an error for cudaGetLastError and returns it.
cudaError_t result(cudaError_t error);
int current_device();
// What most calls answer without a driver, and on a device that has failed. They use the current
// device, which gets its context by that.
cudaError_t usable();
cudaError_t device_error(int device);

// The stream behind a handle, null if there is none.
CUstream_st* find_stream(cudaStream_t handle);
std::shared_ptr<CUevent_st> find_event(cudaEvent_t handle);
void enqueue(CUstream_st& stream, Work work);
// The stream that has to go on before this one's next piece of work can run: itself, if it can.
CUstream_st& first_to_run(CUstream_st& stream);
void run_next(CUstream_st& stream);
// Runs what has to be run before the stream is empty, and by chance what may be run.
void drain(CUstream_st& stream);
void drain_until(const std::function<bool()>& done, CUstream_st& stream);
// Does the work of destroyed streams, save of the last few.
void finish_destroyed(std::size_t most);
// Everything that a device has been given.
void drain_device(int device);

// Lets anybody touch the memory of these devices, and nobody that of others.
void open_memory(const std::vector<int>& devices);
// The piece that a pointer points into, or null.
std::shared_ptr<Piece> piece_at(const void* pointer);
// The piece that has all of [pointer, pointer + bytes), or null.
std::shared_ptr<Piece> find_piece(const void* pointer, std::size_t bytes);
// What the pools give back when a stream has been waited for.
void trim_pools(int device);

}  // namespace fastgen::emulator

#define FASTGEN_ENTER                                           \
  const fastgen::emulator::Call call;                           \
  if (const cudaError_t unusable = fastgen::emulator::usable()) \
  return fastgen::emulator::result(unusable)
