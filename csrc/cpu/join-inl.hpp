// Epilogues of the join: a strip's products become bounds on squared distances, and bounds become
// emitted pairs, counts, or numbers. Included once per target_*.cpp, inside its own namespace.
//
// With r a strip row, c a block column, x = s_r s_c (q_r . q_c), and
//   b = eps_r a_c + a_r eps_c + eps_r eps_c = eps_r a_c + (a_r + eps_r) eps_c,
// |z_r - z_c|^2 lies in [low_r + low_c - 2 x - 2 b, high_r + high_c - 2 x + 2 b]; low and high carry
// the slack for every float32 rounding below: at most 12, each 2^-24 of the largest term (bounds.hpp).

struct RowTerms {
  Floats scale2, error2, reach2, low, high;
  RowTerms(const Terms& terms, int row)
      : scale2(splat(2.0f * terms.scale[row])),
        error2(splat(2.0f * terms.error[row])),
        reach2(splat(2.0f * (terms.magnitude[row] + terms.error[row]))),
        low(splat(terms.low[row])),
        high(splat(terms.high[row])) {}
};

struct Bounds {
  Floats twice_product, twice_bound;
  Bounds(Floats product, const RowTerms& row, const Terms& columns, int c)
      : twice_product(mul(mul(product, load(columns.scale + c)), row.scale2)),
        twice_bound(multiply_add(row.reach2, load(columns.error + c),
                                 mul(row.error2, load(columns.magnitude + c)))) {}

  Floats low(const RowTerms& row, const Terms& columns, int c) const {
    return subtract(subtract(add(row.low, load(columns.low + c)), twice_product), twice_bound);
  }
  Floats high(const RowTerms& row, const Terms& columns, int c) const {
    return add(subtract(add(row.high, load(columns.high + c)), twice_product), twice_bound);
  }
};

// Lanes of the vector at column c that lie in [begin, end).
inline unsigned lanes_between(int c, int begin, int end) {
  unsigned mask = kAllLanes;
  if (begin > c) mask &= kAllLanes << (begin - c);
  if (end < c + kLanes) mask &= (1u << (end - c)) - 1u;
  return mask;
}

// First column that pairs with `row`; symmetric tiles start right of the diagonal.
inline int first_column(const Strip& strip, int row) {
  const std::int64_t first = row + strip.diagonal + 1;
  if (first <= 0) return 0;
  return first < strip.column_count ? static_cast<int>(first) : strip.column_count;
}

// Calls visitor.row(row, products of that row) for every row of the strip.
template <class Product, class Visitor>
inline void walk_strip(const Strip& strip, Visitor& visitor) {
  typename Product::Value* products = static_cast<typename Product::Value*>(strip.products);
  const int panels = (strip.column_count + Product::kPanel - 1) / Product::kPanel;
  const ProductScope scope;
  for (int group = 0; group < strip.row_count; group += Product::kRows) {
    Product::multiply(strip, group, panels, products);
    const int rows =
        strip.row_count - group < Product::kRows ? strip.row_count - group : Product::kRows;
    for (int r = 0; r < rows; ++r) visitor.row(group + r, products + r * Product::kPanel);
  }
}

// The vectors of one row: panel by panel, valid lanes only.
template <class Product, class Vector>
inline void walk_row(const Strip& strip, int row, const typename Product::Value* products,
                     Vector&& vector) {
  const int begin = first_column(strip, row), end = strip.column_count;
  for (int c = begin / kLanes * kLanes; c < end; c += kLanes) {
    const int panel = c / Product::kPanel;
    const auto* p =
        products + panel * Product::kRows * Product::kPanel + (c - panel * Product::kPanel);
    vector(c, p, lanes_between(c, begin, end));
  }
}

template <class Value>
inline Hit make_hit(int row, int column, const Value& value) {
  Hit hit;
  hit.row = static_cast<std::uint16_t>(row);
  hit.column = static_cast<std::uint16_t>(column);
  __builtin_memcpy(&hit.dot, &value, 4);
  return hit;
}

template <class Value>
inline int append_hits(Hit* hits, int count, unsigned mask, int row, int c, const Value* products) {
  for (; mask; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    hits[count++] = make_hit(row, c + lane, products[lane]);
  }
  return count;
}

