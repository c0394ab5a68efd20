// Kernel values of a tile and their sums. Included once per target_*.cpp, inside its own namespace.
//
// Sums do not depend on the order of tiles, nor on which of its two places a value of a symmetric
// problem is computed at: a run of kRun values, aligned by index, is added in float64 as eight strided
// partial sums and a fixed tree, along rows and along columns alike; the run's sum is rounded to two
// limbs of a power-of-two grid, and limbs are added as integers. Values themselves are symmetric:
// every expression below treats row and column alike, down to the order of roundings.

inline double tree(const Doubles& p) {
  return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

// z . c of every row and the centre, in float64.
template <class Real>
void along_centre(const TileSide& side, double* out) {
  const Real* c = static_cast<const Real*>(side.centre);
  for (int row = 0; row < side.count; ++row) {
    const Real factor = static_cast<Real>(side.factor[row]);
    out[row] = with_type(side.rows[row], side.dtype, [&](const auto* x) {
      double lane[16] = {};
      for (std::int64_t i = 0; i < side.d; i += 16) {
        const int valid = static_cast<int>(side.d - i < 16 ? side.d - i : 16);
        for (int l = 0; l < valid; ++l) {
          const Real z = static_cast<Real>(widen(x[i + l])) * factor - c[i + l];
          lane[l] += widen(z) * widen(c[i + l]);
        }
      }
      double sum = 0;
      for (const double part : lane) sum += part;
      return sum;
    });
  }
}

// ------------------------------------------------------------------------------ kernel values

// Adds a term's values to those of the terms before it.
template <class Real>
inline void add_value(const Vector<Real>& value, bool first, Real* values) {
  Vector<Real> before = {};
  if (!first) load_lanes(values, before);
  store_lanes(values, Vector<Real>(before + value));
}

// k(x, y) - k(x, c) - k(c, y) + k(c, c) for k = (scale (x . y))^degree around the centre c, where
// scale x . y = w + a + t + s with w at the centre, a and t along it, s the centred product. Built up
// degree by degree from terms of one kind only, so that nothing cancels: with b = w + a and q = w + t,
//   V_p = (w + a + t + s)^p,  B_p = V_p - b^p,  Q_p = V_p - q^p,  K_p = V_p - b^p - q^p + w^p.
template <class Real>
inline void polynomial_row(const SumTerm& term, const Real* products, double row_along,
                           const Real* column_along, int begin, int end, bool first, Real* values) {
  using V = Vector<Real>;
  const Real scale = static_cast<Real>(term.scale);
  const V w = V{} + static_cast<Real>(term.offset);
  const V a = V{} + static_cast<Real>(row_along) * scale;
  const V b = w + a;
  for (int c = begin; c < end; c += Vectors<Real>::kCount) {
    V p, along;
    load_lanes(products + c, p);
    load_lanes(column_along + c, along);
    const V s = p * scale, t = along * scale, q = w + t;
    const V base = ((a + t) + w) + s, ts = t + s, as = a + s;
    V v = V{} + Real(1), value = {}, less_b = {}, less_q = {};
    for (int degree = 0; degree < term.degree; ++degree) {
      const V cross = a * less_b + t * less_q;
      V next;
      fuse(s, v, cross, next);
      fuse(w, value, next, value);
      fuse(b, less_b, ts * v, less_b);
      fuse(q, less_q, as * v, less_q);
      v = base * v;
    }
    add_value<Real>(value, first, values + c);
  }
}

// Kernels of the squared distance.
template <class Real>
inline void distance_row(const SumTerm& term, const Real* squares, int begin, int end, bool first,
                         Real* values) {
  using V = Vector<Real>;
  const V scale = V{} + static_cast<Real>(term.scale);
  const V exponent = V{} + static_cast<Real>(-term.exponent);
  for (int c = begin; c < end; c += Vectors<Real>::kCount) {
    V sq, value, distance;
    load_lanes(squares + c, sq);
    switch (term.shape) {
      case Shape::gaussian:
        exponential<Real>(sq * scale, term.less_one, value);
        break;
      case Shape::rational_quadratic:
        log_one_plus<Real>(sq * scale, value);
        exponential<Real>(value * exponent, term.less_one, value);
        break;
      case Shape::laplacian:
        root(sq, distance);
        exponential<Real>(distance * scale, term.less_one, value);
        break;
      default:  // energy
        root(sq, distance);
        value = distance * scale;
    }
    add_value<Real>(value, first, values + c);
  }
}

// |x f - y g|^2 from the rows themselves: eight partial sums in float64, then a fixed tree.
inline double near_square(const TileSide& a, int i, const TileSide& b, int j) {
  return with_type(a.rows[i], a.dtype, [&](const auto* x) {
    return with_type(b.rows[j], b.dtype, [&](const auto* y) {
      const double f = a.factor[i], g = b.factor[j];
      Doubles sum = {};
      std::int64_t k = 0;
      for (; k + 8 <= a.d; k += 8) {
        Doubles u, v;
        widen8(x + k, u);
        widen8(y + k, v);
        const Doubles t = u * f - v * g;
        sum += t * t;
      }
      for (int l = 0; k + l < a.d; ++l) {
        const double t = widen(x[k + l]) * f - widen(y[k + l]) * g;
        sum[l] += t * t;
      }
      return tree(sum);
    });
  });
}

template <class Mask>
inline bool any_lane(const Mask& mask) {
  std::uint64_t words[sizeof(Mask) / 8], any = 0;
  __builtin_memcpy(words, &mask, sizeof(mask));
  for (const std::uint64_t word : words) any |= word;
  return any != 0;
}

// Squared distances of a row. Where 99.9 % of |x|^2 + |y|^2 has cancelled, the pair is recomputed, so
// that the root of what is left is good to 2^-13 in float32 and 2^-42 in float64.
template <class Real>
inline void square_row(const SumTile& task, int r, int begin, int end, const Real* column_square,
                       Real* squares) {
  using V = Vector<Real>;
  const Real* products = static_cast<const Real*>(task.tile->products) + r * kTile;
  const V row = V{} + static_cast<Real>(task.row_square[r]);
  for (int c = begin; c < end; c += Vectors<Real>::kCount) {
    V p, column;
    load_lanes(products + c, p);
    load_lanes(column_square + c, column);
    const V both = row + column;
    V sq = both - (p + p);
    sq = sq > V{} ? sq : V{};
    if (task.look) {
      const auto close = sq < both * static_cast<Real>(0x1p-10);
      if (any_lane(close)) {
        for (int l = 0; l < Vectors<Real>::kCount; ++l) {
          if (close[l] && c + l < task.columns.count) {
            sq[l] = static_cast<Real>(near_square(task.rows, r, task.columns, c + l));
          }
        }
      }
    }
    store_lanes(squares + c, sq);
  }
}

// What a tile's columns bring to every row, in the products' type, and scratch of one row.
template <class Real>
struct ColumnTerms {
  Real* square;
  Real* along;
  Real* distances;
};

// Values of columns [begin, end) of a row; those past the last column become 0.
template <class Real>
inline void map_row(const SumTile& task, int r, int begin, int end,
                    const ColumnTerms<Real>& columns, Real* values) {
  const Real* products = static_cast<const Real*>(task.tile->products) + r * kTile;
  if (task.distances) square_row<Real>(task, r, begin, end, columns.square, columns.distances);
  for (int i = 0; i < task.term_count; ++i) {
    const SumTerm& term = task.terms[i];
    if (term.shape == Shape::polynomial) {
      polynomial_row<Real>(term, products, task.row_along[r], columns.along, begin, end, i == 0,
                           values);
    } else {
      distance_row<Real>(term, columns.distances, begin, end, i == 0, values);
    }
  }
  for (int c = task.columns.count; c < end; ++c) values[c] = Real(0);
}

// --------------------------------------------------------------------------------------- sums

// Adds a run's sum to its limbs: |value scale| <= 2^37, so the high limb counts units of the grid and
// the low one 2^-37 of them. Adding 1.5 * 2^52 rounds to an integer.
inline void add_fixed(double value, double scale, std::int64_t& high, std::int64_t& low) {
  constexpr double kRound = 6755399441055744.0;
  const double units = value * scale;
  const double whole = (units + kRound) - kRound;
  const double rest = ((units - whole) * 0x1p37 + kRound) - kRound;
  high += static_cast<std::int64_t>(whole);
  low += static_cast<std::int64_t>(rest);
}

inline void add_all(const double* __restrict values, const double* __restrict scale, int begin,
                    int end, const FixedSums& sums) {
  std::int64_t* __restrict high = sums.high;
  std::int64_t* __restrict low = sums.low;
  for (int i = begin; i < end; ++i) add_fixed(values[i], scale[i], high[i], low[i]);
}

// The columns' sums over one run of rows.
inline void add_columns(const SumTile& task, int begin, int end) {
  const double* __restrict p = task.partials;
  const double* __restrict scale = task.column_scale;
  std::int64_t* __restrict high = task.column_sums.high;
  std::int64_t* __restrict low = task.column_sums.low;
  for (int c = begin; c < end; ++c) {
    const double* q = p + c;
    const double sum = ((q[0] + q[4 * kTile]) + (q[2 * kTile] + q[6 * kTile])) +
                       ((q[kTile] + q[5 * kTile]) + (q[3 * kTile] + q[7 * kTile]));
    add_fixed(sum, scale[c], high[c], low[c]);
  }
}

// Adds w' K w over one run of rows and all columns from `begin` to the forms: w over the rows by the
// tile's micro-kernel, with K in place as the second operand, then w over the columns.
template <class Real>
inline void add_forms(SumTile* task, int band, int begin, int end, int rows, const Real* values,
                      Real* scratch) {
  constexpr int kPanel = kTilePanel<Real>;
  Real* labels = scratch;                   // [kRun, kTileRows]
  Real* sums = scratch + kRun * kTileRows;  // [kTileRows, kTile + kPanel]
  constexpr int kStride = kTile + kRun;
  for (int first = 0; first < task->labels; first += kTileRows) {
    for (int i = 0; i < rows; ++i) {
      for (int l = 0; l < kTileRows; ++l) {
        const int label = first + l < task->labels ? first + l : task->labels - 1;
        labels[i * kTileRows + l] =
            static_cast<Real>(task->row_labels[label * task->label_stride + band * kRun + i]);
      }
    }
    for (int c = begin; c < end; c += kPanel) {
      multiply_panel<Real>(labels, kTileRows, values + c, kTile, rows, true, sums + c, kStride);
    }
    for (int l = 0; l < kTileRows && first + l < task->labels; ++l) {
      const std::int8_t* columns = task->column_labels + (first + l) * task->label_stride;
      std::int64_t& high = task->forms.high[first + l];
      std::int64_t& low = task->forms.low[first + l];
      for (int c = begin; c < end; c += kRun) {
        const Real* p = sums + l * kStride + c;
        Doubles sum = {};
        for (int i = 0; i < kRun; i += 8) {
          Doubles value, label;
          widen8(p + i, value);
          for (int j = 0; j < 8; ++j) label[j] = static_cast<double>(columns[c + i + j]);
          sum += value * label;
        }
        // A block off the diagonal stands for its mirror image too.
        const double whole = tree(sum);
        const bool mirrored = !(task->tile->diagonal && c == band * kRun);
        add_fixed(mirrored ? 2 * whole : whole, task->form_scale, high, low);
      }
    }
  }
}

template <class Real>
void sum_tile(SumTile* task) {
  const Tile& tile = *task->tile;
  const int rows = task->rows.count, columns = task->columns.count;
  const int end = (columns + kRun - 1) / kRun * kRun;
  Real* scratch = static_cast<Real*>(task->scratch);
  const ColumnTerms<Real> terms{scratch, scratch + kTile, scratch + 2 * kTile};
  for (int c = 0; c < end; ++c) {
    terms.square[c] = static_cast<Real>(task->column_square[c]);
    terms.along[c] = static_cast<Real>(task->column_along[c]);
  }
  Real* values = static_cast<Real*>(task->values);
  task->square_high = task->square_low = 0;
  for (int r = 0; r < rows; ++r) task->row_sums.high[r] = task->row_sums.low[r] = 0;
  for (int c = 0; c < columns; ++c) task->column_sums.high[c] = task->column_sums.low[c] = 0;

  for (int band = 0; band * kRun < rows; ++band) {
    const int first = band * kRun, last = first + kRun < rows ? first + kRun : rows;
    const int begin = tile.diagonal ? first : 0;
    // Columns of the band's own run hold both orders of every pair: their rows are enough.
    const int mirrored = tile.diagonal ? first + kRun : 0;
    for (int p = 0; p < 8; ++p) {
      for (int c = begin; c < end; ++c) task->partials[p * kTile + c] = 0.0;
    }
    for (int r = first; r < last; ++r) {
      Real* row = values + (task->labels > 0 ? (r - first) * kTile : 0);
      map_row<Real>(*task, r, begin, end, terms, row);
      if (tile.diagonal) task->diagonal[r] = static_cast<double>(row[r]);
      for (int c = begin; c < end; c += kRun) {
        Doubles sum = {}, square = {};
        // [8 partial sums][kTile columns]; a row adds to the one of its place in the run.
        double* partial = task->partials + (r - first) % 8 * kTile + c;
        for (int i = 0; i < kRun; i += 8) {
          Doubles value, before;
          widen8(row + c + i, value);
          sum += value;
          square += value * value;
          widen8(partial + i, before);
          before += value;
          __builtin_memcpy(partial + i, &before, 64);
        }
        task->run_sums[c / kRun * kTile + r] = tree(sum);
        const double squared = tree(square);
        // Both orders of a pair count; only the diagonal's own run holds both.
        const bool twice = tile.diagonal ? c >= mirrored : task->symmetric;
        add_fixed(twice ? 2 * squared : squared, task->square_scale, task->square_high,
                  task->square_low);
      }
    }
    add_columns(*task, mirrored, columns);
    for (int c = begin; c < end; c += kRun) {
      add_all(task->run_sums + c / kRun * kTile, task->row_scale, first, last, task->row_sums);
    }
    if (task->labels > 0) {
      add_forms<Real>(task, band, begin, end, last - first, values, scratch + 3 * kTile);
    }
  }
}
