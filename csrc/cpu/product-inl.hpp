// Micro-kernels: a few rows times one packed panel of columns, exact in int32 or in float32 by
// blocks of kFloatDepth features. Included once per target_*.cpp, inside its own namespace.
//
// Stored int8 rows are biased (q + 128), which is what vpdpbusd wants of one operand; packed columns
// are signed, and each panel starts with -128 sum_k q of its columns, from which the accumulators
// start. All arithmetic is modulo 2^32, and |q_x . q_y| < 2^31 for depth <= 133,000, so it is exact.
//
// Cost per 8 x 48 tile on AVX-512: 24 vpdpbusd for 11 loads every 4 features; 28 of 32 registers.

// Features between two visits of the products in memory, so that the rows stay in a 48 KB L1: 32 of
// 1024 for AMX tiles, 8 of 4096 for the rest.
#if defined(FASTGEN_PRODUCT_AMX)
constexpr std::int64_t kInt8Depth = 1024;
#else
constexpr std::int64_t kInt8Depth = 4096;
#endif
// Longest chain of float32 additions; the error bound in bounds.hpp depends on it.
constexpr std::int64_t kFloatDepth = 256;

// ---------------------------------------------------------------------------------------- int8

#if defined(FASTGEN_PRODUCT_AMX)

// Tiles of 16 rows by 64 bytes: 32 x 32 products take four of them, and two each for rows and columns.
// Packed columns have the layout that tdpbusd wants of its second operand.
constexpr int kInt8Rows = 32;
constexpr int kInt8Panel = 32;
constexpr int kInt8Group = 4;
using Int8Row = std::uint8_t;
using Int8Column = std::int8_t;

// Palette 1, eight tiles of 16 rows by 64 bytes: row sizes from byte 16 (16-bit), rows from byte 48.
// A constant, since GCC 12 takes _tile_loadconfig to read 8 bytes and drops stores to the rest.
struct TileConfig {
  alignas(64) std::uint8_t bytes[64];
  constexpr TileConfig() : bytes() {
    bytes[0] = 1;
    for (int tile = 0; tile < 8; ++tile) {
      bytes[16 + 2 * tile] = 64;
      bytes[48 + tile] = 16;
    }
  }
};
constexpr TileConfig kTileConfig;

// The tile configuration of the calling thread, for as long as this lives.
class ProductScope {
 public:
  ProductScope() { _tile_loadconfig(kTileConfig.bytes); }
  ~ProductScope() { _tile_release(); }
  ProductScope(const ProductScope&) = delete;
  ProductScope& operator=(const ProductScope&) = delete;
};

inline void multiply_int8(const Int8Row* rows, std::int64_t stride, const Int8Column* panel,
                          std::int64_t depth, const std::int32_t* start, std::int32_t* out) {
  constexpr int kOut = 4 * kInt8Panel;
  if (start) {  // a stride of 0 repeats one row of 16 columns
    _tile_loadd(0, start, 0);
    _tile_loadd(1, start + 16, 0);
    _tile_loadd(2, start, 0);
    _tile_loadd(3, start + 16, 0);
  } else {
    _tile_loadd(0, out, kOut);
    _tile_loadd(1, out + 16, kOut);
    _tile_loadd(2, out + 16 * kInt8Panel, kOut);
    _tile_loadd(3, out + 16 * kInt8Panel + 16, kOut);
  }
  for (std::int64_t k = 0; k < depth; k += 64) {
    const Int8Column* columns = panel + k * kInt8Panel;
    _tile_loadd(4, rows + k, stride);
    _tile_loadd(6, columns, 4 * kInt8Panel);
    _tile_loadd(7, columns + 64, 4 * kInt8Panel);
    _tile_loadd(5, rows + 16 * stride + k, stride);
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, out, kOut);
  _tile_stored(1, out + 16, kOut);
  _tile_stored(2, out + 16 * kInt8Panel, kOut);
  _tile_stored(3, out + 16 * kInt8Panel + 16, kOut);
}

#elif defined(FASTGEN_PRODUCT_VNNI512)

constexpr int kInt8Rows = 8;
constexpr int kInt8Panel = 48;
constexpr int kInt8Group = 4;  // features side by side in a packed column
using Int8Row = std::uint8_t;
using Int8Column = std::int8_t;

