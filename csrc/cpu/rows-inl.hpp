// Work on single rows: conversion, the canonical distance, hashing, and the path to int8 (centre,
// rotate, quantise). Plain loops that the compiler vectorises for its target; included once per
// target_*.cpp, inside its own namespace, compiled with -ffp-contract=off.

// IEEE half to float, exact: shift the exponent, and let a subtraction normalise subnormals.
inline float half_to_float(std::uint16_t half) {
#if defined(FASTGEN_VECTOR_AVX512) || defined(FASTGEN_VECTOR_AVX2)
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  std::uint32_t bits = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  const std::uint32_t exponent = bits & (0x1fu << 23);
  bits += (127u - 15u) << 23;
  float value;
  if (exponent == 0x1fu << 23) {
    bits += (255u - 31u - (127u - 15u)) << 23;
    __builtin_memcpy(&value, &bits, 4);
  } else if (exponent == 0) {
    bits += 1u << 23;
    __builtin_memcpy(&value, &bits, 4);
    value -= 6.103515625e-05f;  // 2^-14
  } else {
    __builtin_memcpy(&value, &bits, 4);
  }
  __builtin_memcpy(&bits, &value, 4);
  bits |= sign;
  __builtin_memcpy(&value, &bits, 4);
  return value;
#endif
}

// Eight doubles; the compiler splits them into what the target has.
typedef double Doubles __attribute__((vector_size(64)));
typedef float HalfWidth __attribute__((vector_size(32)));

inline double widen(double value) { return value; }
inline double widen(float value) { return static_cast<double>(value); }
inline double widen(std::uint16_t half) { return static_cast<double>(half_to_float(half)); }

inline void widen8(const double* p, Doubles& out) { __builtin_memcpy(&out, p, 64); }
inline void widen8(const float* p, Doubles& out) {
  HalfWidth narrow;
  __builtin_memcpy(&narrow, p, 32);
  out = __builtin_convertvector(narrow, Doubles);
}
inline void widen8(const std::uint16_t* p, Doubles& out) {
#if defined(FASTGEN_VECTOR_AVX512) || defined(FASTGEN_VECTOR_AVX2)
  const __m256 narrow = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  out = __builtin_convertvector(reinterpret_cast<const HalfWidth&>(narrow), Doubles);
#else
  for (int l = 0; l < 8; ++l) out[l] = widen(p[l]);
#endif
}

// Calls f with the row as a pointer of its own type.
template <class Function>
inline auto with_type(const void* row, DType dtype, Function f) {
  if (dtype == DType::float32) return f(static_cast<const float*>(row));
  if (dtype == DType::float64) return f(static_cast<const double*>(row));
  return f(static_cast<const std::uint16_t*>(row));
}

void to_double(const void* row, DType dtype, std::int64_t d, double* out) {
  with_type(row, dtype, [&](const auto* x) {
    for (std::int64_t i = 0; i < d; ++i) out[i] = widen(x[i]);
  });
}

// Lane l adds the squares of features l, l + 32, ...; then a fixed tree over the 32 lanes.
// Every operation is rounded to nearest on its own, so all instruction sets agree to the last bit.
double sq_distance(const double* x, const void* y_row, DType dtype, std::int64_t d) {
  return with_type(y_row, dtype, [&](const auto* y) {
    Doubles sum[4] = {};
    std::int64_t i = 0;
    for (; i + 32 <= d; i += 32) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        Doubles a, b;
        widen8(x + i + 8 * v, a);
        widen8(y + i + 8 * v, b);
        const Doubles t = a - b;
        sum[v] += t * t;
      }
    }
    alignas(64) double lane[32];
    __builtin_memcpy(lane, sum, sizeof(lane));
    for (int l = 0; i + l < d; ++l) {
      const double t = x[i + l] - widen(y[i + l]);
      lane[l] += t * t;
    }
    for (int width = 16; width >= 1; width /= 2) {
      for (int l = 0; l < width; ++l) lane[l] += lane[l + width];
    }
    return lane[0];
  });
}

