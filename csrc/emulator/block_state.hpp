// Inside of the emulator: everything about the block that runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator/block.hpp"
#include "emulator/fiber.hpp"
#include "emulator/kernel.hpp"

namespace fastgen::emulator {

struct Copy {
  unsigned char* to;
  const void* from;
  int bytes;
  Site site;
};

struct Thread {
  Fiber fiber;
  std::vector<Copy> copies;  // not done yet, oldest first
  std::vector<int> groups;   // sizes of the closed groups among them
  int open = 0;              // copies in no group yet
};

// How the threads of a block take turns; drawn for every block.
struct Manners {
  int lanes;  // 0: ascending, 1: descending, 2: from a random one on
  // Once in so many times another warp goes on after an operation of a warp, and another thread before
  // an atomic operation; 0: never.
  int leave_warp, preempt;
};

struct State {
  Fiber host;
  std::vector<std::unique_ptr<Thread>> threads;
  Warp warps[kMostThreads / 32];
  std::uint32_t ready_warps = 0;
  int count = 0;  // threads of a block
  int ended = 0;
  bool running = false;

  // The barrier that threads wait in.
  const char* barrier_name = nullptr;
  Site barrier_site{};
  int barrier_arrived = 0;
  int barrier_votes = 0, barrier_result = 0;

  const char* kernel = "";
  const std::function<void()>* body = nullptr;
  std::string error;
  Manners manners{};
  Dice dice{0};
  std::uint64_t seed = seed_of_environment(), launches = 0;

  unsigned char* arena = nullptr;
  unsigned char* shared = nullptr;
  std::int64_t shared_bytes = 0;
};

extern State& state;  // never destroyed: modules unload in any order

constexpr unsigned char kPoison = 0xff;

// block.cpp: all threads of a block are ready, and one goes on until they have ended or failed.
void run_threads();
// What a thread's fiber does, block after block.
void thread_main();
// shared.cpp: fresh shared memory for a kernel, for a block, and what of it has been written over.
void open_shared(std::int64_t bytes);
void close_shared();
void poison_shared();
bool shared_fences_stand();
// An error if the thread that ends has not waited for all its copies.
void end_copies(Thread& own);
// Keeps the first error of a kernel, with where it happened.
void set_error(const char* text);
std::string place(const char* name, const Site& site);

}  // namespace fastgen::emulator
