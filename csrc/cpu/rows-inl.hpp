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

inline double widen(double value) { return value; }
inline double widen(float value) { return static_cast<double>(value); }
inline double widen(std::uint16_t half) { return static_cast<double>(half_to_float(half)); }

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
    alignas(64) double lane[32] = {};
    std::int64_t i = 0;
    for (; i + 32 <= d; i += 32) {
      for (int l = 0; l < 32; ++l) {
        const double t = x[i + l] - widen(y[i + l]);
        lane[l] += t * t;
      }
    }
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

void centre_to_float(const double* x, const double* centre, double unit, std::int64_t d, float* out) {
  for (std::int64_t i = 0; i < d; ++i) out[i] = static_cast<float>((x[i] - centre[i]) * unit);
}

double quantised_dot(const std::uint8_t* q, const double* y, std::int64_t depth) {
  double lane[16] = {};
  for (std::int64_t i = 0; i < depth; i += 16) {
    for (int l = 0; l < 16; ++l) lane[l] += static_cast<double>(static_cast<int>(q[i + l]) - 128) * y[i + l];
  }
  double sum = 0;
  for (int l = 0; l < 16; ++l) sum += lane[l];
  return sum;
}

double largest_magnitude(const void* row, DType dtype, std::int64_t d) {
  return with_type(row, dtype, [&](const auto* x) {
    // 0 * x is NaN for infinities and NaN, and a NaN survives every addition.
    double lane[16] = {}, bad[16] = {};
    std::int64_t i = 0;
    for (; i + 16 <= d; i += 16) {
      for (int l = 0; l < 16; ++l) {
        const double value = widen(x[i + l]), size = value < 0 ? -value : value;
        lane[l] = lane[l] > size ? lane[l] : size;
        bad[l] += value * 0.0;
      }
    }
    for (int l = 0; i + l < d; ++l) {
      const double value = widen(x[i + l]), size = value < 0 ? -value : value;
      lane[l] = lane[l] > size ? lane[l] : size;
      bad[l] += value * 0.0;
    }
    double largest = 0;
    for (int l = 0; l < 16; ++l) {
      if (bad[l] != 0.0) return bad[l];
      largest = largest > lane[l] ? largest : lane[l];
    }
    return largest;
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

// In-place Walsh-Hadamard transform of one block, unnormalised (the signs carry 1 / sqrt(block)).
inline void walsh_hadamard(float* z, std::int64_t block) {
  for (std::int64_t width = 1; width < block; width *= 2) {
    if (width >= 16) {
      for (std::int64_t start = 0; start < block; start += 2 * width) {
        float* __restrict a = z + start;
        float* __restrict b = z + start + width;
        for (std::int64_t i = 0; i < width; ++i) {
          const float u = a[i], v = b[i];
          a[i] = u + v;
          b[i] = u - v;
        }
      }
    } else {
      for (std::int64_t start = 0; start < block; start += 2 * width) {
        for (std::int64_t i = start; i < start + width; ++i) {
          const float u = z[i], v = z[i + width];
          z[i] = u + v;
          z[i + width] = u - v;
        }
      }
    }
  }
}

// Sum of squared residuals of z quantised with step s, in 16 partial float32 sums.
inline float sq_residual(const float* z, std::int64_t depth, float step, std::uint8_t* q) {
  const float inverse = 1.0f / step;
  float lane[16] = {};
  for (std::int64_t i = 0; i < depth; i += 16) {
    for (int l = 0; l < 16; ++l) {
      float level = z[i + l] * inverse;
      level = level > 127.0f ? 127.0f : level;
      level = level < -127.0f ? -127.0f : level;
      // Adding 1.5 * 2^23 rounds to nearest: |level| < 2^22.
      const float rounded = (level + 12582912.0f) - 12582912.0f;
      const float residual = z[i + l] - rounded * step;
      lane[l] += residual * residual;
      if (q) q[i + l] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
    }
  }
  float sum = 0;
  for (int l = 0; l < 16; ++l) sum += lane[l];
  return sum;
}

void quantise(QuantiseRow* task) {
  const std::int64_t d = task->d, depth = task->depth;
  double* centred = task->centred;
  float* z = task->rotated;
  with_type(task->row, task->dtype, [&](const auto* x) {
    for (std::int64_t i = 0; i < d; ++i) centred[i] = (widen(x[i]) - task->centre[i]) * task->unit;
  });
  double square[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= d; i += 8) {
    for (int l = 0; l < 8; ++l) square[l] += centred[i + l] * centred[i + l];
  }
  for (int l = 0; i + l < d; ++l) square[l] += centred[i + l] * centred[i + l];
  task->square = 0;
  for (int l = 0; l < 8; ++l) task->square += square[l];

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
  float peak[16] = {};
  for (std::int64_t j = 0; j < depth; j += 16) {
    for (int l = 0; l < 16; ++l) {
      const float size = z[j + l] < 0 ? -z[j + l] : z[j + l];
      peak[l] = peak[l] > size ? peak[l] : size;
    }
  }
  float largest = 0;
  for (int l = 0; l < 16; ++l) largest = largest > peak[l] ? largest : peak[l];

  const double norm = __builtin_sqrt(task->square);
  // Rows below 2^-20 (2^-60 of the largest) stay out of float32's subnormals.
  if (!(norm >= 0x1p-20) || !(largest >= 0x1p-40f)) {
    for (std::int64_t j = 0; j < depth; ++j) task->quantised[j] = 128;
    task->scale = task->magnitude = 0.0;
    task->error = norm * (1 + 0x1p-20);
    return;
  }
  // Rotated features are close to normal: their largest of thousands is 3.5 to 4.5 standard
  // deviations, and clipping a few of them costs less than a coarser step for all.
  constexpr float kClips[] = {1.0f, 0.85f, 0.7f, 0.5f};
  float best = 0.0f, best_residual = 0.0f;
  for (const float clip : kClips) {
    const float step = largest * clip / 127.0f;
    const float residual = sq_residual(z, depth, step, nullptr);
    if (best == 0.0f || residual < best_residual) {
      best = step;
      best_residual = residual;
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
  // First the partial float32 sums above: depth / 16 additions, 16 more, and the squares. Then the
  // rounding of the centred value, the sign, up to 17 butterfly stages and the residual itself, each
  // at most 2^-24 of the row in norm.
  const double summing = 1 + static_cast<double>(depth / 16 + 32) * 0x1p-24;
  task->error = __builtin_sqrt(static_cast<double>(residual)) * summing + 0x1p-19 * norm;
}