double centred_dot(const double* x, const double* centre, const double* y, std::int64_t d) {
  double lane[16] = {};
  std::int64_t i = 0;
  for (; i + 16 <= d; i += 16) {
    for (int l = 0; l < 16; ++l) lane[l] += (x[i + l] - centre[i + l]) * y[i + l];
  }
  for (int l = 0; i + l < d; ++l) lane[l] += (x[i + l] - centre[i + l]) * y[i + l];
  double sum = 0;
  for (int l = 0; l < 16; ++l) sum += lane[l];
  return sum;
}

void centre_to_float(const double* x, const double* centre, double unit, std::int64_t d,
                     float* out) {
  for (std::int64_t i = 0; i < d; ++i) out[i] = static_cast<float>((x[i] - centre[i]) * unit);
}

double quantised_dot(const std::uint8_t* q, const double* y, std::int64_t depth) {
  double lane[16] = {};
  for (std::int64_t i = 0; i < depth; i += 16) {
    for (int l = 0; l < 16; ++l)
      lane[l] += static_cast<double>(static_cast<int>(q[i + l]) - 128) * y[i + l];
  }
  double sum = 0;
  for (int l = 0; l < 16; ++l) sum += lane[l];
  return sum;
}

double largest_magnitude(const void* row, DType dtype, std::int64_t d) {
  return with_type(row, dtype, [&](const auto* x) {
    // 0 * x is NaN for infinities and NaN, and a NaN survives every addition.
    Doubles high = {}, low = {}, bad = {};
    std::int64_t i = 0;
    for (; i + 8 <= d; i += 8) {
      Doubles value;
      widen8(x + i, value);
      high = value > high ? value : high;
      low = value < low ? value : low;
      bad += value * 0.0;
    }
    double largest = 0, sum = 0;
    for (int l = 0; l < 8; ++l) {
      largest = largest > high[l] ? largest : high[l];
      largest = largest > -low[l] ? largest : -low[l];
      sum += bad[l];
    }
    for (; i < d; ++i) {
      const double value = widen(x[i]), size = value < 0 ? -value : value;
      largest = largest > size ? largest : size;
      sum += value * 0.0;
    }
    return sum == 0.0 ? largest : sum;
  });
}

// Bits of a value with -0 folded into +0, so that equal rows hash alike.
inline std::uint64_t value_bits(double value) {
  value += 0.0;
  std::uint64_t bits;
  __builtin_memcpy(&bits, &value, 8);
  return bits;
}

std::uint64_t scan_row(const void* row, DType dtype, std::int64_t d, double* sum, double* low,
                       double* high) {
  return with_type(row, dtype, [&](const auto* x) {
    for (std::int64_t i = 0; i < d; ++i) {
      const double value = widen(x[i]);
      sum[i] += value;
      low[i] = low[i] < value ? low[i] : value;
      high[i] = high[i] > value ? high[i] : value;
    }
    // Eight independent multiply-xor chains; equality is checked afterwards, so a collision costs
    // only time.
    std::uint64_t lane[8];
    for (int l = 0; l < 8; ++l) lane[l] = 0x9e3779b97f4a7c15ull * static_cast<std::uint64_t>(l + 1);
    std::int64_t i = 0;
    for (; i + 8 <= d; i += 8) {
      for (int l = 0; l < 8; ++l) {
        lane[l] = (lane[l] ^ value_bits(widen(x[i + l]))) * 0x9fb21c651e98df25ull;
        lane[l] ^= lane[l] >> 29;
      }
    }
    for (int l = 0; i + l < d; ++l) {
      lane[l] = (lane[l] ^ value_bits(widen(x[i + l])) ^ 1u) * 0x9fb21c651e98df25ull;
      lane[l] ^= lane[l] >> 29;
    }
    std::uint64_t hash = static_cast<std::uint64_t>(d);
    for (int l = 0; l < 8; ++l) {
      hash = (hash ^ lane[l]) * 0xd6e8feb86659fd93ull;
      hash ^= hash >> 32;
    }
    return hash;
  });
}

