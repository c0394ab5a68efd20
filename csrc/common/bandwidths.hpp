// Bandwidths as rates: the kernel exp(-|x - y|^2 / 2 h^2) is 2^(-rate |z - w|^2) for z = unit x.
#pragma once

#include <vector>

#include "common/rates.hpp"

namespace fastgen {

// Beyond this rate a bandwidth is too narrow for the rows: exponents would leave float64.
constexpr double kFastestRate = 0x1p990;

// Rates of bandwidths in descending order: they ascend.
std::vector<double> rates_of(const std::vector<double>& bandwidths, double unit);

// Rates that double from one to the next share a group, up to kChain of them.
std::vector<RateGroup> group_rates(const std::vector<double>& rates);

}  // namespace fastgen
