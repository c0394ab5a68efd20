// The CUDA language and runtime as kernels and their hosts see it: the toolkit's own, or the host
// emulator's stand-ins of the same names (csrc/emulator).
#pragma once

#if defined(__CUDACC__) || !defined(FASTGEN_EMULATOR)
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "emulator/cuda_runtime.hpp"
#endif
