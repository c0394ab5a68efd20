#include "emulator/races.hpp"

#if defined(FASTGEN_EMULATOR_RACES)

#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator/kernel.hpp"

namespace fastgen::emulator::races {
namespace {

// Who touched a word, and when: barriers that the block and the warp had passed by then.
struct Access {
  const void* code = nullptr;  // where in the program, or null and
  const char* file = nullptr;  // where in the source
  int line = 0;
  std::uint32_t run = 0;  // kernel; of shared memory: block of a kernel. 0: nobody
  std::uint32_t block = 0;
  std::uint32_t barrier = 0, sync = 0;
  std::uint16_t thread = 0;
  std::uint8_t bytes = 0;  // which of the four, as bits
  bool atomic = false;
};

// How many have read since the last write, beyond the last one.
enum class Readers : std::uint8_t { one, lanes, warps, blocks };

struct Word {
  Access write, read;
  Readers readers = Readers::one;
};

// What is remembered of 4 KB: of each word, and of each byte once anything smaller than a word has
// been touched (neighbouring threads may well write neighbouring bytes).
struct Page {
  Word words[1024];
  std::unique_ptr<Word[]> bytes;
};

bool running = false;  // looked at before anything else has been constructed
int atomic_depth = 0;

struct State {
  std::uint32_t kernel = 0, block_run = 0;
  std::uint32_t barrier = 0, sync[kMostThreads / 32] = {};
  const unsigned char* shared = nullptr;
  std::int64_t shared_bytes = 0;
  // By address, of global memory; by the place in it, of the block's shared memory.
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
  std::vector<std::unique_ptr<Page>> shared_pages;
  std::uintptr_t last_number = 0;
  Page* last = nullptr;
};
State& state = *new State;

std::string place(const Access& access) {
  if (!access.code) return std::string(access.file) + ":" + std::to_string(access.line);
  // The return address is the instruction behind the call.
  const auto code = reinterpret_cast<std::uintptr_t>(access.code) - 1;
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(code), &info) || !info.dli_fname) return "?";
  char command[600], line[400] = "";
  std::snprintf(command, sizeof(command), "addr2line -i -e '%s' 0x%zx 2>/dev/null", info.dli_fname,
                static_cast<std::size_t>(code - reinterpret_cast<std::uintptr_t>(info.dli_fbase)));
  std::string text;
  if (FILE* pipe = popen(command, "r")) {
    // From the innermost inlined function outwards, to the first that is none of the emulator's.
    while (std::fgets(line, sizeof(line), pipe)) {
      text = line;
      if (text.find("/emulator/intrinsics.hpp") == std::string::npos) break;
    }
    pclose(pipe);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "?" : text;
}

std::string described(const char* what, const Access& access) {
  return std::string(access.atomic ? "atomic " : "") + what + " by thread " +
         std::to_string(access.thread) + " of block " + std::to_string(access.block) + " at " +
         place(access);
}

[[noreturn]] void report(std::uintptr_t address, const char* before_what, const Access& before,
                         const char* what, const Access& now) {
  running = false;  // the message is made of memory, too
  std::string where = "global memory";
  const auto base = reinterpret_cast<std::uintptr_t>(state.shared);
  if (address >= base && address < base + static_cast<std::uintptr_t>(state.shared_bytes)) {
    where = "byte " + std::to_string(address - base) + " of shared memory";
  }
  const std::string text = "race in " + where + ": " + described(before_what, before) + ", and " +
                           described(what, now) + ", with no barrier in between";
  fault_here(text.c_str());
}

bool same_thread(const Access& before, const Access& now) {
  return before.thread == now.thread && before.block == now.block;
}
bool same_warp(const Access& before, const Access& now) {
  return before.thread / 32 == now.thread / 32 && before.block == now.block;
}
// Whether barriers order the two.
bool ordered(const Access& before, const Access& now) {
  return before.block == now.block &&
         (before.barrier < now.barrier || (same_warp(before, now) && before.sync < now.sync));
}

void note_read(Word& word, const Access& now) {
  const Access& last = word.read;
  Readers readers = Readers::one;
  if (last.run == now.run) {
    if (word.readers == Readers::blocks || last.block != now.block) {
      readers = Readers::blocks;
    } else if (last.barrier == now.barrier) {
      if (word.readers == Readers::warps || !same_warp(last, now)) {
        readers = Readers::warps;
      } else if (last.sync == now.sync &&
                 (word.readers == Readers::lanes || last.thread != now.thread)) {
        readers = Readers::lanes;
      }
    }
  }
  word.read = now;
  word.readers = readers;
}

// Whether a write now meets a read that is not ordered before it.
bool meets_read(const Word& word, const Access& now) {
  const Access& read = word.read;
  if (read.run != now.run) return false;
  switch (word.readers) {
    case Readers::blocks:
      return true;
    case Readers::warps:
      return read.block != now.block || read.barrier == now.barrier;
    case Readers::lanes:
      return !ordered(read, now);
    default:
      return !same_thread(read, now) && !ordered(read, now);
  }
}

void touch(Word& word, std::uintptr_t address, const Access& now, bool writes) {
  const bool met = word.write.run == now.run && (word.write.bytes & now.bytes) &&
                   !same_thread(word.write, now) && !ordered(word.write, now) &&
                   !(word.write.atomic && now.atomic);
  if (met) report(address, "write", word.write, writes ? "write" : "read", now);
  if (!writes) {
    // An atomic read races with nothing but plain writes, and those come later only by chance.
    if (!now.atomic) note_read(word, now);
    return;
  }
  if ((word.read.bytes & now.bytes) && meets_read(word, now))
    report(address, "read", word.read, "write", now);
  word.write = now;
}

Page& shared_page(std::uintptr_t place) {
  auto& page = state.shared_pages[place / 4096];
  if (!page) page = std::make_unique<Page>();
  return *page;
}

Page& global_page(std::uintptr_t address) {
  const std::uintptr_t number = address / 4096;
  if (number != state.last_number || !state.last) {
    auto& page = state.pages[number];
    if (!page) page = std::make_unique<Page>();
    state.last = page.get();
    state.last_number = number;
  }
  return *state.last;
}

void access(const void* pointer, std::size_t bytes, bool writes, const Access& from) {
  auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const auto base = reinterpret_cast<std::uintptr_t>(state.shared);
  Access now = from;
  now.atomic = atomic_depth > 0;
  now.barrier = state.barrier;
  now.sync = state.sync[now.thread / 32];
  now.block = blockIdx.x;
  const bool shared =
      address >= base && address + bytes <= base + static_cast<std::uintptr_t>(state.shared_bytes);
  if (!shared && !is_device_memory(pointer)) return;
  now.run = shared ? state.block_run : state.kernel;
  while (bytes > 0) {
    Page& page = shared ? shared_page(address - base) : global_page(address);
    const std::uintptr_t place = (shared ? address - base : address) % 4096;
    const std::size_t first = place % 4, count = bytes < 4 - first ? bytes : 4 - first;
    now.bytes = static_cast<std::uint8_t>(((1u << count) - 1u) << first);
    touch(page.words[place / 4], address, now, writes);
    if (count < 4) {
      if (!page.bytes) page.bytes = std::make_unique<Word[]>(4096);
      for (std::size_t i = 0; i < count; ++i)
        touch(page.bytes[place + i], address + i, now, writes);
    }
    address += count;
    bytes -= count;
  }
}

Access from_site(unsigned thread, Site site) {
  Access now;
  now.thread = static_cast<std::uint16_t>(thread);
  now.file = site.file;
  now.line = site.line;
  return now;
}

}  // namespace

