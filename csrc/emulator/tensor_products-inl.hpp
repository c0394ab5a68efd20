// Included by tensor_cores.cpp, once for every CPU and once for AVX2, each in a namespace of its
// own: vectors of 8 as GCC makes them of whatever there is.

typedef float Floats __attribute__((vector_size(32)));
typedef std::int32_t Ints __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));
typedef std::int64_t Longs __attribute__((vector_size(64)));
typedef std::int16_t Shorts __attribute__((vector_size(16)));
typedef signed char Bytes __attribute__((vector_size(8)));

// Rows of a (16 of 32 bytes) and columns of b (8 of 32 bytes), from the lanes' words.
struct alignas(32) Operands {
  std::uint32_t a[16][8], b[8][8];
};
inline void gather(const void* const* in, Operands& to) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const Fragments*>(in[lane]);
    const int row = lane / 4, word = lane % 4;
    to.a[row][word] = own.a[0];
    to.a[row + 8][word] = own.a[1];
    to.a[row][word + 4] = own.a[2];
    to.a[row + 8][word + 4] = own.a[3];
    to.b[row][word] = own.b[0];
    to.b[row][word + 4] = own.b[1];
  }
}

// 8 sums of products of pairs: sum[j] += pair[0] b[j][0] + pair[1] b[j][1].
inline Ints pair_products(std::int32_t pair, const std::int32_t* b) {
#if FASTGEN_EMULATOR_VECTORS == 256
  const __m256i columns = _mm256_load_si256(reinterpret_cast<const __m256i*>(b));
  return (Ints)_mm256_madd_epi16(_mm256_set1_epi32(pair), columns);
#elif defined(__SSE2__)
  const __m128i a = _mm_set1_epi32(pair);
  const auto* columns = reinterpret_cast<const __m128i*>(b);
  const __m128i halves[2] = {_mm_madd_epi16(a, columns[0]), _mm_madd_epi16(a, columns[1])};
  Ints products;
  std::memcpy(&products, halves, sizeof(products));
  return products;
#else
  Ints products;
  for (int j = 0; j < 8; ++j) {
    products[j] = static_cast<std::int16_t>(pair) * static_cast<std::int16_t>(b[j]) +
                  (pair >> 16) * (b[j] >> 16);
  }
  return products;
#endif
}

// 32 bytes to 16 bits each.
inline void widen(const std::uint32_t* bytes, std::int32_t* pairs) {
  for (int i = 0; i < 4; ++i) {
    Bytes eight;
    std::memcpy(&eight, bytes + 2 * i, sizeof(eight));
    const Shorts wide = __builtin_convertvector(eight, Shorts);
    std::memcpy(pairs + 4 * i, &wide, sizeof(wide));
  }
}

// The exponent that the tensor core works with; for 0 one so low that it never counts.
constexpr std::int32_t kNothing = -1000;

inline Ints pick(const Ints& mask, const Ints& yes, const Ints& no) {
  return (mask & yes) | (~mask & no);
}
inline Ints bits_of(const Floats& values) {
  Ints bits;
  std::memcpy(&bits, &values, sizeof(bits));
  return bits;
}
inline Floats from_bits(const Ints& bits) {
  Floats values;
  std::memcpy(&values, &bits, sizeof(values));
  return values;
}

// 8 float16 numbers in the low halves; subnormal ones keep the exponent of the least normal number.
inline void unpack(const Ints& halves, Floats& values, Ints& exponents) {
  const Ints magnitude = halves & 0x7fff, field = magnitude >> 10;
  values = from_bits(magnitude << 13) * 0x1p112f;
  values = from_bits(bits_of(values) | (halves & 0x8000) << 16);
  values = from_bits(pick(field == 31, bits_of(values) | 0x7f800000, bits_of(values)));
  exponents = pick(magnitude == 0, Ints{} + kNothing, pick(field == 0, Ints{} - 14, field - 15));
}

struct alignas(32) HalfOperands {
  float a[16][16], b[16][8];  // b: [k][column]
  std::int32_t a_exponent[16][16], b_exponent[16][8];
};

// sums * 2^exponents rounded towards zero; the sums have fewer than 53 bits.
inline Floats truncated(const Doubles& sums, const Ints& exponents) {
  const Longs scale_bits = (__builtin_convertvector(exponents, Longs) + 1023) << 52;
  Doubles scale;
  std::memcpy(&scale, &scale_bits, sizeof(scale));
  const Doubles values = sums * scale;
  const Floats nearest = __builtin_convertvector(values, Floats);
  const Doubles back = __builtin_convertvector(nearest, Doubles);
  const Longs positive = (values > 0) & (back > values), negative = (values < 0) & (back < values);
  const Longs in_range = (values < 0x1p128) & (values > -0x1p128);
  return from_bits(bits_of(nearest) +
                   __builtin_convertvector((positive | negative) & in_range, Ints));
}

