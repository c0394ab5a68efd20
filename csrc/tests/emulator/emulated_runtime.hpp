// What the tests of the emulated runtime share: a kernel, page-locked memory, the texts of errors, and
// processes of their own.
#pragma once

#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <string>

#include "cuda/ptx.cuh"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"

namespace fastgen::test {

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

inline __global__ void add_kernel(int* values, int count, int value) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    values[i] += value;
  }
}

struct Pinned {
  explicit Pinned(int count) {
    cuda::check(cudaHostAlloc(&data, count * sizeof(int), 0), "cudaHostAlloc");
  }
  ~Pinned() { cudaFreeHost(data); }
  int* data = nullptr;
};

inline const char* program = "";  // as it was started

// On two devices of 400 MB, unless the environment asks for another number of them.
inline int run_runtime_tests(std::initializer_list<Test> tests, int argc, char** argv) {
  program = argv[0];
  setenv("FASTGEN_EMULATOR_DEVICES", "2", 0);
  setenv("FASTGEN_EMULATOR_MEMORY", "400000000", 1);
  return run_tests(tests, argc, argv);
}

// True in a process that runs one test alone. Elsewhere starts such a process for `test`, with
// `settings` in its environment, and checks that it succeeds.
inline bool alone(const std::string& test, const std::string& settings = "") {
  if (std::getenv("FASTGEN_TEST_ALONE") != nullptr) return true;
  const std::string command =
      "FASTGEN_TEST_ALONE=1 " + settings + " '" + program + "' " + test + " > /dev/null";
  CHECK_EQUAL(std::system(command.c_str()), 0);
  return false;
}

}  // namespace fastgen::test
