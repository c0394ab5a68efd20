// Streamed moments for one instruction set. Included once per target_*.cpp, inside its own namespace,
// after tile-inl.hpp.

// N consecutive features in float64, of which `valid` exist; the others are 0.
template <int N, class T>
inline void load_wide(const T* x, std::int64_t valid, typename Square<double, N>::V& out) {
  if (valid >= N) {
    if constexpr (N == 8) {
      widen8(x, out);
      return;
    } else if constexpr (sizeof(T) > 2) {
      load_features<double, N>(x, valid, out);
      return;
    }
  }
  for (int l = 0; l < N; ++l) out[l] = l < valid ? widen(x[l]) : 0.0;
}

// Asks for a row some rows ahead: few features of each row are read at a time, which no hardware foresees.
template <class T>
inline void ask_ahead(const FeatureBlock& block, std::int64_t row, const T*) {
  constexpr std::int64_t kAhead = 8, kLine = 64 / sizeof(T);
  if (row + kAhead >= block.end) return;
  const T* x = static_cast<const T*>(block.rows.row(row + kAhead)) + block.first;
  for (std::int64_t f = 0; f < block.features; f += kLine) __builtin_prefetch(x + f, 0, 3);
}

void add_columns(const FeatureBlock& block, double* sums) {
  constexpr int N = Vectors<double>::kCount;
  using V = typename Square<double, N>::V;
  const std::int64_t valid = block.rows.d - block.first;
  with_type(nullptr, block.rows.dtype, [&](const auto* typed) {
    for (std::int64_t row = block.begin; row < block.end; ++row) {
      ask_ahead(block, row, typed);
      const auto* x = static_cast<decltype(typed)>(block.rows.row(row)) + block.first;
      for (int f = 0; f < block.features; f += N) {
        V value, origin, sum;
        load_wide<N>(x + f, valid - f, value);
        __builtin_memcpy(&origin, block.origin + f, sizeof(V));
        __builtin_memcpy(&sum, sums + f, sizeof(V));
        sum += value - origin;
        __builtin_memcpy(sums + f, &sum, sizeof(V));
      }
    }
  });
}

void pack_columns(const FeatureBlock& block, const double* mean, std::int64_t place,
                  std::int64_t block_items, double* packed) {
  constexpr int N = Vectors<double>::kCount, kPanel = kTilePanel<double>;
  using V = typename Square<double, N>::V;
  const std::int64_t valid = block.rows.d - block.first;
  with_type(nullptr, block.rows.dtype, [&](const auto* typed) {
    for (std::int64_t row = block.begin; row < block.end; ++row) {
      ask_ahead(block, row, typed);
      const auto* x = static_cast<decltype(typed)>(block.rows.row(row)) + block.first;
      const std::int64_t at = place + row - block.begin;
      double* out = packed + at / kTileDepth * block_items + at % kTileDepth * kPanel;
      for (int panel = 0; panel < block.features; panel += kPanel, out += kPanel * kTileDepth) {
#pragma GCC unroll 3
        for (int f = 0; f < kPanel; f += N) {
          V value, origin, centre;
          load_wide<N>(x + panel + f, valid - panel - f, value);
          __builtin_memcpy(&origin, block.origin + panel + f, sizeof(V));
          __builtin_memcpy(&centre, mean + panel + f, sizeof(V));
          value = (value - origin) - centre;
          __builtin_memcpy(out + f, &value, sizeof(V));
        }
      }
    }
  });
}

void multiply_scatter(const ScatterTile& tile) {
  constexpr int kPanel = kTilePanel<double>;
  constexpr std::int64_t kLine = 8;
  const std::int64_t row_items = packed_items(tile.row_count, 1, kPanel);
  const std::int64_t column_items = packed_items(tile.column_count, 1, kPanel);
  const std::int64_t calls = (column_items / kTileDepth / kPanel) * (tile.row_count / kTileRows);
  const std::int64_t row_share = row_items / kLine / calls + 1;
  const std::int64_t column_share = column_items / kLine / calls + 1;
  for (std::int64_t k = 0; k < tile.depth; k += kTileDepth) {
    const int depth = block_depth(tile.depth, k);
    const double* rows = tile.rows + k / kTileDepth * tile.block_items;
    const double* columns = tile.columns + k / kTileDepth * tile.block_items;
    // Packed rows come from memory: the next ones are asked for evenly while these are multiplied.
    const bool more = k + kTileDepth < tile.depth;
    const double* next_rows = rows + tile.block_items;
    const double* next_columns = columns + tile.block_items;
    for (int c = 0; c < tile.column_count; c += kPanel) {
      for (int r = 0; r < tile.row_count; r += kTileRows) {
        if (tile.diagonal && r + kTileRows <= c) continue;
        if (more) {
          for (std::int64_t line = 0; line < row_share; ++line, next_rows += kLine) {
            __builtin_prefetch(next_rows, 0, 2);
          }
          for (std::int64_t line = 0; line < column_share; ++line, next_columns += kLine) {
            __builtin_prefetch(next_columns, 0, 2);
          }
        }
        double* out = tile.scatter + r * tile.stride + c;
        // What the chains will be added to comes from L2 while they run.
        for (int i = 0; i < kTileRows; ++i) {
          for (int j = 0; j < kPanel; j += 8) __builtin_prefetch(out + i * tile.stride + j, 1, 3);
        }
        multiply_panel<double>(rows + r / kPanel * kPanel * kTileDepth + r % kPanel, kPanel,
                               columns + c * kTileDepth, kPanel, depth, false, out, tile.stride);
      }
    }
  }
}