inline void multiply_int8(const Int8Row* rows, std::int64_t stride, const Int8Column* panel,
                          std::int64_t depth, const std::int32_t* start, std::int32_t* out) {
  __m512i acc[kInt8Rows][3];
#pragma GCC unroll 8
  for (int i = 0; i < kInt8Rows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      const std::int32_t* from = start ? start + 16 * j : out + i * kInt8Panel + 16 * j;
      acc[i][j] = _mm512_loadu_si512(from);
    }
  }
  for (std::int64_t k = 0; k < depth; k += kInt8Group) {
    const Int8Column* column = panel + k * kInt8Panel;
    // Panels of depth 2048 live in L2: ask for the lines 8 groups ahead.
    _mm_prefetch(reinterpret_cast<const char*>(column + 8 * 192), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(column + 8 * 192 + 64), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(column + 8 * 192 + 128), _MM_HINT_T0);
    const __m512i b0 = _mm512_loadu_si512(column);
    const __m512i b1 = _mm512_loadu_si512(column + 64);
    const __m512i b2 = _mm512_loadu_si512(column + 128);
#pragma GCC unroll 8
    for (int i = 0; i < kInt8Rows; ++i) {
      std::int32_t quad;
      __builtin_memcpy(&quad, rows + i * stride + k, 4);
      const __m512i a = _mm512_set1_epi32(quad);
      acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], a, b0);
      acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], a, b1);
      acc[i][2] = _mm512_dpbusd_epi32(acc[i][2], a, b2);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kInt8Rows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) _mm512_storeu_si512(out + i * kInt8Panel + 16 * j, acc[i][j]);
  }
}

#elif defined(FASTGEN_VECTOR_AVX2) || defined(FASTGEN_VECTOR_SSE2)

// Without VNNI: 16-bit multiply-add, whose pair sums fit int32 (2 * 127^2).
constexpr int kInt8Rows = 4;
constexpr int kInt8Panel = 2 * kLanes;
constexpr int kInt8Group = 2;
using Int8Row = std::int16_t;
using Int8Column = std::int16_t;

inline void multiply_int8(const Int8Row* rows, std::int64_t stride, const Int8Column* panel,
                          std::int64_t depth, const std::int32_t* start, std::int32_t* out) {
  Ints acc[kInt8Rows][2];
#pragma GCC unroll 4
  for (int i = 0; i < kInt8Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      acc[i][j] = load(start ? start + kLanes * j : out + i * kInt8Panel + kLanes * j);
    }
  }
  for (std::int64_t k = 0; k < depth; k += kInt8Group) {
    const Ints b0 = load_pairs(panel + k * kInt8Panel);
    const Ints b1 = load_pairs(panel + k * kInt8Panel + 2 * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kInt8Rows; ++i) {
      std::int32_t pair;
      __builtin_memcpy(&pair, rows + i * stride + k, 4);
      const Ints a = splat_ints(pair);
      acc[i][0] = add(acc[i][0], multiply_pairs(a, b0));
      acc[i][1] = add(acc[i][1], multiply_pairs(a, b1));
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kInt8Rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) store(out + i * kInt8Panel + kLanes * j, acc[i][j]);
  }
}

#else

constexpr int kInt8Rows = 4;
constexpr int kInt8Panel = 8;
constexpr int kInt8Group = 2;
using Int8Row = std::int16_t;
using Int8Column = std::int16_t;

inline void multiply_int8(const Int8Row* rows, std::int64_t stride, const Int8Column* panel,
                          std::int64_t depth, const std::int32_t* start, std::int32_t* out) {
  std::int32_t acc[kInt8Rows][kInt8Panel];
  for (int i = 0; i < kInt8Rows; ++i) {
    for (int j = 0; j < kInt8Panel; ++j) acc[i][j] = start ? start[j] : out[i * kInt8Panel + j];
  }
  for (std::int64_t k = 0; k < depth; k += kInt8Group) {
    const Int8Column* column = panel + k * kInt8Panel;
    for (int i = 0; i < kInt8Rows; ++i) {
      const std::int32_t a0 = rows[i * stride + k], a1 = rows[i * stride + k + 1];
      for (int j = 0; j < kInt8Panel; ++j) {
        acc[i][j] += a0 * column[2 * j] + a1 * column[2 * j + 1];
      }
    }
  }
  for (int i = 0; i < kInt8Rows; ++i) {
    for (int j = 0; j < kInt8Panel; ++j) out[i * kInt8Panel + j] = acc[i][j];
  }
}

#endif

#if !defined(FASTGEN_PRODUCT_AMX)
struct ProductScope {  // registers need no setting up
  ProductScope() {}
};
#endif

// ------------------------------------------------------------------------------------- float32

#if defined(FASTGEN_VECTOR_AVX512)
constexpr int kFloatRows = 8;
constexpr int kFloatVectors = 3;
#elif defined(FASTGEN_VECTOR_AVX2)
constexpr int kFloatRows = 6;
constexpr int kFloatVectors = 2;
#elif defined(FASTGEN_VECTOR_SSE2)
constexpr int kFloatRows = 4;
constexpr int kFloatVectors = 2;
#else
constexpr int kFloatRows = 4;
constexpr int kFloatVectors = 1;
#endif
constexpr int kFloatPanel = kFloatVectors * kLanes;

