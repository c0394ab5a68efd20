// Stacks that a thread switches between: the context switch, with what the address sanitizer must
// know.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define FASTGEN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTGEN_ASAN 1
#endif
#endif
#if !defined(FASTGEN_ASAN)
#define FASTGEN_ASAN 0
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fastgen::emulator {

// One stack. A default fiber stands for the host's own.
class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Makes a stack on which `entry` runs at the next switch; it must never return. Whatever ran
  // there before is forgotten.
  void prepare(void (*entry)());
  // From `from`, which runs now, to `to`; returns when somebody switches back.
  static void change(Fiber& from, Fiber& to);
  // The first thing that `entry` does.
  static void arrived();
  bool has(const void* address) const {
    return address >= bottom_ && address < static_cast<const char*>(bottom_) + size_;
  }

 private:
  void* stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
  void* fake_stack_ = nullptr;
#if defined(__x86_64__)
  void* pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace fastgen::emulator
