// What every x86-64 CPU has: SSE2.
#define FASTGEN_TARGET baseline
#define FASTGEN_VECTOR_SSE2
#include "cpu/kernels-inl.hpp"
