// A set's terms in a join (common/certificate.hpp), made on the device part by part.
#pragma once

#include <cstdint>

#include "cuda/certificate.cuh"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// Where the terms of one set go, by slot; SideView says what they are.
struct SideTerms {
  float *scale, *magnitude, *error, *low, *high;
  double *square, *quantised_square, *slack;
  float* direct;
};

// The slots [begin, end) of a part and its padding up to the next multiple of kTileRows.
struct PartSlots {
  std::int64_t begin, end;
};

// The offset between the centres of the two parts, in the join's units; device pointers.
struct OffsetView {
  double norm;            // |delta|
  double added;           // |delta|^2 on one side, 0 on the other
  double sign;            // 2 or -2; 0: there is no offset
  const double* delta;    // [d]
  const double* rotated;  // [depth]
  const double* centre;   // of the part, [d]
};

// Terms for int8 products or fine ones; `factor` takes the set's units to the join's, `unit` the rows' own.
void launch_terms(const PreparedView& set, const PartSlots& part, Product product, double factor,
                  double unit, const OffsetView& offset, const SideTerms& terms,
                  const Stream& stream);
// Rows as float32 about `centre` ([d], on the device), and their errors.
void launch_direct_rows(const PreparedView& set, const PartSlots& part, double unit,
                        const double* centre, const SideTerms& terms, const Stream& stream);

}  // namespace fastgen::cuda
