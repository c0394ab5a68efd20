// AVX-512 with VNNI (Ice Lake, Zen 4 and newer).
#define FASTGEN_TARGET avx512vnni
#define FASTGEN_VECTOR_AVX512
#define FASTGEN_PRODUCT_VNNI512
#include "cpu/kernels-inl.hpp"
