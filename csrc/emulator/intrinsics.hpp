// CUDA's intrinsics and device functions under their own names.
#pragma once

#include <math.h>

#include <cstdint>
#include <type_traits>

#include "emulator/block.hpp"
#include "emulator/language.hpp"

namespace fastgen::emulator {

template <class T, class Source>
inline T shuffled(const char* name, Site site, unsigned mask, T value, int width, Source source) {
  static_assert(
      std::is_trivially_copyable<T>::value && (sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2),
      "as on a device");
  if (width < 1 || width > 32 || (width & (width - 1)))
    fault("%s at %s:%d: width %d", name, site.file, site.line, width);
  T result;
  // Each lane says where it reads from: lanes may differ in that.
  struct Slot {
    T value;
    int from;
  };
  const int lane = static_cast<int>(threadIdx.x % 32);
  const Slot slot{value, source(lane, lane & ~(width - 1), lane | (width - 1))};
  collective(name, site, mask, &slot, &result, [](const void* const* in, void* const* out) {
    for (int i = 0; i < 32; ++i) {
      const int from = static_cast<const Slot*>(in[i])->from;
      *static_cast<T*>(out[i]) = static_cast<const Slot*>(in[from])->value;
    }
  });
  return result;
}

inline unsigned ballot(const char* name, Site site, unsigned mask, bool value) {
  unsigned result;
  collective(name, site, mask, &value, &result, [](const void* const* in, void* const* out) {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= unsigned{*static_cast<const bool*>(in[i])} << i;
    for (int i = 0; i < 32; ++i) *static_cast<unsigned*>(out[i]) = bits;
  });
  return result;
}

template <class T, class Change>
inline T atomic(T* address, Change change) {
  begin_atomic();
  const T before = *address;
  *address = change(before);
  end_atomic();
  return before;
}

}  // namespace fastgen::emulator

