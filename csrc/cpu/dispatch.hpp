// Chooses the kernels of one instruction set, once per call and above every loop.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.hpp"

namespace fastgen::cpu {

// Names of the instruction sets compiled in that this CPU can run, best first.
std::vector<std::string> instruction_sets();

// The table of `name`; throws std::invalid_argument for one that is not available here.
const Kernels& select_kernels(const std::string& name);

}  // namespace fastgen::cpu
