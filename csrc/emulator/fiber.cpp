#include "emulator/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if FASTGEN_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a function must keep, changes stacks, and returns on the other one. A few nanoseconds;
// swapcontext would ask the kernel for the signal mask each time.
extern "C" void fastgen_emulator_change(void** from, void* to);
asm(R"(
.text
.globl fastgen_emulator_change
.hidden fastgen_emulator_change
.type fastgen_emulator_change, @function
fastgen_emulator_change:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fastgen_emulator_change, .-fastgen_emulator_change
)");
#endif

namespace fastgen::emulator {
namespace {

// Sanitizers make frames several times as large. Pages that nobody touches cost nothing.
constexpr std::size_t kStackBytes = FASTGEN_ASAN ? 512 * 1024 : 128 * 1024;
constexpr std::size_t kGuardBytes = 4096;

// Who left the stack before the one that runs: the sanitizer tells bounds of a stack only when it
// is left.
Fiber* previous = nullptr;
Fiber* running = nullptr;

}  // namespace

Fiber::~Fiber() {
  if (stack_) munmap(stack_, kStackBytes + kGuardBytes);
}

void Fiber::prepare(void (*entry)()) {
  if (!stack_) {
    stack_ = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack_ == MAP_FAILED) {
      stack_ = nullptr;
      throw std::bad_alloc();
    }
    mprotect(stack_, kGuardBytes, PROT_NONE);
    bottom_ = static_cast<char*>(stack_) + kGuardBytes;
    size_ = kStackBytes;
  }
#if FASTGEN_ASAN
  ASAN_UNPOISON_MEMORY_REGION(bottom_, size_);  // frames that were given up are still poisoned
#endif
  fake_stack_ = nullptr;
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack_) + kGuardBytes + kStackBytes) - 8;
  *--top = nullptr;  // where `entry` would return to; also aligns the stack as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = static_cast<char*>(stack_) + kGuardBytes;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::change(Fiber& from, Fiber& to) {
  previous = &from;
  running = &to;
#if FASTGEN_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
#endif
#if defined(__x86_64__)
  fastgen_emulator_change(&from.pointer_, to.pointer_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
  arrived();
}

void Fiber::arrived() {
#if FASTGEN_ASAN
  const void* bottom;
  std::size_t size;
  __sanitizer_finish_switch_fiber(running->fake_stack_, &bottom, &size);
  if (!previous->stack_) {
    previous->bottom_ = bottom;
    previous->size_ = size;
  }
#endif
}

}  // namespace fastgen::emulator