// ---- barriers and warps
inline void __syncthreads(FASTGEN_SITE) {
  fastgen::emulator::block_barrier("__syncthreads", site, fastgen::emulator::Vote::none, false);
}
inline int __syncthreads_or(int value, FASTGEN_SITE) {
  return fastgen::emulator::block_barrier("__syncthreads_or", site, fastgen::emulator::Vote::any,
                                          value != 0);
}
inline int __syncthreads_and(int value, FASTGEN_SITE) {
  return fastgen::emulator::block_barrier("__syncthreads_and", site, fastgen::emulator::Vote::all,
                                          value != 0);
}
inline int __syncthreads_count(int value, FASTGEN_SITE) {
  return fastgen::emulator::block_barrier("__syncthreads_count", site,
                                          fastgen::emulator::Vote::count, value != 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, FASTGEN_SITE) {
  fastgen::emulator::collective(
      "__syncwarp", site, mask, nullptr, nullptr,
      [](const void* const*, void* const*) { fastgen::emulator::order_warp(); });
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, FASTGEN_SITE) {
  return fastgen::emulator::shuffled(
      "__shfl_sync", site, mask, value, width,
      [=](int, int first, int) { return first | (source & (width - 1)); });
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, FASTGEN_SITE) {
  return fastgen::emulator::shuffled("__shfl_up_sync", site, mask, value, width,
                                     [=](int lane, int first, int) {
                                       const int from = lane - static_cast<int>(delta & 31);
                                       return from < first ? lane : from;
                                     });
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, FASTGEN_SITE) {
  return fastgen::emulator::shuffled("__shfl_down_sync", site, mask, value, width,
                                     [=](int lane, int, int last) {
                                       const int from = lane + static_cast<int>(delta & 31);
                                       return from > last ? lane : from;
                                     });
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, FASTGEN_SITE) {
  return fastgen::emulator::shuffled("__shfl_xor_sync", site, mask, value, width,
                                     [=](int lane, int, int last) {
                                       const int from = lane ^ (bits & 31);
                                       return from > last ? lane : from;
                                     });
}
inline unsigned __ballot_sync(unsigned mask, int value, FASTGEN_SITE) {
  return fastgen::emulator::ballot("__ballot_sync", site, mask, value != 0);
}
inline int __any_sync(unsigned mask, int value, FASTGEN_SITE) {
  return fastgen::emulator::ballot("__any_sync", site, mask, value != 0) != 0;
}
inline int __all_sync(unsigned mask, int value, FASTGEN_SITE) {
  return fastgen::emulator::ballot("__all_sync", site, mask, value != 0) == 0xffffffffu;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- memory
template <class T>
inline T __ldg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
inline void __stcs(T* address, T value) {
  *address = value;
}

// ---- atomics, for the types that devices have them for
#define FASTGEN_ATOMICS(T)                                                         \
  inline T atomicMin(T* a, T v) {                                                  \
    return fastgen::emulator::atomic(a, [=](T old) { return v < old ? v : old; }); \
  }                                                                                \
  inline T atomicMax(T* a, T v) {                                                  \
    return fastgen::emulator::atomic(a, [=](T old) { return v > old ? v : old; }); \
  }                                                                                \
  inline T atomicAnd(T* a, T v) {                                                  \
    return fastgen::emulator::atomic(a, [=](T old) { return old & v; });           \
  }                                                                                \
  inline T atomicOr(T* a, T v) {                                                   \
    return fastgen::emulator::atomic(a, [=](T old) { return old | v; });           \
  }                                                                                \
  inline T atomicXor(T* a, T v) {                                                  \
    return fastgen::emulator::atomic(a, [=](T old) { return old ^ v; });           \
  }
#define FASTGEN_ATOMICS_2(T)                                                                \
  inline T atomicAdd(T* a, T v) {                                                           \
    using U = std::make_unsigned_t<T>;                                                      \
    return fastgen::emulator::atomic(                                                       \
        a, [=](T old) { return static_cast<T>(static_cast<U>(old) + static_cast<U>(v)); }); \
  }                                                                                         \
  inline T atomicExch(T* a, T v) {                                                          \
    return fastgen::emulator::atomic(a, [=](T) { return v; });                              \
  }                                                                                         \
  inline T atomicCAS(T* a, T expected, T v) {                                               \
    return fastgen::emulator::atomic(a, [=](T old) { return old == expected ? v : old; });  \
  }
FASTGEN_ATOMICS(int)
FASTGEN_ATOMICS(unsigned)
FASTGEN_ATOMICS(long long)
FASTGEN_ATOMICS(unsigned long long)
FASTGEN_ATOMICS_2(int)
FASTGEN_ATOMICS_2(unsigned)
FASTGEN_ATOMICS_2(unsigned long long)
#undef FASTGEN_ATOMICS
#undef FASTGEN_ATOMICS_2
inline int atomicSub(int* a, int v) {
  return fastgen::emulator::atomic(a, [=](int old) {
    return static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(v));
  });
}
inline unsigned atomicSub(unsigned* a, unsigned v) {
  return fastgen::emulator::atomic(a, [=](unsigned old) { return old - v; });
}

// ---- integers
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) {
  return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 |
         __brev(static_cast<unsigned>(x >> 32));
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);
  for (int i = 0; i < 32; i += 8) {
    sum +=
        static_cast<unsigned>(static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i));
  }
  return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
  return c;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned pick = s >> (4 * i) & 15u;
    unsigned byte = static_cast<unsigned>(both >> (8 * (pick & 7u))) & 255u;
    if (pick & 8u) byte = byte & 128u ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(
      ((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
#define FASTGEN_MIN_MAX(A, B, T)                                                          \
  inline T min(A a, B b) {                                                                \
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b); \
  }                                                                                       \
  inline T max(A a, B b) {                                                                \
    return static_cast<T>(a) > static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b); \
  }
FASTGEN_MIN_MAX(int, int, int)
FASTGEN_MIN_MAX(unsigned, unsigned, unsigned)
FASTGEN_MIN_MAX(int, unsigned, unsigned)
FASTGEN_MIN_MAX(unsigned, int, unsigned)
FASTGEN_MIN_MAX(long, long, long)
FASTGEN_MIN_MAX(unsigned long, unsigned long, unsigned long)
FASTGEN_MIN_MAX(long, unsigned long, unsigned long)
FASTGEN_MIN_MAX(unsigned long, long, unsigned long)
FASTGEN_MIN_MAX(long long, long long, long long)
FASTGEN_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
FASTGEN_MIN_MAX(long long, unsigned long long, unsigned long long)
FASTGEN_MIN_MAX(unsigned long long, long long, unsigned long long)
#undef FASTGEN_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }
