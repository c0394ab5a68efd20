// The sum engine's own units: the mean of both sets as the origin, and an exact power of two.
#pragma once

#include <vector>

namespace fastgen {

struct SumCentre {
  std::vector<double> mean;  // [d], within the values of every feature
  double unit;               // brings every |unit (x - mean)| to at most 2^reach
  bool float64;              // float32 has not the range for these rows
};

// From the features' sums over each of `sets` sets, of `rows` rows together, and their extremes.
SumCentre find_centre(const std::vector<double> (&sums)[2], int sets,
                      const std::vector<double>& low, const std::vector<double>& high, double rows,
                      int reach);

}  // namespace fastgen
