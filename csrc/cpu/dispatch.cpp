#include "cpu/dispatch.hpp"

#include <stdexcept>

namespace fastgen::cpu {

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

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> tables;
#if defined(FASTGEN_HAVE_AVX512VNNI)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    tables.push_back(&avx512vnni::kernels());
  }
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