template <class Product>
void emit(EmitStrip* task) {
  const Strip& strip = task->strip;
  struct Visitor {
    EmitStrip* task;
    int count = 0;
    void row(int r, const typename Product::Value* products) {
      const Strip& strip = task->strip;
      const RowTerms row(strip.row_terms, r);
      const Floats threshold = splat(task->row_threshold[r]);
      const Floats weight = splat(task->row_weight[r]);
      walk_row<Product>(strip, r, products, [&](int c, const auto* p, unsigned valid) {
        const Bounds bounds(Product::values(p), row, strip.column_terms, c);
        const Floats low = bounds.low(row, strip.column_terms, c);
        const Floats reach = max(mul(weight, load(task->column_threshold + c)), threshold);
        const unsigned mask = less_equal(low, reach) & valid;
        if (mask) count = append_hits(task->hits, count, mask, r, c, p);
      });
    }
  } visitor{task};
  walk_strip<Product>(strip, visitor);
  task->hit_count = visitor.count;
}

template <class Product>
void balls(BallStrip* task) {
  const Strip& strip = task->strip;
  struct Visitor {
    BallStrip* task;
    int count = 0;

    // Lanes whose distance to the edge of a ball is within the bounds' uncertainty.
    static unsigned undecided(Floats low, Floats high, Floats inside, Floats outside) {
      return less_equal(low, outside) & ~less(high, inside);
    }
    void row(int r, const typename Product::Value* products) {
      const Strip& strip = task->strip;
      const RowTerms row(strip.row_terms, r);
      const Floats row_reach = splat(task->row_reach[r]);
      walk_row<Product>(strip, r, products, [&](int c, const auto* p, unsigned valid) {
        const Bounds bounds(Product::values(p), row, strip.column_terms, c);
        const Floats low = bounds.low(row, strip.column_terms, c);
        const Floats reach = max(row_reach, load(task->column_reach + c));
        const unsigned near = less_equal(low, reach) & valid;
        if (near) {
          near_pairs(r, c, low, bounds.high(row, strip.column_terms, c), near, p);
        }
      });
    }
    void near_pairs(int r, int c, Floats low, Floats high, unsigned near,
                    const typename Product::Value* p) {
      unsigned open = 0;
      for (int k = 0; k < task->radii; ++k) {
        const std::int64_t i = k * task->row_stride + r, t = k * task->threshold_stride + c;
        open |= undecided(low, high, splat(task->row_inside[i]), splat(task->row_outside[i])) |
                undecided(low, high, load(task->column_inside + t), load(task->column_outside + t));
      }
      open &= near;
      count = append_hits(task->hits, count, open, r, c, p);
      const unsigned decided = near & ~open;
      if (!decided) return;
      for (int k = 0; k < task->radii; ++k) {
        const std::int64_t i = k * task->row_stride + r, j = k * task->column_stride + c;
        const std::int64_t t = k * task->threshold_stride + c;
        const unsigned in_row = less(high, splat(task->row_inside[i])) & decided;
        if (in_row) {
          task->columns_in_row[i] += sum_where(task->column_copies + c, in_row);
          add_where(task->balls_of_column + j, in_row, task->row_copies[r]);
        }
        const unsigned in_column = less(high, load(task->column_inside + t)) & decided;
        if (in_column) {
          add_where(task->rows_in_column + j, in_column, task->row_copies[r]);
          task->balls_of_row[i] += sum_where(task->column_copies + c, in_column);
        }
      }
    }
  } visitor{task};
  walk_strip<Product>(strip, visitor);
  task->hit_count = visitor.count;
}

template <class Product>
void upper(UpperStrip* task) {
  const Strip& strip = task->strip;
  struct Visitor {
    UpperStrip* task;
    void row(int r, const typename Product::Value* products) {
      const Strip& strip = task->strip;
      const RowTerms row(strip.row_terms, r);
      walk_row<Product>(strip, r, products, [&](int c, const auto* p, unsigned) {
        const Bounds bounds(Product::values(p), row, strip.column_terms, c);
        store(task->upper + r * kMaxBlockColumns + c, bounds.high(row, strip.column_terms, c));
      });
    }
  } visitor{task};
  walk_strip<Product>(strip, visitor);
}
