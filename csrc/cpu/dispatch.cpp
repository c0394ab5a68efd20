#include "cpu/dispatch.hpp"

#include <stdexcept>

#if defined(FASTGEN_HAVE_AMX) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastgen::cpu {

#if defined(FASTGEN_HAVE_AMX)
namespace amx {
const Kernels& kernels();
}
#endif
#if defined(FASTGEN_HAVE_AVX512VNNI)
namespace avx512vnni {
const Kernels& kernels();
}
#endif
#if defined(FASTGEN_HAVE_AVX2)
namespace avx2 {
const Kernels& kernels();
}
#endif
#if defined(FASTGEN_HAVE_BASELINE)
namespace baseline {
const Kernels& kernels();
}
#endif
namespace portable {
const Kernels& kernels();
}

namespace {

#if defined(FASTGEN_HAVE_AVX512VNNI) || defined(FASTGEN_HAVE_AMX)
bool has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(FASTGEN_HAVE_AMX)
// The CPU has the tiles and Linux grants this process their 8 KB of state (asked for once).
bool has_amx() {
#if defined(__linux__)
  static const bool granted = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;  // CPUID leaf 7, EDX
    if (!has_avx512vnni() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
    if ((edx & kTile) == 0 || (edx & kInt8) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return granted;
#else
  return false;
#endif
}
#endif

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> tables;
#if defined(FASTGEN_HAVE_AMX)
  if (has_amx()) tables.push_back(&amx::kernels());
#endif
#if defined(FASTGEN_HAVE_AVX512VNNI)
  if (has_avx512vnni()) tables.push_back(&avx512vnni::kernels());
#endif
#if defined(FASTGEN_HAVE_AVX2)
  // Every CPU with AVX2 has F16C; FMA is asked for because one line of CPUs lacked it.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables.push_back(&avx2::kernels());
  }
#endif
#if defined(FASTGEN_HAVE_BASELINE)
  tables.push_back(&baseline::kernels());
#endif
  tables.push_back(&portable::kernels());
  return tables;
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* table : available()) names.emplace_back(table->name);
  return names;
}

const Kernels& select_kernels(const std::string& name) {
  for (const Kernels* table : available()) {
    if (name == table->name) return *table;
  }
  throw std::invalid_argument("instruction set not available on this CPU: " + name);
}

}  // namespace fastgen::cpu
