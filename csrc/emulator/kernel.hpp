// Runs one kernel: its blocks one after another, in an order that the seed picks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace fastgen::emulator {

constexpr int kMostThreads = 1024;
// What every GPU since sm_80 gives a block that asks (sm_86, 89 and 120; sm_80 163 KB, sm_90 227
// KB).
constexpr std::int64_t kCommonShared = 99 * 1024;
constexpr std::int64_t kMostShared = 227 * 1024;

// Returns what went wrong, or nothing.
std::string run_kernel(const char* name, std::int64_t blocks, int threads, std::int64_t shared,
                       const std::function<void()>& body);

// The order in which threads, blocks and streams go; FASTGEN_EMULATOR_SEED at first, 0 by default.
void set_seed(std::uint64_t seed);
std::uint64_t seed();
std::uint64_t seed_of_environment();

// A cheap generator for schedules.
class Dice {
 public:
  explicit Dice(std::uint64_t state) : state_(state) {}
  std::uint32_t roll() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>(z >> 32);
  }
  std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>(std::uint64_t{roll()} * n >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace fastgen::emulator