bool equal_rows(const void* a, const void* b, DType dtype, std::int64_t d) {
  return with_type(a, dtype, [&](const auto* x) {
    const auto* y = static_cast<decltype(x)>(b);
    for (std::int64_t i = 0; i < d; ++i) {
      if (widen(x[i]) != widen(y[i])) return false;
    }
    return true;
  });
}

typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t LaneInts __attribute__((vector_size(4 * kLanes)));
constexpr int kLaneStages = __builtin_ctz(kLanes);
typedef std::uint8_t LaneBytes __attribute__((vector_size(kLanes)));

// Partners and signs of the butterflies between the lanes of one vector, by stage.
struct LaneButterflies {
  alignas(64) std::int32_t partner[4][kLanes];
  alignas(64) float sign[4][kLanes];
  constexpr LaneButterflies() : partner(), sign() {
    for (int stage = 0; stage < kLaneStages; ++stage) {
      for (int l = 0; l < kLanes; ++l) {
        partner[stage][l] = l ^ (1 << stage);
        sign[stage][l] = (l >> stage & 1) ? -1.0f : 1.0f;
      }
    }
  }
};
constexpr LaneButterflies kButterflies;

inline void butterfly_lanes(float* z) {
  Lanes v;
  __builtin_memcpy(&v, z, sizeof(v));
#pragma GCC unroll 4
  for (int stage = 0; stage < kLaneStages; ++stage) {
    LaneInts partner;
    Lanes sign, swapped;
    __builtin_memcpy(&partner, kButterflies.partner[stage], sizeof(partner));
    __builtin_memcpy(&sign, kButterflies.sign[stage], sizeof(sign));
    shuffle(v, partner, swapped);
    v = v * sign + swapped;
  }
  __builtin_memcpy(z, &v, sizeof(v));
}

// In-place Walsh-Hadamard transform of one block, unnormalised (the signs carry 1 / sqrt(block)).
// Two stages at a time: the block is in L1 and loads are what it costs.
inline void walsh_hadamard(float* z, std::int64_t block) {
  for (std::int64_t i = 0; i < block; i += kLanes) butterfly_lanes(z + i);
  std::int64_t width = kLanes;
  for (; 4 * width <= block; width *= 4) {
    for (std::int64_t start = 0; start < block; start += 4 * width) {
      float* __restrict a = z + start;
      float* __restrict b = a + width;
      float* __restrict c = b + width;
      float* __restrict e = c + width;
      for (std::int64_t i = 0; i < width; ++i) {
        const float ab = a[i] + b[i], a_b = a[i] - b[i], ce = c[i] + e[i], c_e = c[i] - e[i];
        a[i] = ab + ce;
        b[i] = a_b + c_e;
        c[i] = ab - ce;
        e[i] = a_b - c_e;
      }
    }
  }
  if (width < block) {
    float* __restrict a = z;
    float* __restrict b = z + width;
    for (std::int64_t i = 0; i < width; ++i) {
      const float u = a[i], v = b[i];
      a[i] = u + v;
      b[i] = u - v;
    }
  }
}

// Sum of squared residuals of z quantised with step s, in kLanes partial float32 sums.
inline float sq_residual(const float* z, std::int64_t depth, float step, std::uint8_t* q) {
  const Lanes inverse = Lanes{} + 1.0f / step, high = Lanes{} + 127.0f, low = -high;
  // Adding 1.5 * 2^23 rounds to nearest: |level| < 2^22.
  const Lanes shift = Lanes{} + 12582912.0f;
  Lanes sum = {};
  for (std::int64_t i = 0; i < depth; i += kLanes) {
    Lanes value;
    __builtin_memcpy(&value, z + i, sizeof(value));
    Lanes level = value * inverse;
    level = level > high ? high : level;
    level = level < low ? low : level;
    level = (level + shift) - shift;
    const Lanes residual = value - level * step;
    sum += residual * residual;
    if (q) {
      const LaneBytes bytes =
          __builtin_convertvector(__builtin_convertvector(level, LaneInts) + 128, LaneBytes);
      __builtin_memcpy(q + i, &bytes, sizeof(bytes));
    }
  }
  float total = 0;
  for (int l = 0; l < kLanes; ++l) total += sum[l];
  return total;
}