// One block of kDepth products and the sum so far, for 8 columns: every addend is cut off at
// kFraction bits behind the largest exponent (of a product: the sum of its factors' exponents),
// they are added exactly, and the sum is cut off to float32. After MMA-Sim (microsoft/MMA-Sim),
// which reports the same bits as the hardware.
template <int kDepth, int kFraction>
void add_block(const HalfOperands& from, int row, int k0, float* sum) {
  Ints largest = Ints{} + kNothing;
  for (int k = k0; k < k0 + kDepth; ++k) {
    Ints exponents;
    std::memcpy(&exponents, from.b_exponent[k], sizeof(exponents));
    exponents += from.a_exponent[row][k];
    largest = pick(exponents > largest, exponents, largest);
  }
  const Ints no_products = largest < -28;  // the sum stays
  Floats before;
  std::memcpy(&before, sum, sizeof(before));
  const Ints field = bits_of(before) >> 23 & 255;
  const Ints own = pick((bits_of(before) & 0x7fffffff) == 0, Ints{} + kNothing,
                        pick(field == 0, Ints{} - 126, field - 127));
  const Ints top = pick(no_products, Ints{}, pick(own > largest, own, largest));
  const Floats scale = from_bits((127 + kFraction - top) << 23);
  Ints total{};  // at most 16 (2 - 2^-10)^2 2^25 < 2^31
  for (int k = k0; k < k0 + kDepth; ++k) {
    Floats b;
    std::memcpy(&b, from.b[k], sizeof(b));
    total += __builtin_convertvector(from.a[row][k] * b * scale, Ints);
  }
  const Floats scaled = from_bits(pick(no_products, Ints{}, bits_of(before * scale)));
  const Ints whole = __builtin_convertvector(scaled, Ints);
  const Floats after =
      truncated(__builtin_convertvector(whole, Doubles) + __builtin_convertvector(total, Doubles),
                top - kFraction);
  const Ints bits = pick(no_products, bits_of(before), bits_of(after));
  std::memcpy(sum, &bits, sizeof(bits));
}

// With infinities or NaNs among the operands.
inline void add_not_finite(const HalfOperands& from, int row, float* sum) {
  for (int j = 0; j < 8; ++j) {
    double total = sum[j];
    for (int k = 0; k < 16; ++k) total += double{from.a[row][k]} * double{from.b[k][j]};
    sum[j] = total != total ? from_bits(Ints{} + 0x7fffffff)[0] : static_cast<float>(total);
  }
}

inline void multiply_int8(const void* const* in, void* const* out) {
  Operands operands;
  gather(in, operands);
  alignas(32) std::int32_t a[16][16], b[8][16], columns[16][8];
  for (int i = 0; i < 16; ++i) widen(operands.a[i], a[i]);
  for (int j = 0; j < 8; ++j) widen(operands.b[j], b[j]);
  for (int j = 0; j < 8; ++j) {
    for (int k = 0; k < 16; ++k) columns[k][j] = b[j][k];
  }
  alignas(32) std::uint32_t products[16][8];
  for (int i = 0; i < 16; ++i) {
    Ints sum{};
    for (int k = 0; k < 16; ++k) sum += pair_products(a[i][k], columns[k]);
    std::memcpy(products[i], &sum, sizeof(sum));
  }
  for (int lane = 0; lane < 32; ++lane) {
    std::int32_t* sum = static_cast<std::int32_t*>(out[lane]);
    for (int i = 0; i < 4; ++i) {
      sum[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum[i]) +
                                         products[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
    }
  }
}

inline void multiply_half(const void* const* in, void* const* out, TensorCores kind) {
  Operands operands;
  gather(in, operands);
  HalfOperands from;
  Ints special{};  // infinities and NaNs
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; k += 8) {
      std::uint16_t halves[8];
      std::memcpy(halves, operands.a[i] + k / 2, sizeof(halves));
      Ints wide;
      for (int j = 0; j < 8; ++j) wide[j] = halves[j];
      Floats values;
      Ints exponents;
      unpack(wide, values, exponents);
      special |= exponents == 16;
      std::memcpy(from.a[i] + k, &values, sizeof(values));
      std::memcpy(from.a_exponent[i] + k, &exponents, sizeof(exponents));
    }
  }
  for (int k = 0; k < 16; ++k) {
    Ints wide;
    for (int j = 0; j < 8; ++j) wide[j] = operands.b[j][k / 2] >> (k % 2 * 16) & 0xffff;
    Floats values;
    Ints exponents;
    unpack(wide, values, exponents);
    special |= exponents == 16;
    std::memcpy(from.b[k], &values, sizeof(values));
    std::memcpy(from.b_exponent[k], &exponents, sizeof(exponents));
  }
  alignas(32) float sums[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const float* sum = static_cast<const float*>(out[lane]);
    for (int i = 0; i < 4; ++i) {
      sums[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = sum[i];
    }
  }
  for (int i = 0; i < 16; ++i) {
    Floats values;
    std::memcpy(&values, sums[i], sizeof(values));
    special |= (bits_of(values) & 0x7f800000) == 0x7f800000;
  }
  bool finite = true;
  for (int j = 0; j < 8; ++j) finite &= special[j] == 0;
  for (int i = 0; i < 16; ++i) {
    if (!finite) {
      add_not_finite(from, i, sums[i]);
    } else if (kind == TensorCores::hopper) {
      add_block<16, 25>(from, i, 0, sums[i]);
    } else {
      add_block<8, 24>(from, i, 0, sums[i]);
      add_block<8, 24>(from, i, 8, sums[i]);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* sum = static_cast<float*>(out[lane]);
    for (int i = 0; i < 4; ++i) sum[i] = sums[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}
