// What cuda/gpu.hpp includes instead of the toolkit's <cuda_runtime.h> and <cuda_fp16.h>, so that
// kernels and their hosts compile with a plain C++ compiler and run on the CPU (README.md).
#pragma once

#include <cstdint>
#include <functional>

#include "emulator/arithmetic.hpp"
#include "emulator/block.hpp"
#include "emulator/intrinsics.hpp"
#include "emulator/language.hpp"
#include "emulator/runtime_api.hpp"

namespace fastgen::emulator {

// Puts a kernel into a stream. `body` is one thread's work; it is kept until the kernel runs.
cudaError_t launch(const char* name, std::int64_t blocks, int threads, std::int64_t shared,
                   cudaStream_t stream, std::function<void()> body);

// Bytes of shared memory that a block may have: the 99 KB that every GPU has, or
// FASTGEN_EMULATOR_SHARED (in KB), or what a test sets here; at most 227 KB.
void set_shared_limit(std::int64_t bytes);

// Devices read ordinary host memory themselves, through the host's page tables, and a copy from it is as
// late as one from page-locked memory; FASTGEN_EMULATOR_PAGEABLE_ACCESS at first, no by default.
void set_pageable_access(bool access);

// The order in which threads, blocks and streams go; FASTGEN_EMULATOR_SEED at first, 0 by default.
void set_seed(std::uint64_t seed);

// Float16 products round as Hopper's tensor cores do, or as Ampere's
// (FASTGEN_EMULATOR_TENSOR_CORES=ampere).
enum class TensorCores { hopper, ampere };
void set_tensor_cores(TensorCores kind);

// Forgets failed kernels: a device that has seen one answers everything with its error, as on a
// GPU, where only a new process helps. Queues are emptied; memory stays.
void recover();

}  // namespace fastgen::emulator
