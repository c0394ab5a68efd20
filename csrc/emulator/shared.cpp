// A block's shared memory, and the copies that are under way into it.
#include <cstdlib>
#include <cstring>
#include <new>

#include "emulator/block_state.hpp"
#include "emulator/races.hpp"

#if FASTGEN_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fastgen::emulator {
namespace {

// Shared memory lies in the middle of much poison, and at a multiple of 128 that is not one of 256.
constexpr std::int64_t kMargin = 256 * 1024;
constexpr std::int64_t kArena = (2 * kMargin + kMostShared + 8191) / 4096 * 4096;

#if !FASTGEN_ASAN
// Without the sanitizer: fences of known bytes on both sides.
constexpr std::int64_t kFenceBytes = 1024;
constexpr unsigned char kFence = 0xa5;
#endif

void finish_copies(std::size_t count, Thread& thread) {
  for (std::size_t i = 0; i < count; ++i) {
    const Copy& copy = thread.copies[i];
    if (copy.bytes) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
    std::memset(copy.to + copy.bytes, 0, static_cast<std::size_t>(16 - copy.bytes));
    races::read(copy.from, static_cast<std::size_t>(copy.bytes), threadIdx.x, copy.site);
    races::write(copy.to, 16, threadIdx.x, copy.site);
  }
  thread.copies.erase(thread.copies.begin(),
                      thread.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void open_shared(std::int64_t bytes) {
  if (!state.arena) {
    state.arena = static_cast<unsigned char*>(std::aligned_alloc(4096, kArena));
    if (!state.arena) throw std::bad_alloc();
  }
  state.shared = state.arena + kMargin + 128;
  state.shared_bytes = bytes;
#if FASTGEN_ASAN
  ASAN_POISON_MEMORY_REGION(state.arena, static_cast<std::size_t>(kArena));
  ASAN_UNPOISON_MEMORY_REGION(state.shared, static_cast<std::size_t>(bytes));
#else
  std::memset(state.shared - kFenceBytes, kFence, kFenceBytes);
  std::memset(state.shared + bytes, kFence, kFenceBytes);
#endif
}

void close_shared() {
#if FASTGEN_ASAN
  ASAN_UNPOISON_MEMORY_REGION(state.arena, static_cast<std::size_t>(kArena));
#endif
}

void poison_shared() {
  std::memset(state.shared, kPoison, static_cast<std::size_t>(state.shared_bytes));
}

bool shared_fences_stand() {
#if !FASTGEN_ASAN
  for (std::int64_t i = 1; i <= kFenceBytes; ++i) {
    if (state.shared[-i] != kFence || state.shared[state.shared_bytes + i - 1] != kFence) {
      return false;
    }
  }
#endif
  return true;
}

void end_copies(Thread& own) {
  for (const Copy& copy : own.copies) {
    if (copy.bytes) {
      fault("copy_async_16 at %s:%d is never waited for", copy.site.file, copy.site.line);
    }
  }
  own.copies.clear();
  own.groups.clear();
  own.open = 0;
}

unsigned char* shared_begin() {
  if (!state.running) fault("shared_memory");
  return state.shared;
}

std::uint32_t shared_offset(const void* pointer, const char* name, Site site) {
  const std::ptrdiff_t offset = static_cast<const unsigned char*>(pointer) - state.shared;
  if (offset < 0 || offset > state.shared_bytes) {
    fault("%s: the pointer is not in shared memory", place(name, site).c_str());
  }
  return static_cast<std::uint32_t>(offset) + kSharedWindow;
}

unsigned char* shared_at(std::uint32_t address, std::uint32_t bytes, std::uint32_t align,
                         const char* name, Site site) {
  const std::int64_t offset = std::int64_t{address} - kSharedWindow;
  if (offset < 0 || offset + bytes > state.shared_bytes) {
    fault("%s: byte %lld of shared memory, which has %lld", place(name, site).c_str(),
          static_cast<long long>(offset), static_cast<long long>(state.shared_bytes));
  }
  if (address & (align - 1)) {
    fault("%s: misaligned address, byte %lld of shared memory, not a multiple of %u",
          place(name, site).c_str(), static_cast<long long>(offset), align);
  }
  return state.shared + offset;
}

void copy_issue(std::uint32_t to, const void* from, int bytes, Site site) {
  static const char* const kName = "copy_async_16";
  unsigned char* target = shared_at(to, 16, 16, kName, site);
  if (bytes < 0 || bytes > 16) fault("%s: %d bytes", place(kName, site).c_str(), bytes);
  if (reinterpret_cast<std::uintptr_t>(from) % 16) {
    fault("%s: misaligned address %p in global memory", place(kName, site).c_str(), from);
  }
  // The copy may land at any time from now on: what was there is lost, what comes is not there yet.
  races::write(target, 16, threadIdx.x, site);
  std::memset(target, kPoison, 16);
  Thread& thread = *state.threads[threadIdx.x];
  thread.copies.push_back({target, from, bytes, site});
  ++thread.open;
}

void copy_commit() {
  Thread& thread = *state.threads[threadIdx.x];
  thread.groups.push_back(thread.open);
  thread.open = 0;
}

void copy_wait(int pending) {
  Thread& thread = *state.threads[threadIdx.x];
  std::size_t count = 0, groups = 0;
  while (thread.groups.size() - groups > static_cast<std::size_t>(pending)) {
    count += static_cast<std::size_t>(thread.groups[groups++]);
  }
  if (!groups) return;
  finish_copies(count, thread);
  thread.groups.erase(thread.groups.begin(),
                      thread.groups.begin() + static_cast<std::ptrdiff_t>(groups));
}

}  // namespace fastgen::emulator
