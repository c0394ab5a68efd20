// AVX-512 VNNI with AMX tiles for the int8 products (Sapphire Rapids and newer).
#define FASTGEN_TARGET amx
#define FASTGEN_VECTOR_AVX512
#define FASTGEN_PRODUCT_AMX
#include "cpu/kernels-inl.hpp"
