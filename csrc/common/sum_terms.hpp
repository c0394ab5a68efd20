// A kernel in the sum engine's units: what is subtracted from it, how large it may become, and whether
// float32 products tell enough about it. Pure arithmetic on a few numbers of the data.
//
// No standard headers: files compiled once per instruction set include this.
#pragma once

namespace fastgen {

enum class Shape : int { polynomial, gaussian, rational_quadratic, laplacian, energy };

// A simple kernel as the caller gives it; a kernel is a sum of these.
struct KernelTerm {
  Shape shape;
  int degree;          // polynomial
  double scale;        // gamma; or the bandwidth, the length scale
  double coefficient;  // coef0; or alpha
};

// A simple kernel in the engine's units, less h(x) + h(y).
struct SumTerm {
  Shape shape;
  int degree;       // polynomial
  bool less_one;    // h is 1/2: expm1 instead of exp
  double scale;     // of the product, of the squared distance, or of the distance
  double offset;    // polynomial: value at the centre, before the power
  double exponent;  // rational quadratic
};

// The data in the engine's units: z = unit x - centre.
struct SumData {
  double unit;
  double centre_square;   // |centre|^2
  double mean_square;     // of |z|^2, over both sets
  double peak_square[2];  // largest |z|^2 of each set
  double peak_along[2];   // largest |z . centre|
};

SumTerm resolve_term(const KernelTerm& term, const SumData& data);

bool needs_distances(const SumTerm& term);

// Whether squared distances of close pairs have to be recomputed from the rows: where the kernel has
// an edge at 0, or is narrower than what cancels in |x|^2 + |y|^2 - 2 x . y.
bool needs_look(const SumTerm& term, const SumData& data, bool float64);

// Whether float32 products are too coarse, or float32 values could overflow or vanish.
bool needs_float64(const SumTerm& term, const SumData& data);

// Bound on |k(x, y) - h(x) - h(y)| for a row with |z|^2 = square and z . centre = along, and any row of
// the set `other`.
double term_bound(const SumTerm& term, double square, double along, const SumData& data, int other);

// h(x).
double term_shift(const SumTerm& term, double along);

}  // namespace fastgen
