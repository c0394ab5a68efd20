// Register-only loops that measure the machine's peak rates, the yardstick of the benchmarks.
// Included once per target_*.cpp. Each returns the operations done (a multiply and an add are two).

#if defined(FASTGEN_PRODUCT_AMX)

std::int64_t peak_int8(std::int64_t rounds) {
  const ProductScope scope;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (std::int64_t r = 0; r < rounds; ++r) {
    _tile_dpbusd(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbusd(2, 4, 5);
    _tile_dpbusd(3, 4, 5);
  }
  return rounds * 4 * 16 * 16 * 64 * 2;
}

#elif defined(FASTGEN_PRODUCT_VNNI512)

std::int64_t peak_int8(std::int64_t rounds) {
  __m512i acc[24];
  for (int i = 0; i < 24; ++i) acc[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
  }
  __m512i sum = acc[0];
  for (int i = 1; i < 24; ++i) sum = _mm512_xor_si512(sum, acc[i]);
  volatile int sink = _mm512_reduce_add_epi32(sum);
  (void)sink;
  return rounds * 24 * 64 * 2;
}

#elif defined(FASTGEN_VECTOR_AVX2) || defined(FASTGEN_VECTOR_SSE2)

std::int64_t peak_int8(std::int64_t rounds) {
  constexpr int kChains = 12;
  Ints acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = splat_ints(i);
  Ints a = splat_ints(0x00030005);
  const Ints b = splat_ints(0x00070002);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      __asm__ volatile("" : "+x"(a));  // the product is new every time
      acc[i] = add(acc[i], multiply_pairs(a, b));
    }
  }
  for (int i = 1; i < kChains; ++i) acc[0] = add(acc[0], acc[i]);
  std::int32_t kept[kLanes];
  store(kept, acc[0]);
  volatile std::int32_t sink = kept[0];
  (void)sink;
  return rounds * kChains * kLanes * 4;
}

#else

// No instruction to speak of: the micro-kernel itself on operands that stay in L1.
std::int64_t peak_int8(std::int64_t rounds) {
  constexpr int kDepth = 256;
  alignas(64) static const Int8Row rows[kInt8Rows * kDepth] = {};
  alignas(64) static const Int8Column panel[kInt8Panel * kDepth] = {};
  alignas(64) std::int32_t out[kInt8Rows * kInt8Panel] = {};
  for (std::int64_t r = 0; r < rounds; ++r) {
    multiply_int8(rows, kDepth, panel, kDepth, nullptr, out);
    __asm__ volatile("" : : "r"(out) : "memory");
  }
  return rounds * 2 * kInt8Rows * kInt8Panel * kDepth;
}

#endif

std::int64_t peak_float(std::int64_t rounds) {
  constexpr int kChains = kFloatRows * kFloatVectors;
  Floats acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = splat(static_cast<float>(i));
  const Floats a = splat(0.5f), b = splat(1.0f);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) acc[i] = multiply_add(acc[i], a, b);
  }
  Floats sum = acc[0];
  for (int i = 1; i < kChains; ++i) sum = add(sum, acc[i]);
  float kept[kLanes];
  store(kept, sum);
  volatile float sink = kept[0];
  (void)sink;
  return rounds * kChains * kLanes * 2;
}
