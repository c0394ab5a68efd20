// Runs the blocks of a kernel, one after another.
#include "emulator/kernel.hpp"

#include <cfenv>
#include <cstdlib>

#include "emulator/block_state.hpp"
#include "emulator/races.hpp"

namespace fastgen::emulator {
namespace {

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  Dice dice(a * 0x9e3779b97f4a7c15u ^ b);
  return std::uint64_t{dice.roll()} << 32 | dice.roll();
}

void draw_manners() {
  static constexpr int kLanes[4] = {0, 1, 2, 2}, kLeave[4] = {0, 8, 2, 1},
                       kPreempt[4] = {0, 0, 16, 3};
  state.manners.lanes = kLanes[state.dice.below(4)];
  state.manners.leave_warp = kLeave[state.dice.below(4)];
  state.manners.preempt = kPreempt[state.dice.below(4)];
}

void run_block(std::int64_t block, std::uint64_t launch) {
  state.dice = Dice(mixed(mixed(state.seed, launch), static_cast<std::uint64_t>(block)));
  draw_manners();
  blockIdx.x = static_cast<unsigned>(block);
  poison_shared();
  races::begin_block(state.shared, state.shared_bytes);
  run_threads();
}

std::uint64_t greatest_common_divisor(std::uint64_t a, std::uint64_t b) {
  while (b) {
    const std::uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

}  // namespace

std::uint64_t seed_of_environment() {
  const char* text = std::getenv("FASTGEN_EMULATOR_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 0;
}
void set_seed(std::uint64_t seed) {
  state.seed = seed;
  state.launches = 0;
}
std::uint64_t seed() { return state.seed; }

std::string run_kernel(const char* name, std::int64_t blocks, int threads, std::int64_t shared,
                       const std::function<void()>& body) {
  while (state.threads.size() < static_cast<std::size_t>(threads)) {
    auto thread = std::make_unique<Thread>();
    thread->fiber.prepare(thread_main);
    state.threads.push_back(std::move(thread));
  }
  state.kernel = name;
  state.body = &body;
  state.count = threads;
  state.error.clear();
  blockDim = dim3(static_cast<unsigned>(threads));
  gridDim = dim3(static_cast<unsigned>(blocks));
  const std::uint64_t launch = state.launches++;
  std::fenv_t environment;
  std::fegetenv(&environment);
  std::fesetenv(FE_DFL_ENV);  // subnormal numbers are kept, whatever the caller does with them
  open_shared(shared);
  state.running = true;
  races::begin_kernel();

  // Blocks ascending, descending, or in strides that meet all of them.
  Dice dice(mixed(state.seed, ~launch));
  const std::uint64_t n = static_cast<std::uint64_t>(blocks);
  std::uint64_t stride = 1, first = 0;
  switch (dice.below(4)) {
    case 0:
      break;
    case 1:
      stride = n - 1 ? n - 1 : 1;
      first = n - 1;
      break;
    default:
      stride = 1 + dice.below(static_cast<std::uint32_t>(n));
      while (greatest_common_divisor(stride, n) != 1) ++stride;
      first = dice.below(static_cast<std::uint32_t>(n));
  }
  std::uint64_t block = first;
  for (std::uint64_t i = 0; i < n && state.error.empty(); ++i, block = (block + stride) % n) {
    run_block(static_cast<std::int64_t>(block), launch);
    if (state.error.empty() && !shared_fences_stand()) {
      state.error = std::string("kernel ") + name + ", block " + std::to_string(block) +
                    ": wrote outside of its shared memory";
    }
  }
  state.running = false;
  races::end_kernel();
  close_shared();
  std::fesetenv(&environment);
  if (!state.error.empty()) {  // threads were left in the middle of something
    for (const auto& thread : state.threads) {
      thread->copies.clear();
      thread->groups.clear();
      thread->open = 0;
      thread->fiber.prepare(thread_main);
    }
  }
  return state.error;
}

}  // namespace fastgen::emulator
