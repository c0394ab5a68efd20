// Products of centred rows by tiles of kTile x kTile. Rows are centred and packed by blocks of
// kTileDepth features into panels, and multiplied panel by panel. Included once per target_*.cpp,
// inside its own namespace.
//
// Every product is a sum over chains of features in ascending order, so it depends on neither tile nor
// place in the tile, and x . y equals y . x to the last bit.

#if defined(FASTGEN_VECTOR_AVX512)
constexpr int kTileRows = 8, kTileVectors = 3;
#elif defined(FASTGEN_VECTOR_AVX2)
constexpr int kTileRows = 4, kTileVectors = 3;
#elif defined(FASTGEN_VECTOR_SSE2)
constexpr int kTileRows = 4, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 1;
#endif
template <class Real>
constexpr int kTilePanel = kTileVectors * Vectors<Real>::kCount;

// out = (first ? 0 : out) + a . b with a [depth, kTileRows] and b [depth, kTilePanel] at any stride.
template <class Real>
inline void multiply_panel(const Real* a, std::int64_t a_stride, const Real* b,
                           std::int64_t b_stride, int depth, bool first, Real* out,
                           std::int64_t out_stride) {
  using V = Vector<Real>;
  constexpr int kCount = Vectors<Real>::kCount;
  V sum[kTileRows][kTileVectors] = {};
#pragma GCC unroll 4
  for (int k = 0; k < depth; ++k) {
    V column[kTileVectors];
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; ++j) load_lanes(b + k * b_stride + j * kCount, column[j]);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; ++i) {
      V row;
      repeat(a[k * a_stride + i], row);
#pragma GCC unroll 3
      for (int j = 0; j < kTileVectors; ++j) fuse(row, column[j], sum[i][j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kTileVectors; ++j) {
      Real* p = out + i * out_stride + j * kCount;
      V before = {};
      if (!first) load_lanes(p, before);
      store_lanes(p, V(before + sum[i][j]));
    }
  }
}

template <class Real, int N>
struct Square {
  typedef Real V __attribute__((vector_size(N * sizeof(Real))));
  using Int = typename Vectors<Real>::Int;
  typedef Int Ints __attribute__((vector_size(N * sizeof(Real))));

  // Lanes of (a, b) that a 2 x 2 exchange of blocks of `width` lanes puts into its two results.
  struct Picks {
    alignas(64) Int low[N], high[N];
    constexpr explicit Picks(int width) : low(), high() {
      for (int l = 0; l < N; ++l) {
        low[l] = (l & width) ? N + l - width : l;
        high[l] = (l & width) ? N + l : l + width;
      }
    }
  };

  static void pick(const V& a, const V& b, const Int* picks, V& out) {
    Ints index;
    __builtin_memcpy(&index, picks, sizeof(index));
#if defined(__clang__)
    for (int l = 0; l < N; ++l) out[l] = index[l] < N ? a[index[l]] : b[index[l] - N];
#else
    out = __builtin_shuffle(a, b, index);
#endif
  }

  template <int kWidth>
  static void exchange(V* rows) {
    constexpr Picks kPicks(kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if (i & kWidth) continue;
      V low, high;
      pick(rows[i], rows[i + kWidth], kPicks.low, low);
      pick(rows[i], rows[i + kWidth], kPicks.high, high);
      rows[i] = low;
      rows[i + kWidth] = high;
    }
  }

  static void transpose(V* rows) {
    exchange<1>(rows);
    if constexpr (N > 2) exchange<2>(rows);
    if constexpr (N > 4) exchange<4>(rows);
    if constexpr (N > 8) exchange<8>(rows);
  }
};

// N features from x, of which `valid` exist, in the products' type.
template <class Real, int N, class T>
inline void load_features(const T* x, std::int64_t valid, typename Square<Real, N>::V& out) {
  if (valid >= N) {
    if constexpr (sizeof(T) == sizeof(Real)) {
      __builtin_memcpy(&out, x, sizeof(out));
      return;
    } else if constexpr (sizeof(T) == 4) {
      typename Square<float, N>::V narrow;
      __builtin_memcpy(&narrow, x, sizeof(narrow));
      out = __builtin_convertvector(narrow, typename Square<Real, N>::V);
      return;
    }
#if defined(FASTGEN_VECTOR_AVX512) || defined(FASTGEN_VECTOR_AVX2)
    if constexpr (sizeof(T) == 2 && sizeof(Real) == 4 && N == 16) {
#if defined(FASTGEN_VECTOR_AVX512)
      out = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
      return;
#endif
    } else if constexpr (sizeof(T) == 2 && sizeof(Real) == 4 && N == 8) {
      out = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
      return;
    }
#endif
  }
  for (int l = 0; l < N; ++l) out[l] = l < valid ? static_cast<Real>(widen(x[l])) : Real(0);
}

