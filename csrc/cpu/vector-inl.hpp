// Vectors of one instruction set: the few operations that the join's epilogues need, for
// AVX-512, AVX2, SSE2 and plain C++. Included once per target_*.cpp, inside its own namespace.
//
// Masks are plain bits, lane 0 lowest, so that code above this file is the same everywhere.

#if defined(FASTGEN_VECTOR_AVX512)

constexpr int kLanes = 16;
using Floats = __m512;
using Ints = __m512i;

inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline Ints load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
inline void store(float* p, Floats a) { _mm512_storeu_ps(p, a); }
inline Floats splat(float a) { return _mm512_set1_ps(a); }
inline Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline unsigned less_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
inline unsigned less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline void add_where(std::int32_t* p, unsigned mask, std::int32_t value) {
  const __m512i old = _mm512_loadu_si512(p);
  _mm512_storeu_si512(
      p, _mm512_mask_add_epi32(old, static_cast<__mmask16>(mask), old, _mm512_set1_epi32(value)));
}
inline std::int32_t sum_where(const std::int32_t* p, unsigned mask) {
  return _mm512_mask_reduce_add_epi32(static_cast<__mmask16>(mask), _mm512_loadu_si512(p));
}

#elif defined(FASTGEN_VECTOR_AVX2)

constexpr int kLanes = 8;
using Floats = __m256;
using Ints = __m256i;

inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline Ints load(const std::int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store(float* p, Floats a) { _mm256_storeu_ps(p, a); }
inline Floats splat(float a) { return _mm256_set1_ps(a); }
inline Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline unsigned less_equal(Floats a, Floats b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
}
inline unsigned less(Floats a, Floats b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}
inline void store(std::int32_t* p, Ints a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a);
}
inline Ints splat_ints(std::int32_t a) { return _mm256_set1_epi32(a); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints load_pairs(const std::int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Ints multiply_pairs(Ints a, Ints b) { return _mm256_madd_epi16(a, b); }
inline __m256i spread_mask(unsigned mask) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits),
                            bits);
}
inline void add_where(std::int32_t* p, unsigned mask, std::int32_t value) {
  store(p, add(load(p), _mm256_and_si256(spread_mask(mask), splat_ints(value))));
}
inline std::int32_t sum_where(const std::int32_t* p, unsigned mask) {
  alignas(32) std::int32_t kept[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(kept),
                     _mm256_and_si256(spread_mask(mask), load(p)));
  std::int32_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += kept[i];
  return sum;
}

#elif defined(FASTGEN_VECTOR_SSE2)

constexpr int kLanes = 4;
using Floats = __m128;
using Ints = __m128i;

inline Floats load(const float* p) { return _mm_loadu_ps(p); }
inline Ints load(const std::int32_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline void store(float* p, Floats a) { _mm_storeu_ps(p, a); }
inline Floats splat(float a) { return _mm_set1_ps(a); }
inline Floats to_floats(Ints a) { return _mm_cvtepi32_ps(a); }
inline Floats add(Floats a, Floats b) { return _mm_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm_mul_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm_max_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline Floats subtract(Floats a, Floats b) { return _mm_sub_ps(a, b); }
inline unsigned less_equal(Floats a, Floats b) {
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmple_ps(a, b)));
}
inline unsigned less(Floats a, Floats b) {
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmplt_ps(a, b)));
}
inline void store(std::int32_t* p, Ints a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a); }
inline Ints splat_ints(std::int32_t a) { return _mm_set1_epi32(a); }
inline Ints add(Ints a, Ints b) { return _mm_add_epi32(a, b); }
inline Ints load_pairs(const std::int16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline Ints multiply_pairs(Ints a, Ints b) { return _mm_madd_epi16(a, b); }
inline __m128i spread_mask(unsigned mask) {
  const __m128i bits = _mm_setr_epi32(1, 2, 4, 8);
  return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(mask)), bits), bits);
}
inline void add_where(std::int32_t* p, unsigned mask, std::int32_t value) {
  store(p, add(load(p), _mm_and_si128(spread_mask(mask), splat_ints(value))));
}
inline std::int32_t sum_where(const std::int32_t* p, unsigned mask) {
  alignas(16) std::int32_t kept[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(kept), _mm_and_si128(spread_mask(mask), load(p)));
  return kept[0] + kept[1] + kept[2] + kept[3];
}

#else  // plain C++; GCC and Clang turn the loops into whatever the architecture has

constexpr int kLanes = 8;
struct Floats {
  float v[kLanes];
};
struct Ints {
  std::int32_t v[kLanes];
};

template <class Function>
inline Floats each(Function f) {
  Floats r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f(i);
  return r;
}
template <class Function>
inline unsigned each_bit(Function f) {
  unsigned bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<unsigned>(f(i)) << i;
  return bits;
}
inline Floats load(const float* p) {
  return each([&](int i) { return p[i]; });
}
inline Ints load(const std::int32_t* p) {
  Ints r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = p[i];
  return r;
}
inline void store(float* p, const Floats& a) {
  for (int i = 0; i < kLanes; ++i) p[i] = a.v[i];
}
inline Floats splat(float a) {
  return each([&](int) { return a; });
}
inline Floats to_floats(const Ints& a) {
  return each([&](int i) { return static_cast<float>(a.v[i]); });
}
inline Floats add(const Floats& a, const Floats& b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats mul(const Floats& a, const Floats& b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats max(const Floats& a, const Floats& b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Floats subtract(const Floats& a, const Floats& b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline unsigned less_equal(const Floats& a, const Floats& b) {
  return each_bit([&](int i) { return a.v[i] <= b.v[i]; });
}
inline unsigned less(const Floats& a, const Floats& b) {
  return each_bit([&](int i) { return a.v[i] < b.v[i]; });
}
inline void add_where(std::int32_t* p, unsigned mask, std::int32_t value) {
  for (int i = 0; i < kLanes; ++i) p[i] += (mask >> i & 1u) ? value : 0;
}
inline std::int32_t sum_where(const std::int32_t* p, unsigned mask) {
  std::int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += (mask >> i & 1u) ? p[i] : 0;
  return sum;
}

#endif

constexpr unsigned kAllLanes = (1u << kLanes) - 1u;

// out = lanes of v picked by index; GCC and Clang spell it differently.
template <class Vector, class Index>
inline void shuffle(const Vector& v, const Index& index, Vector& out) {
#if defined(__clang__)
  for (int l = 0; l < kLanes; ++l) out[l] = v[index[l]];
#else
  out = __builtin_shuffle(v, index);
#endif
}
