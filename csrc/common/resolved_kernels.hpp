// The kernels of one run in the sum engine's units, with what their values need and how large they get.
#pragma once

#include <vector>

#include "common/sum_terms.hpp"

namespace fastgen {

// A sum of terms.
struct ResolvedKernel {
  std::vector<SumTerm> terms;
  bool distances = false;  // some term needs squared distances
  bool look = false;       // those of close pairs have to come from the rows

  // Bound on the values for a row of such numbers and any row of the set `other`.
  double largest(double square, double along, const SumData& data, int other) const;
  // The same for any row of a set.
  double largest(const SumData& data, int set, int other) const;
  double shift(double along) const;  // h(x)
};

struct ResolvedKernels {
  std::vector<ResolvedKernel> kernels;
  bool needs_float64 = false;  // float32 products are too coarse for one: to be resolved again
  bool overflow = false;       // some kernel's values may be beyond 2^480: there are no sums
};

ResolvedKernels resolve_kernels(const std::vector<std::vector<KernelTerm>>& kernels,
                                const SumData& data, int sets, bool float64);

}  // namespace fastgen
