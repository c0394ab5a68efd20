#include "common/bandwidths.hpp"

#include <algorithm>
#include <cmath>

namespace fastgen {

std::vector<double> rates_of(const std::vector<double>& bandwidths, double unit) {
  std::vector<double> rates;
  for (const double h : bandwidths) {
    const double width = h * unit;
    // The least stands for all wider ones: no squared distance, below 2^810 here, comes to more than 2^-150
    // of it, and kNoSample comes to enough.
    rates.push_back(std::max(kHalfLog2E / width / width, 0x1p-960));
  }
  return rates;
}

std::vector<RateGroup> group_rates(const std::vector<double>& rates) {
  // Of a product rate |x - y|^2 up to 60 beyond the anchor, less than the rounding of its sum.
  constexpr double kSame = 0x1p-45;
  std::vector<RateGroup> groups;
  double next = 0;
  for (const double rate : rates) {
    const bool doubled = std::fabs(rate - next) <= kSame * rate;
    if (doubled && groups.back().count < kChain) {
      ++groups.back().count;
    } else {
      groups.push_back({rate, 1});
      next = rate;
    }
    next += next;
  }
  return groups;
}

}  // namespace fastgen