// out = (first ? 0 : out) + rows . panel over at most kFloatDepth features.
inline void multiply_float(const float* rows, std::int64_t stride, const float* panel,
                           std::int64_t depth, bool first, float* out) {
  Floats acc[kFloatRows][kFloatVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kFloatRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kFloatVectors; ++j) acc[i][j] = splat(0.0f);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Floats b[kFloatVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kFloatVectors; ++j) b[j] = load(panel + k * kFloatPanel + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kFloatRows; ++i) {
      const Floats a = splat(rows[i * stride + k]);
#pragma GCC unroll 3
      for (int j = 0; j < kFloatVectors; ++j) acc[i][j] = multiply_add(a, b[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kFloatRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kFloatVectors; ++j) {
      float* p = out + i * kFloatPanel + j * kLanes;
      store(p, first ? acc[i][j] : add(load(p), acc[i][j]));
    }
  }
}

// ------------------------------------------------------------------ the two paths, one interface

// A product of kRows rows with a whole block of panels, kept in `products` as
// [panel][kRows][kPanel]; `kRows` divides kStripRows, `kPanel` divides kMaxBlockColumns.
struct Int8Product {
  static constexpr int kRows = kInt8Rows;
  static constexpr int kPanel = kInt8Panel;
  using Value = std::int32_t;

  static std::int64_t panel_bytes(std::int64_t depth) {
    return kPanel * (4 + depth * static_cast<std::int64_t>(sizeof(Int8Column)));
  }
  static void multiply(const Strip& strip, int first_row, int panels, Value* products) {
    const unsigned char* row =
        static_cast<const unsigned char*>(strip.rows) + first_row * strip.row_stride;
    const std::int64_t stride = strip.row_stride / static_cast<std::int64_t>(sizeof(Int8Row));
    for (std::int64_t k = 0; k < strip.depth; k += kInt8Depth) {
      const std::int64_t depth = strip.depth - k < kInt8Depth ? strip.depth - k : kInt8Depth;
      for (int p = 0; p < panels; ++p) {
        const unsigned char* panel =
            static_cast<const unsigned char*>(strip.panels) + p * panel_bytes(strip.depth);
        const std::int32_t* start = reinterpret_cast<const std::int32_t*>(panel);
        const Int8Column* columns = reinterpret_cast<const Int8Column*>(panel + 4 * kPanel);
        multiply_int8(reinterpret_cast<const Int8Row*>(row) + k, stride, columns + k * kPanel,
                      depth, k == 0 ? start : nullptr, products + p * kRows * kPanel);
      }
    }
  }
  static Floats values(const Value* p) { return to_floats(load(p)); }
};

struct FloatProduct {
  static constexpr int kRows = kFloatRows;
  static constexpr int kPanel = kFloatPanel;
  using Value = float;

  static std::int64_t panel_bytes(std::int64_t depth) { return kPanel * depth * 4; }
  static void multiply(const Strip& strip, int first_row, int panels, Value* products) {
    const std::int64_t stride = strip.row_stride / 4;
    const float* row = static_cast<const float*>(strip.rows) + first_row * stride;
    for (std::int64_t k = 0; k < strip.depth; k += kFloatDepth) {
      const std::int64_t depth = strip.depth - k < kFloatDepth ? strip.depth - k : kFloatDepth;
      for (int p = 0; p < panels; ++p) {
        const float* panel = static_cast<const float*>(strip.panels) + p * kPanel * strip.depth;
        multiply_float(row + k, stride, panel + k * kPanel, depth, k == 0,
                       products + p * kRows * kPanel);
      }
    }
  }
  static Floats values(const Value* p) { return load(p); }
};

void pack_int8(const std::uint8_t* const* q, int columns, std::int64_t depth, void* out) {
  std::int32_t* start = static_cast<std::int32_t*>(out);
  Int8Column* packed = reinterpret_cast<Int8Column*>(start + kInt8Panel);
  for (int c = 0; c < kInt8Panel; ++c) {
    std::int32_t sum = 0;
    const std::uint8_t* row = c < columns ? q[c] : nullptr;
    for (std::int64_t k = 0; k < depth; k += kInt8Group) {
      Int8Column group[kInt8Group];
      for (int g = 0; g < kInt8Group; ++g) {
        const int value = row ? static_cast<int>(row[k + g]) - 128 : 0;
        group[g] = static_cast<Int8Column>(value);
        sum += value;
      }
      __builtin_memcpy(packed + (k * kInt8Panel + c * kInt8Group), group, sizeof(group));
    }
    // Biased rows multiply every column by 128 more than they should.
    start[c] = sizeof(Int8Row) == 1 ? -128 * sum : 0;
  }
}

void load_rows_int8(const std::uint8_t* q, std::int64_t stride, int rows, std::int64_t depth,
                    void* out) {
  std::int16_t* expanded = static_cast<std::int16_t*>(out);
  for (int r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < depth; ++k) {
      expanded[r * depth + k] =
          static_cast<std::int16_t>(static_cast<int>(q[r * stride + k]) - 128);
    }
  }
}

void pack_float(const float* z, std::int64_t stride, int columns, std::int64_t depth, void* out) {
  float* packed = static_cast<float*>(out);
  for (int c = 0; c < kFloatPanel; ++c) {
    for (std::int64_t k = 0; k < depth; ++k) {
      packed[k * kFloatPanel + c] = c < columns ? z[c * stride + k] : 0.0f;
    }
  }
}
