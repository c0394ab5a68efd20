// Plain C++ for every other architecture, and the scalar check on the rest.
#define FASTGEN_TARGET portable
#include "cpu/kernels-inl.hpp"