void begin_kernel() {
  ++state.kernel;
  running = true;
  // Memory is given back and handed out again; what is remembered of it is only of use within a
  // kernel.
  if (state.pages.size() > 4096) state.pages.clear();
  state.last = nullptr;
}
void begin_block(const unsigned char* shared, std::int64_t shared_bytes) {
  ++state.block_run;
  state.barrier = 0;
  for (auto& sync : state.sync) sync = 0;
  state.shared = shared;
  state.shared_bytes = shared_bytes;
  state.shared_pages.resize(kMostShared / 4096 + 1);
}
void end_kernel() {
  running = false;
  atomic_depth = 0;
}
void barrier() { ++state.barrier; }
void warp_barrier(int warp) { ++state.sync[warp]; }
void read(const void* address, std::size_t bytes, unsigned thread, Site site) {
  if (running) access(address, bytes, false, from_site(thread, site));
}
void write(const void* address, std::size_t bytes, unsigned thread, Site site) {
  if (running) access(address, bytes, true, from_site(thread, site));
}
void begin_atomic() { ++atomic_depth; }
void end_atomic() { --atomic_depth; }

namespace {

inline void instrumented(const void* address, std::size_t bytes, bool writes, bool atomic,
                         const void* code) {
  if (!running || on_own_stack(address)) return;
  Access now;
  now.thread = static_cast<std::uint16_t>(threadIdx.x);
  now.code = code;
  atomic_depth += atomic;
  access(address, bytes, writes, now);
  atomic_depth -= atomic;
}

}  // namespace
}  // namespace fastgen::emulator::races

