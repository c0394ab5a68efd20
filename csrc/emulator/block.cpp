// Threads that take turns, warps and barriers.
#include "emulator/block.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "emulator/block_state.hpp"
#include "emulator/races.hpp"

namespace fastgen::emulator {

State& state = *new State;

namespace {

void set_ready(int warp, std::uint32_t lanes) {
  state.warps[warp].ready |= lanes;
  if (lanes) state.ready_warps |= 1u << warp;
}
void unset_ready(int thread) {
  Warp& warp = state.warps[thread / 32];
  warp.ready &= ~(1u << thread % 32);
  if (!warp.ready) state.ready_warps &= ~(1u << thread / 32);
}

void change_to(int to) {
  const int from = static_cast<int>(threadIdx.x);
  unset_ready(to);
  if (to == from) return;
  threadIdx.x = static_cast<unsigned>(to);
  Fiber::change(state.threads[static_cast<std::size_t>(from)]->fiber,
                state.threads[static_cast<std::size_t>(to)]->fiber);
}

int pick_lane(int warp) {
  const std::uint32_t ready = state.warps[warp].ready;
  switch (state.manners.lanes) {
    case 0:
      return warp * 32 + __builtin_ctz(ready);
    case 1:
      return warp * 32 + 31 - __builtin_clz(ready);
    default: {
      const int turn = static_cast<int>(state.dice.below(32));
      const std::uint32_t turned = turn ? ready >> turn | ready << (32 - turn) : ready;
      return warp * 32 + (__builtin_ctz(turned) + turn) % 32;
    }
  }
}

int pick_other_warp() {
  const int turn = static_cast<int>(state.dice.below(32));
  const std::uint32_t ready = state.ready_warps;
  const std::uint32_t turned = turn ? ready >> turn | ready << (32 - turn) : ready;
  return (__builtin_ctz(turned) + turn) % 32;
}

// A thread that can run, preferably of this warp; -1 if there is none.
int pick_thread() {
  const int warp = static_cast<int>(threadIdx.x / 32);
  if (state.warps[warp].ready) return pick_lane(warp);
  if (!state.ready_warps) return -1;
  return pick_lane(pick_other_warp());
}

std::string lanes_text(int warp, std::uint32_t lanes) {
  std::string text;
  int first = -1;
  for (int lane = 0; lane <= 32; ++lane) {
    const bool in = lane < 32 && (lanes >> lane & 1u);
    if (in && first < 0) first = lane;
    if (!in && first >= 0) {
      text += (text.empty() ? "" : ", ") + std::to_string(warp * 32 + first);
      if (lane - 1 > first) text += " to " + std::to_string(warp * 32 + lane - 1);
      first = -1;
    }
  }
  return text;
}

// What everybody waits for.
std::string standstill() {
  std::string text;
  for (int w = 0; w < (state.count + 31) / 32 && text.size() < 600; ++w) {
    const Warp& warp = state.warps[w];
    if (warp.arrived) {
      text +=
          "; threads " + lanes_text(w, warp.arrived) + " wait in " + place(warp.name, warp.site);
    }
    if (warp.barrier) {
      text += "; threads " + lanes_text(w, warp.barrier) + " wait in " +
              place(state.barrier_name, state.barrier_site);
    }
    if (warp.ended) text += "; threads " + lanes_text(w, warp.ended) + " have ended";
  }
  return text;
}

// Unwinds the thread that has failed; the others are given up where they are.
struct Failed {};

// This thread waits for something; returns when it may go on.
void wait() {
  const int next = pick_thread();
  if (next < 0) fault("deadlock%s", standstill().c_str());
  change_to(next);
}

void end_thread() {
  const int thread = static_cast<int>(threadIdx.x);
  Thread& own = *state.threads[threadIdx.x];
  end_copies(own);
  Warp& warp = state.warps[thread / 32];
  warp.ended |= 1u << thread % 32;
  ++state.ended;
  if (warp.arrived || state.barrier_arrived)
    fault("the thread ends before others%s", standstill().c_str());
  if (state.ended == state.count) {
    Fiber::change(own.fiber, state.host);
    return;
  }
  wait();
}

}  // namespace

std::string place(const char* name, const Site& site) {
  return std::string(name) + " at " + (site.file ? site.file : "?") + ":" +
         std::to_string(site.line);
}

void set_error(const char* text) {
  state.error = std::string("kernel ") + state.kernel + ", block " + std::to_string(blockIdx.x) +
                " of " + std::to_string(gridDim.x) + ", thread " + std::to_string(threadIdx.x) +
                ": " + text;
}

void thread_main() {
  Fiber::arrived();
  for (;;) {
    try {
      (*state.body)();
      end_thread();
    } catch (const Failed&) {
    } catch (const std::exception& exception) {
      set_error((std::string("exception: ") + exception.what()).c_str());
    } catch (...) {
      set_error("exception");
    }
    if (!state.error.empty()) Fiber::change(state.threads[threadIdx.x]->fiber, state.host);
  }
}

void run_threads() {
  state.ended = 0;
  state.barrier_arrived = 0;
  state.ready_warps = 0;
  for (int w = 0; w < (state.count + 31) / 32; ++w) {
    state.warps[w] = Warp{};
    const int lanes = state.count - 32 * w;
    set_ready(w, lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1u);
  }
  const int first = pick_lane(pick_other_warp());
  unset_ready(first);
  threadIdx.x = static_cast<unsigned>(first);
  Fiber::change(state.host, state.threads[static_cast<std::size_t>(first)]->fiber);
}

void fault(const char* format, ...) {
  char text[1500];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (!state.running) {
    std::fprintf(stderr, "fastgen emulator: outside of a kernel: %s\n", text);
    std::abort();
  }
  set_error(text);
  throw Failed();
}

void fault_here(const char* text) {
  set_error(text);
  Fiber::change(state.threads[threadIdx.x]->fiber, state.host);
  std::abort();  // nobody comes back
}

bool on_own_stack(const void* address) { return state.threads[threadIdx.x]->fiber.has(address); }

Warp& this_warp() { return state.warps[threadIdx.x / 32]; }

bool arrive(const char* name, Site site, std::uint32_t mask, const void* in, void* out) {
  if (!state.running) fault("%s", name);
  const unsigned lane = threadIdx.x % 32;
  Warp& warp = state.warps[threadIdx.x / 32];
  if (mask != 0xffffffffu)
    fault("%s with mask %08x, not all lanes", place(name, site).c_str(), mask);
  if (warp.arrived == 0) {
    warp.name = name;
    warp.site = site;
    if (warp.ended) fault("%s%s", place(name, site).c_str(), standstill().c_str());
  } else if (warp.site.line != site.line ||
             (warp.name != name && std::strcmp(warp.name, name) != 0) ||
             (warp.site.file != site.file && std::strcmp(warp.site.file, site.file) != 0)) {
    fault("%s, but threads %s of its warp wait in %s", place(name, site).c_str(),
          lanes_text(static_cast<int>(threadIdx.x / 32), warp.arrived).c_str(),
          place(warp.name, warp.site).c_str());
  }
  warp.in[lane] = in;
  warp.out[lane] = out;
  warp.arrived |= 1u << lane;
  if (warp.arrived == 0xffffffffu) return true;
  wait();
  return false;
}

void leave() {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  state.warps[warp].arrived = 0;
  set_ready(warp, ~(1u << thread % 32));
  const int leave_warp = state.manners.leave_warp;
  if (leave_warp && state.dice.below(static_cast<std::uint32_t>(leave_warp)) == 0) {
    set_ready(warp, 1u << thread % 32);
    change_to(pick_lane(pick_other_warp()));
  }
}

int block_barrier(const char* name, Site site, Vote vote, bool value) {
  if (!state.running) fault("%s", name);
  const int thread = static_cast<int>(threadIdx.x);
  if (state.barrier_arrived == 0) {
    state.barrier_name = name;
    state.barrier_site = site;
    state.barrier_votes = 0;
    if (state.ended) fault("%s%s", place(name, site).c_str(), standstill().c_str());
  } else if (state.barrier_site.line != site.line || std::strcmp(state.barrier_name, name) != 0 ||
             std::strcmp(state.barrier_site.file, site.file) != 0) {
    fault("%s, but others wait in %s", place(name, site).c_str(),
          place(state.barrier_name, state.barrier_site).c_str());
  }
  Warp& warp = state.warps[thread / 32];
  state.barrier_votes += value;
  ++state.barrier_arrived;
  if (state.barrier_arrived < state.count) {
    warp.barrier |= 1u << thread % 32;
    wait();
  } else {
    const int votes = state.barrier_votes;
    state.barrier_result = vote == Vote::any   ? votes > 0
                           : vote == Vote::all ? votes == state.count
                                               : votes;
    state.barrier_arrived = 0;
    races::barrier();
    warp.barrier |= 1u << thread % 32;  // any thread may be the next, this one too
    for (int w = 0; w < (state.count + 31) / 32; ++w) {
      set_ready(w, state.warps[w].barrier);
      state.warps[w].barrier = 0;
    }
    change_to(pick_lane(pick_other_warp()));
  }
  return state.barrier_result;
}

void begin_atomic() {
  if (!state.running) fault("an atomic operation");
  const int often = state.manners.preempt;
  if (often && state.dice.below(static_cast<std::uint32_t>(often)) == 0) {
    const int thread = static_cast<int>(threadIdx.x);
    set_ready(thread / 32, 1u << thread % 32);
    change_to(pick_lane(pick_other_warp()));
  }
  races::begin_atomic();
}
void end_atomic() { races::end_atomic(); }

void order_warp() { races::warp_barrier(static_cast<int>(threadIdx.x / 32)); }

}  // namespace fastgen::emulator