// Features of the block at k.
inline int block_depth(std::int64_t d, std::int64_t k) {
  return static_cast<int>(d - k < kTileDepth ? d - k : kTileDepth);
}

// Centres features [k, k + kTileDepth) of N rows of a side from `first` and writes them transposed into
// panels of kWidth rows, [panel][kTileDepth][kWidth]. Rows past the last repeat it.
template <class Real, int kWidth, int N, class T>
inline void pack_square(const TileSide& side, std::int64_t first, std::int64_t k,
                        const Real* centre, Real* packed, const T*) {
  static_assert(kWidth % N == 0);
  using V = typename Square<Real, N>::V;
  const T* rows[N];
  V factor[N], spread[N];
  for (int r = 0; r < N; ++r) {
    const std::int64_t row = first + r < side.count ? first + r : side.count - 1;
    rows[r] = static_cast<const T*>(side.rows[row]) + k;
    factor[r] = V{} + static_cast<Real>(side.factor[row]);
    spread[r] = V{} + static_cast<Real>(side.spread[row]);
  }
  Real* out = packed + first / kWidth * kWidth * kTileDepth + first % kWidth;
  for (int i = 0; i < block_depth(side.d, k); i += N) {
    V z[N], middle;
    const std::int64_t valid = side.d - k - i;
    load_features<Real, N>(centre + k + i, valid, middle);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
      V value;
      load_features<Real, N>(rows[r] + i, valid, value);
      z[r] = (value * factor[r] - middle) * spread[r];
    }
    Square<Real, N>::transpose(z);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) __builtin_memcpy(out + (i + r) * kWidth, &z[r], sizeof(V));
  }
}

// Packs a block of rows: [feature block][panel][kTileDepth][kTilePanel]. One layout serves both sides of
// a product: kTileRows of a panel's columns play its rows.
template <class Real>
void pack_block(const TileSide& side, void* packed) {
  constexpr int N = Vectors<Real>::kCount;
  Real* out = static_cast<Real*>(packed);
  const std::int64_t block_items = packed_items(side.count, 1, kTilePanel<Real>);
  const Real* centre = static_cast<const Real*>(side.centre);
  with_type(nullptr, side.dtype, [&](const auto* typed) {
    for (std::int64_t k = 0; k < side.d; k += kTileDepth) {
      for (std::int64_t first = 0; first < block_items / kTileDepth; first += N) {
        pack_square<Real, kTilePanel<Real>, N>(side, first, k, centre, out, typed);
      }
      out += block_items;
    }
  });
}

// The product of every row with itself, in the order of operations of multiply_panel.
template <class Real>
void row_squares(const TileSide& side, double* out) {
  using V = Vector<Real>;
  constexpr int N = Vectors<Real>::kCount;
  const Real* centre = static_cast<const Real*>(side.centre);
  alignas(64) Real packed[kTileDepth * N];
  with_type(nullptr, side.dtype, [&](const auto* typed) {
    for (int first = 0; first < side.count; first += N) {
      TileSide few = side;
      few.rows += first;
      few.factor += first;
      few.spread += first;
      few.count = side.count - first < N ? side.count - first : N;
      V total = {};
      for (std::int64_t k = 0; k < side.d; k += kTileDepth) {
        pack_square<Real, N, N>(few, 0, k, centre, packed, typed);
        V sum = {};
        for (int i = 0; i < block_depth(side.d, k); ++i) {
          V z;
          load_lanes(packed + i * N, z);
          fuse(z, z, sum, sum);
        }
        total = k == 0 ? sum : total + sum;
      }
      for (int r = 0; r < few.count; ++r) {
        const Real inverse = Real(1) / static_cast<Real>(few.spread[r]);
        out[first + r] = static_cast<double>(total[r] * (inverse * inverse));
      }
    }
  });
}

// Takes the rows' own factors out of a panel of products, alike for rows and columns.
template <class Real>
inline void unspread(const Real* row_inverse, int rows, const Real* column_inverse,
                     Real* products) {
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < kTilePanel<Real>; ++j) {
      products[i * kTile + j] *= row_inverse[i] * column_inverse[j];
    }
  }
}