// What the compiler calls. The names and types are those of the sanitizer's runtime.
#define FASTGEN_CALL extern "C" __attribute__((visibility("default"))) void
#define FASTGEN_RACES(bytes)                                                                     \
  FASTGEN_CALL __tsan_read##bytes(void* a) {                                                     \
    fastgen::emulator::races::instrumented(a, bytes, false, false, __builtin_return_address(0)); \
  }                                                                                              \
  FASTGEN_CALL __tsan_write##bytes(void* a) {                                                    \
    fastgen::emulator::races::instrumented(a, bytes, true, false, __builtin_return_address(0));  \
  }                                                                                              \
  FASTGEN_CALL __tsan_unaligned_read##bytes(void* a) {                                           \
    fastgen::emulator::races::instrumented(a, bytes, false, false, __builtin_return_address(0)); \
  }                                                                                              \
  FASTGEN_CALL __tsan_unaligned_write##bytes(void* a) {                                          \
    fastgen::emulator::races::instrumented(a, bytes, true, false, __builtin_return_address(0));  \
  }                                                                                              \
  FASTGEN_CALL __tsan_volatile_read##bytes(void* a) {                                            \
    fastgen::emulator::races::instrumented(a, bytes, false, true, __builtin_return_address(0));  \
  }                                                                                              \
  FASTGEN_CALL __tsan_volatile_write##bytes(void* a) {                                           \
    fastgen::emulator::races::instrumented(a, bytes, true, true, __builtin_return_address(0));   \
  }                                                                                              \
  FASTGEN_CALL __tsan_unaligned_volatile_read##bytes(void* a) {                                  \
    fastgen::emulator::races::instrumented(a, bytes, false, true, __builtin_return_address(0));  \
  }                                                                                              \
  FASTGEN_CALL __tsan_unaligned_volatile_write##bytes(void* a) {                                 \
    fastgen::emulator::races::instrumented(a, bytes, true, true, __builtin_return_address(0));   \
  }
FASTGEN_RACES(1)
FASTGEN_RACES(2)
FASTGEN_RACES(4)
FASTGEN_RACES(8)
FASTGEN_RACES(16)

FASTGEN_CALL __tsan_init() {}
FASTGEN_CALL __tsan_func_entry(void*) {}
FASTGEN_CALL __tsan_func_exit() {}
FASTGEN_CALL __tsan_vptr_update(void**, void*) {}
FASTGEN_CALL __tsan_vptr_read(void**) {}
FASTGEN_CALL __tsan_read_range(void* a, unsigned long bytes) {
  fastgen::emulator::races::instrumented(a, bytes, false, false, __builtin_return_address(0));
}
FASTGEN_CALL __tsan_write_range(void* a, unsigned long bytes) {
  fastgen::emulator::races::instrumented(a, bytes, true, false, __builtin_return_address(0));
}
FASTGEN_CALL __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
FASTGEN_CALL __tsan_atomic_signal_fence(int) {}

// std::atomic and std::shared_ptr of the host's code: done for real, watched by nobody.
#define FASTGEN_ATOMICS(bits, T)                                                                   \
  extern "C" T __tsan_atomic##bits##_load(const volatile T* a, int) {                              \
    return __atomic_load_n(a, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  extern "C" void __tsan_atomic##bits##_store(volatile T* a, T v, int) {                           \
    __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_exchange(volatile T* a, T v, int) {                           \
    return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_add(volatile T* a, T v, int) {                          \
    return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_sub(volatile T* a, T v, int) {                          \
    return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_and(volatile T* a, T v, int) {                          \
    return __atomic_fetch_and(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_or(volatile T* a, T v, int) {                           \
    return __atomic_fetch_or(a, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_xor(volatile T* a, T v, int) {                          \
    return __atomic_fetch_xor(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" int __tsan_atomic##bits##_compare_exchange_strong(volatile T* a, T* e, T v, int,      \
                                                               int) {                              \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }                                                                                                \
  extern "C" int __tsan_atomic##bits##_compare_exchange_weak(volatile T* a, T* e, T v, int, int) { \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }
FASTGEN_ATOMICS(8, unsigned char)
FASTGEN_ATOMICS(16, unsigned short)
FASTGEN_ATOMICS(32, unsigned)
FASTGEN_ATOMICS(64, unsigned long long)

#endif
