// Finds accesses to the same memory that no barrier orders, whatever order the emulator happened to
// run them in. Works on files compiled with -fsanitize=thread and linked without it: that makes the
// compiler call __tsan_read4 and so on, which races.cpp answers. FASTGEN_EMULATOR_RACES=1 where it
// is on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulator/block.hpp"

namespace fastgen::emulator::races {

#if defined(FASTGEN_EMULATOR_RACES)

void begin_kernel();
void begin_block(const unsigned char* shared, std::int64_t shared_bytes);
void end_kernel();
// Everything before is ordered before everything after, for the block or one of its warps.
void barrier();
void warp_barrier(int warp);
// Accesses by instructions that the compiler does not know.
void read(const void* address, std::size_t bytes, unsigned thread, Site site);
void write(const void* address, std::size_t bytes, unsigned thread, Site site);
// What happens in between counts as atomic.
void begin_atomic();
void end_atomic();

#else

inline void begin_kernel() {}
inline void begin_block(const unsigned char*, std::int64_t) {}
inline void end_kernel() {}
inline void barrier() {}
inline void warp_barrier(int) {}
inline void read(const void*, std::size_t, unsigned, Site) {}
inline void write(const void*, std::size_t, unsigned, Site) {}
inline void begin_atomic() {}
inline void end_atomic() {}

#endif

}  // namespace fastgen::emulator::races
