// Marks small inline functions that the CPU's code and kernels share.
#pragma once

#if defined(__CUDACC__)
#define FASTGEN_HOST_DEVICE __host__ __device__
#else
#define FASTGEN_HOST_DEVICE
#endif
