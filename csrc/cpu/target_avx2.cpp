// AVX2, FMA and F16C (Haswell, Zen 1 and newer): 16-bit multiply-add for the int8 path.
#define FASTGEN_TARGET avx2
#define FASTGEN_VECTOR_AVX2
#include "cpu/kernels-inl.hpp"
