#include "common/sum_centre.hpp"

#include <algorithm>
#include <cmath>

namespace fastgen {

SumCentre find_centre(const std::vector<double> (&sums)[2], int sets,
                      const std::vector<double>& low, const std::vector<double>& high, double rows,
                      int reach) {
  const std::size_t d = low.size();
  SumCentre centre{std::vector<double>(d), 1.0, false};
  std::vector<double> reaches(d);
  double widest = 0;
  for (std::size_t i = 0; i < d; ++i) {
    const double mean = (sets == 2 ? sums[0][i] + sums[1][i] : sums[0][i]) / rows;
    centre.mean[i] = std::max(low[i], std::min(high[i], mean));  // rounding may lead out
    reaches[i] = std::max(high[i] - centre.mean[i], centre.mean[i] - low[i]);
    widest = std::max(widest, reaches[i]);
  }
  if (widest > 0) {
    double square = 0;
    for (const double r : reaches) square += r / widest * (r / widest);
    int exponent = 0, more = 0;
    std::frexp(widest, &exponent);
    std::frexp(std::sqrt(square), &more);
    centre.unit = std::ldexp(1.0, std::min(reach - exponent - more, 1000));
  }
  // A large constant feature beside small ones, or a spread beyond float32's range.
  centre.float64 = centre.unit > 0x1p100 || centre.unit < 0x1p-100;
  for (const double mean : centre.mean) {
    centre.float64 = centre.float64 || std::fabs(mean) * centre.unit > 0x1p100;
  }
  return centre;
}

}  // namespace fastgen
