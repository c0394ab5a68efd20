#include "common/resolved_kernels.hpp"

#include <cmath>
#include <utility>

namespace fastgen {

namespace {

// Squares of values beyond this would leave float64.
constexpr double kLargestValue = 0x1p480;

}  // namespace

double ResolvedKernel::largest(double square, double along, const SumData& data, int other) const {
  double bound = 0;
  for (const SumTerm& term : terms) bound += term_bound(term, square, along, data, other);
  return bound;
}

double ResolvedKernel::largest(const SumData& data, int set, int other) const {
  return largest(data.peak_square[set], data.peak_along[set], data, other);
}

double ResolvedKernel::shift(double along) const {
  double sum = 0;
  for (const SumTerm& term : terms) sum += term_shift(term, along);
  return sum;
}

ResolvedKernels resolve_kernels(const std::vector<std::vector<KernelTerm>>& kernels,
                                const SumData& data, int sets, bool float64) {
  ResolvedKernels all;
  all.overflow = !std::isfinite(data.mean_square);
  for (const std::vector<KernelTerm>& given : kernels) {
    ResolvedKernel kernel;
    for (const KernelTerm& part : given) {
      const SumTerm term = resolve_term(part, data);
      kernel.terms.push_back(term);
      all.needs_float64 = all.needs_float64 || (!float64 && needs_float64(term, data));
      kernel.distances = kernel.distances || needs_distances(term);
      kernel.look = kernel.look || needs_look(term, data, float64);
    }
    for (int s = 0; s < sets; ++s) {
      for (int t = 0; t < sets; ++t) {
        all.overflow = all.overflow || !(kernel.largest(data, s, t) < kLargestValue);
      }
    }
    all.kernels.push_back(std::move(kernel));
  }
  return all;
}

}  // namespace fastgen
