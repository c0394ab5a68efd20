// Threads for the length of one call: tasks are dealt from a counter until they or the time run out.
//
// There is no pool to keep: starting a thread costs about 30 us against blocks of 100 ms, forked
// children inherit nothing that could hang, and calls from several Python threads do not meet.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fastgen::cpu {

// The thread's floating-point mode for as long as this lives: round to nearest, and subnormal numbers
// kept or taken for 0.
class FloatingPointMode {
 public:
#if defined(__SSE2__)
  explicit FloatingPointMode(bool flush) : saved_(_mm_getcsr()) {
    _mm_setcsr(flush ? 0x9fc0 : 0x1f80);
  }
  ~FloatingPointMode() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
  explicit FloatingPointMode(bool flush) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(flush ? std::uint64_t{1} << 24 : std::uint64_t{0}));
  }
  ~FloatingPointMode() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
  explicit FloatingPointMode(bool) : saved_(0) {}
  ~FloatingPointMode() { (void)saved_; }
#endif
  FloatingPointMode(const FloatingPointMode&) = delete;
  FloatingPointMode& operator=(const FloatingPointMode&) = delete;

 private:
  std::uint64_t saved_;
};

// Subnormals kept, whatever mode the caller's thread is in.
struct PlainFloatingPoint : FloatingPointMode {
  PlainFloatingPoint() : FloatingPointMode(false) {}
};

// Subnormals taken for 0: processors take a hundred cycles to make one. A change of mode takes some too.
struct FlushToZero : FloatingPointMode {
  FlushToZero() : FloatingPointMode(true) {}
};

using Deadline = std::chrono::steady_clock::time_point;

inline Deadline deadline_after(double seconds) {
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(
             std::chrono::duration<double>(std::max(seconds, 0.0)));
}

// Blocks of `size` that hold so many items.
inline std::int64_t blocks_of(std::int64_t items, std::int64_t size) {
  return (items + size - 1) / size;
}

// The tasks of one phase. `next` may run past `count`; a task is never dealt twice.
struct Tasks {
  std::int64_t count = 0;
  std::atomic<std::int64_t> next{0};

  void reset(std::int64_t tasks) {
    count = tasks;
    next.store(0);
  }
  bool dealt() const { return next.load() >= count; }
  double fraction() const {
    return count == 0
               ? 1.0
               : static_cast<double>(std::min(next.load(), count)) / static_cast<double>(count);
  }
};

// Calls work(worker, task) on up to `threads` threads, the caller's among them, until the tasks are
// dealt or the deadline has passed; at least one task is done per call. True when all are done.
// The first exception stops the dealing and is thrown here after every thread has ended.
template <class Work>
bool run_tasks(Tasks& tasks, int threads, Deadline deadline, Work&& work) {
  std::exception_ptr error;
  std::mutex error_mutex;
  std::atomic<bool> stop{false};
  auto worker_loop = [&](int worker) {
    const PlainFloatingPoint mode;
    try {
      while (!stop.load(std::memory_order_relaxed)) {
        const std::int64_t task = tasks.next.fetch_add(1);
        if (task >= tasks.count) break;
        work(worker, task);
        if (std::chrono::steady_clock::now() >= deadline) break;
      }
    } catch (...) {
      stop.store(true);
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  };
  const std::int64_t left = tasks.count - std::min(tasks.count, tasks.next.load());
  const int helpers = static_cast<int>(std::min<std::int64_t>(threads, left)) - 1;
  std::vector<std::thread> running;
  running.reserve(static_cast<std::size_t>(std::max(helpers, 0)));
  for (int i = 0; i < helpers; ++i) {
    try {
      running.emplace_back(worker_loop, i + 1);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run do the work
    }
  }
  worker_loop(0);
  for (std::thread& thread : running) thread.join();
  if (error) std::rethrow_exception(error);
  return tasks.dealt();
}

}  // namespace fastgen::cpu
