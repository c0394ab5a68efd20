// The threads of one block as fibers: who runs, barriers, operations of whole warps, shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulator/language.hpp"

// Where the running thread stands; one block runs at a time.
inline uint3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0};
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace fastgen::emulator {

// Where an intrinsic was called: the default argument of each is evaluated by its caller.
struct Site {
  const char* file;
  int line;
};

struct Warp {
  const char* name;  // the operation that lanes wait in
  Site site;
  std::uint32_t arrived;  // lanes that wait in it
  std::uint32_t ready;    // lanes that could run
  std::uint32_t barrier;  // lanes that wait in a barrier of the block
  std::uint32_t ended;
  const void* in[32];
  void* out[32];
};

// Ends the kernel with an error: the kernel, the block, the thread, and this.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The same where nobody can catch an exception: the thread stops where it is.
[[noreturn]] void fault_here(const char* text);
// Whether the running thread's own stack has this address.
bool on_own_stack(const void* address);
// Whether it is in memory that cudaMalloc and the like have given out.
bool is_device_memory(const void* address);

// An operation of all 32 lanes. True in the lane that comes last, and must call `leave` after it
// has done the work of all; false in the others, when the work is done.
bool arrive(const char* name, Site site, std::uint32_t mask, const void* in, void* out);
void leave();
Warp& this_warp();

template <class Work>
inline void collective(const char* name, Site site, std::uint32_t mask, const void* in, void* out,
                       Work work) {
  if (arrive(name, site, mask, in, out)) {
    Warp& warp = this_warp();
    work(warp.in, warp.out);
    leave();
  }
}

// What __syncwarp means, beyond waiting: memory is the same for all lanes.
void order_warp();

enum class Vote { none, any, all, count };
int block_barrier(const char* name, Site site, Vote vote, bool value);

// Around an atomic operation, before which other threads may run.
void begin_atomic();
void end_atomic();

// Shared memory of the block, and addresses in it: they begin at kSharedWindow, not at 0.
constexpr std::uint32_t kSharedWindow = 1024;
unsigned char* shared_begin();
std::uint32_t shared_offset(const void* pointer, const char* name, Site site);
// The bytes [address, address + bytes); `align` is a power of two.
unsigned char* shared_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t align,
                         const char* name, Site site);

void copy_issue(std::uint32_t to, const void* from, int bytes, Site site);
void copy_commit();
void copy_wait(int pending);

}  // namespace fastgen::emulator

#define FASTGEN_SITE fastgen::emulator::Site site = {__builtin_FILE(), __builtin_LINE()}
