// Vectors of either precision with ordinary operators, and the elementary functions that kernels are
// made of. Included once per target_*.cpp, inside its own namespace, after rows-inl.hpp.

typedef double WideLanes __attribute__((vector_size(4 * kLanes)));
typedef std::int64_t WideLaneInts __attribute__((vector_size(4 * kLanes)));

inline void fuse(const Lanes& a, const Lanes& b, const Lanes& c, Lanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_fmadd_ps(a, b, c);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_fmadd_ps(a, b, c);
#else
  out = a * b + c;
#endif
}
inline void fuse(const WideLanes& a, const WideLanes& b, const WideLanes& c, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_fmadd_pd(a, b, c);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_fmadd_pd(a, b, c);
#else
  out = a * b + c;
#endif
}
// The larger and the smaller of two, lane by lane.
inline void larger(const Lanes& a, const Lanes& b, Lanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_max_ps(a, b);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_max_ps(a, b);
#else
  out = a < b ? b : a;
#endif
}
inline void larger(const WideLanes& a, const WideLanes& b, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_max_pd(a, b);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_max_pd(a, b);
#else
  out = a < b ? b : a;
#endif
}
inline void smaller(const WideLanes& a, const WideLanes& b, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_min_pd(a, b);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_min_pd(a, b);
#else
  out = b < a ? b : a;
#endif
}
// Adding a number to zeros would cost an addition: 0 + x is not x for every x.
inline void repeat(float a, Lanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_set1_ps(a);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_set1_ps(a);
#else
  for (int l = 0; l < kLanes; ++l) out[l] = a;
#endif
}
inline void repeat(double a, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_set1_pd(a);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_set1_pd(a);
#else
  for (int l = 0; l < kLanes / 2; ++l) out[l] = a;
#endif
}
inline void root(const Lanes& a, Lanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_sqrt_ps(a);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_sqrt_ps(a);
#elif defined(FASTGEN_VECTOR_SSE2)
  out = _mm_sqrt_ps(a);
#else
  for (int l = 0; l < kLanes; ++l) out[l] = __builtin_sqrtf(a[l]);
#endif
}
inline void root(const WideLanes& a, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_sqrt_pd(a);
#elif defined(FASTGEN_VECTOR_AVX2)
  out = _mm256_sqrt_pd(a);
#elif defined(FASTGEN_VECTOR_SSE2)
  out = _mm_sqrt_pd(a);
#else
  for (int l = 0; l < kLanes / 2; ++l) out[l] = __builtin_sqrt(a[l]);
#endif
}

template <class Real>
struct Vectors;

template <>
struct Vectors<float> {
  using V = Lanes;
  using Ints = LaneInts;
  using Int = std::int32_t;
  static constexpr int kCount = kLanes;
  static constexpr int kFraction = 23;
  static constexpr Int kBias = 127;
  // Adding and taking away 1.5 * 2^23 rounds to an integer.
  static constexpr float kRound = 12582912.0f;
  // ln 2 in two parts: n times the first is exact.
  static constexpr float kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;
  static constexpr float kLowest = -87.0f;  // exp of it is a normal number
  // Terms of the series below: the next is under 2^-26 of the sum.
  static constexpr int kExpTerms = 6, kLogTerms = 4;
};

template <>
struct Vectors<double> {
  using V = WideLanes;
  using Ints = WideLaneInts;
  using Int = std::int64_t;
  static constexpr int kCount = kLanes / 2;
  static constexpr int kFraction = 52;
  static constexpr Int kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kLowest = -708.0;
  static constexpr int kExpTerms = 12, kLogTerms = 11;  // under 2^-55
};

template <class Real>
using Vector = typename Vectors<Real>::V;

template <class Real>
inline void load_lanes(const Real* p, Vector<Real>& out) {
  __builtin_memcpy(&out, p, sizeof(out));
}
template <class Real>
inline void store_lanes(Real* p, const Vector<Real>& v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

// 1/2!, 1/3!, ... and 2/3, 2/5, 2/7, ...
template <class Real>
struct Series {
  Real factorial[13], odd[12];
  constexpr Series() : factorial(), odd() {
    double product = 1;
    for (int i = 0; i < 13; ++i) {
      product *= i + 2;
      factorial[i] = static_cast<Real>(1 / product);
    }
    for (int i = 0; i < 12; ++i) odd[i] = static_cast<Real>(2.0 / (2 * i + 3));
  }
};
template <class Real>
constexpr Series<Real> kSeries;

// exp(y), or expm1(y), for y <= 0: 2^n (1 + f) with f = expm1(y - n ln 2), |y - n ln 2| <= ln(2) / 2.
// Largest errors seen (test_maps.cpp), in units in the last place: exp 1.1, expm1 1.2.
template <class Real>
inline void exponential(const Vector<Real>& argument, bool less_one, Vector<Real>& out) {
  using T = Vectors<Real>;
  using V = Vector<Real>;
  const V lowest = V{} + T::kLowest, shift = V{} + T::kRound;
  const V y = argument < lowest ? lowest : argument;
  V shifted, r, series;
  fuse(y, V{} + static_cast<Real>(1.4426950408889634), shift, shifted);
  const V n = shifted - shift;
  fuse(n, V{} - T::kLn2High, y, r);
  fuse(n, V{} - T::kLn2Low, r, r);
  series = V{} + kSeries<Real>.factorial[T::kExpTerms - 1];
#pragma GCC unroll 12
  for (int i = T::kExpTerms - 2; i >= 0; --i) {
    fuse(series, r, V{} + kSeries<Real>.factorial[i], series);
  }
  V f;
  fuse(series, r * r, r, f);
  const typename T::Ints bits = ((typename T::Ints)shifted - (typename T::Ints)shift + T::kBias)
                                << T::kFraction;
  const V power = (V)bits;
  fuse(power, f, less_one ? power - Real(1) : power, out);
}

// log(1 + t) for t >= 0: 1 + t = 2^e m with m in [sqrt(1/2), sqrt(2)), log m by the series of atanh;
// what the addition 1 + t rounds off is put back. Largest error seen: 2.8 units in the last place.
template <class Real>
inline void log_one_plus(const Vector<Real>& t, Vector<Real>& out) {
  using T = Vectors<Real>;
  using V = Vector<Real>;
  using Ints = typename T::Ints;
  const V u = t + Real(1);
  const V lost = (t - (u - Real(1))) / u;
  const Ints bits = (Ints)u;
  const Ints root_half = (Ints)(V{} + static_cast<Real>(0.70710678118654752));
  const Ints e = (bits - root_half) >> T::kFraction;
  const V m = (V)(bits - (e << T::kFraction));
  const V exponent = __builtin_convertvector(e, V);
  const V f = m - Real(1), s = f / (f + Real(2)), z = s * s;
  V series = V{} + kSeries<Real>.odd[T::kLogTerms - 1];
#pragma GCC unroll 11
  for (int i = T::kLogTerms - 2; i >= 0; --i) {
    fuse(series, z, V{} + kSeries<Real>.odd[i], series);
  }
  V log_m, low;
  fuse(series * z, s, s + s, log_m);
  fuse(exponent, V{} + T::kLn2Low, lost, low);
  fuse(exponent, V{} + T::kLn2High, log_m + low, out);
}