inline float largest_of(const float* z, std::int64_t depth) {
  Lanes high = {}, low = {};
  for (std::int64_t i = 0; i < depth; i += kLanes) {
    Lanes value;
    __builtin_memcpy(&value, z + i, sizeof(value));
    high = value > high ? value : high;
    low = value < low ? value : low;
  }
  float largest = 0;
  for (int l = 0; l < kLanes; ++l) {
    largest = largest > high[l] ? largest : high[l];
    largest = largest > -low[l] ? largest : -low[l];
  }
  return largest;
}

void quantise(QuantiseRow* task) {
  const std::int64_t d = task->d, depth = task->depth;
  double* centred = task->centred;
  float* z = task->rotated;
  with_type(task->row, task->dtype, [&](const auto* x) {
    Doubles square[2] = {};
    std::int64_t i = 0;
    for (; i + 16 <= d; i += 16) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        Doubles value, centre;
        widen8(x + i + 8 * v, value);
        widen8(task->centre + i + 8 * v, centre);
        value = (value - centre) * task->unit;
        square[v] += value * value;
        __builtin_memcpy(centred + i + 8 * v, &value, 64);
      }
    }
    task->square = 0;
    for (int l = 0; l < 8; ++l) task->square += square[0][l] + square[1][l];
    for (; i < d; ++i) {
      centred[i] = (widen(x[i]) - task->centre[i]) * task->unit;
      task->square += centred[i] * centred[i];
    }
  });

  if (task->source) {
    for (std::int64_t j = 0; j < depth; ++j) {
      const std::int32_t from = task->source[j];
      z[j] = from < 0 ? 0.0f : static_cast<float>(centred[from]) * task->signs[j];
    }
  } else {
    for (std::int64_t j = 0; j < d; ++j) z[j] = static_cast<float>(centred[j]) * task->signs[j];
    for (std::int64_t j = d; j < depth; ++j) z[j] = 0.0f;
  }
  for (std::int64_t start = 0; start < depth; start += task->block) {
    walsh_hadamard(z + start, task->block);
  }
  const float largest = largest_of(z, depth);
  const double norm = __builtin_sqrt(task->square);
  // Rows below 2^-20 (2^-60 of the largest) stay out of float32's subnormals.
  if (!(norm >= 0x1p-20) || !(largest >= 0x1p-40f)) {
    for (std::int64_t j = 0; j < depth; ++j) task->quantised[j] = 128;
    task->scale = task->magnitude = 0.0;
    task->error = norm * (1 + 0x1p-20);
    return;
  }
  // Rotated features are close to normal, and their largest within 4.2 standard deviations nearly
  // always; the full range is best then. Else clipping a few may cost less than a coarser step.
  float best = largest / 127.0f;
  if (static_cast<double>(largest) * __builtin_sqrt(static_cast<double>(depth)) > 4.2 * norm) {
    float least = sq_residual(z, depth, best, nullptr);
    constexpr float kClips[] = {0.85f, 0.7f, 0.55f, 0.4f, 0.3f};
    for (const float clip : kClips) {
      const float step = largest * clip / 127.0f;
      const float residual = sq_residual(z, depth, step, nullptr);
      if (residual < least) {
        best = step;
        least = residual;
      }
    }
  }
  const float residual = sq_residual(z, depth, best, task->quantised);
  std::int64_t levels = 0;
  for (std::int64_t j = 0; j < depth; ++j) {
    const int level = static_cast<int>(task->quantised[j]) - 128;
    levels += level * level;
  }
  task->scale = static_cast<double>(best);
  task->magnitude = task->scale * __builtin_sqrt(static_cast<double>(levels)) * (1 + 0x1p-50);
  // First the partial float32 sums above: depth / kLanes additions, kLanes more, and the squares. Then the
  // rounding of the centred value, the sign, up to 17 butterfly stages and the residual itself, each
  // at most 2^-24 of the row in norm.
  const double summing = 1 + static_cast<double>(depth / kLanes + kLanes + 8) * 0x1p-24;
  task->error = __builtin_sqrt(static_cast<double>(residual)) * summing + 0x1p-19 * norm;
}