// Every product is a sum over chains of kChain features.
template <class Real, int kChain>
void multiply_tile(const Tile* tile) {
  constexpr int kPanel = kTilePanel<Real>;
  constexpr std::int64_t kLine = 64 / sizeof(Real);
  const Real* rows = static_cast<const Real*>(tile->rows);
  const Real* columns = static_cast<const Real*>(tile->columns);
  Real* products = static_cast<Real*>(tile->products);
  alignas(64) Real row_inverse[kTile], column_inverse[kTile];
  for (int r = 0; r < tile->row_count; ++r) {
    row_inverse[r] = Real(1) / static_cast<Real>(tile->row_spread[r]);
  }
  for (int c = 0; c < tile->column_count; ++c) {
    column_inverse[c] = Real(1) / static_cast<Real>(tile->column_spread[c]);
  }
  for (int c = tile->column_count; c < kTile; ++c) column_inverse[c] = Real(1);
  const std::int64_t row_items = packed_items(tile->row_count, 1, kPanel);
  const std::int64_t column_items = packed_items(tile->column_count, 1, kPanel);
  // Packed blocks come from memory. The next feature block is asked for evenly while this one is
  // multiplied: 8 GB/s would otherwise hold up a fifth of the time at d = 2048.
  const std::int64_t calls =
      (tile->column_count + kPanel - 1) / kPanel * ((tile->row_count + kTileRows - 1) / kTileRows);
  const std::int64_t row_share = row_items / kLine / calls + 1;
  const std::int64_t column_share = column_items / kLine / calls + 1;
  for (std::int64_t k = 0; k < tile->d; k += kTileDepth) {
    const Real* next_rows = rows + row_items;
    const Real* next_columns = columns + column_items;
    const bool more = k + kTileDepth < tile->d;
    const int depth = block_depth(tile->d, k);
    for (int c = 0; c < tile->column_count; c += kPanel) {
      for (int r = 0; r < tile->row_count; r += kTileRows) {
        if (tile->diagonal && c + kPanel <= r / kRun * kRun) break;
        if (more) {
          for (std::int64_t line = 0; line < row_share; ++line, next_rows += kLine) {
            __builtin_prefetch(next_rows, 0, 2);
          }
          for (std::int64_t line = 0; line < column_share; ++line, next_columns += kLine) {
            __builtin_prefetch(next_columns, 0, 2);
          }
        }
        const Real* a = rows + r / kPanel * kPanel * kTileDepth + r % kPanel;
        const Real* b = columns + c * kTileDepth;
        for (int chain = 0; chain < depth; chain += kChain) {
          const int length = depth - chain < kChain ? depth - chain : kChain;
          multiply_panel<Real>(a + chain * kPanel, kPanel, b + chain * kPanel, kPanel, length,
                               k == 0 && chain == 0, products + r * kTile + c, kTile);
        }
        if (!more) {
          const int rows_here = tile->row_count - r < kTileRows ? tile->row_count - r : kTileRows;
          unspread<Real>(row_inverse + r, rows_here, column_inverse + c, products + r * kTile + c);
        }
      }
    }
    rows += row_items;
    columns += column_items;
  }
}

// |z|^2 and the largest |z_f| of packed rows, in float64.
template <class Real>
void packed_norms(const void* packed, int count, std::int64_t d, double* squares, double* largest) {
  constexpr int kPanel = kTilePanel<Real>;
  const Real* block = static_cast<const Real*>(packed);
  for (int row = 0; row < count; ++row) squares[row] = largest[row] = 0;
  for (std::int64_t k = 0; k < d; k += kTileDepth) {
    for (int first = 0; first < count; first += kPanel) {
      const int rows = count - first < kPanel ? count - first : kPanel;
      const Real* panel = block + first * kTileDepth;
      for (int i = 0; i < block_depth(d, k); ++i) {
        for (int r = 0; r < rows; ++r) {
          const double z = static_cast<double>(panel[i * kPanel + r]), size = z < 0 ? -z : z;
          squares[first + r] += z * z;
          largest[first + r] = largest[first + r] < size ? size : largest[first + r];
        }
      }
    }
    block += packed_items(count, 1, kPanel);
  }
}

template <class Real>
void expand_squares(const Expansion* task) {
  const Real* products = static_cast<const Real*>(task->products);
  for (int c = 0; c < task->count; ++c) {
    task->squares[c] = task->row_square + task->column_squares[c] - 2 * widen(products[c]);
  }
}
