// Sums of exp(-|x - y|^2 / 2 h^2) over blocks of samples. Included once per target_*.cpp, inside its own
// namespace, after lanes-inl.hpp.
//
// Every sum of a row over a block is made in an order that the block alone decides, so results depend
// neither on threads nor on which rows are taken together.
//
// Terms and squares of terms may be subnormal: callers have them flushed to 0 (FlushToZero).

// 2^(-rate s) for s >= 0 and rate s < 2^80. With AVX-512, a table of 2^(i/32) (float64: 2^(i/16)) and a
// short series for the rest, |r| <= R = 1/64 (1/32): relative error 2^-22.5 (2^-38.5) at most, besides what
// the product rate s is off by.
template <class Real>
class Decay {
 public:
  using V = Vector<Real>;

#if defined(FASTGEN_VECTOR_AVX512)
  explicit Decay(double rate) : rate_(V{} + static_cast<Real>(-rate)) {
    load_lanes(kRoots.of, low_);
    load_lanes(kRoots.of + kCount, high_);
  }

  void operator()(const V& squares, V& out) const {
    V shifted, rest, root, series, scaled;
    // The last bits of a number this large count steps of the table.
    const V shift = V{} + static_cast<Real>(kShift);
    fuse(squares, rate_, shift, shifted);
    const V steps = shifted - shift;
    subtract_fused(squares, rate_, steps, rest);
    pick_root(shifted, root);
    series = V{} + static_cast<Real>(kPowers[kTerms - 1]);
#pragma GCC unroll 4
    for (int i = kTerms - 2; i >= 0; --i) {
      fuse(series, rest, V{} + static_cast<Real>(kPowers[i]), series);
    }
    scaled = root * rest;
    fuse(scaled, series, root, scaled);
    scale_by_power(scaled, steps, out);
  }

 private:
  static constexpr int kCount = Vectors<Real>::kCount, kTerms = kCount == 16 ? 2 : 4;
  static constexpr double kShift = kCount == 16 ? 0x1.8p18 : 0x1.8p48;
  // 2^r = 1 + sum c_i r^i with c_i = (ln 2)^i / i!, where the first power left out, r^3 (r^5), is
  // replaced by what lies nearest to it on [-R, R]: 3/4 R^2 r (5/4 R^2 r^3 - 5/16 R^4 r).
  static constexpr double kCubed = 0x1.c6b08d704a0c0p-5, kFifth = 0x1.5d87fe78a6731p-10;
  static constexpr double kPowers[4] = {
      0x1.62e42fefa39efp-1 + (kCount == 16 ? 0.75 * 0x1p-12 * kCubed : -0.3125 * 0x1p-20 * kFifth),
      0x1.ebfbdff82c58fp-3, kCubed + 1.25 * 0x1p-10 * kFifth, 0x1.3b2ab6fba4e77p-7};
  struct Roots {
    alignas(64) Real of[2 * kCount];
    constexpr Roots() : of() {
      // 2^(1/32), and by repeated multiplication its powers: 32 roundings of a double.
      double power = 1;
      for (int i = 0; i < 2 * kCount; ++i) {
        of[i] = static_cast<Real>(power);
        power *= kCount == 16 ? 0x1.059b0d3158574p+0 : 0x1.0b5586cf9890fp+0;
      }
    }
  };
  static constexpr Roots kRoots{};

  void pick_root(const Lanes& index, Lanes& out) const {
    out = _mm512_permutex2var_ps(low_, _mm512_castps_si512(index), high_);
  }
  void pick_root(const WideLanes& index, WideLanes& out) const {
    out = _mm512_permutex2var_pd(low_, _mm512_castpd_si512(index), high_);
  }
  static void subtract_fused(const Lanes& a, const Lanes& b, const Lanes& c, Lanes& out) {
    out = _mm512_fmsub_ps(a, b, c);
  }
  static void subtract_fused(const WideLanes& a, const WideLanes& b, const WideLanes& c,
                             WideLanes& out) {
    out = _mm512_fmsub_pd(a, b, c);
  }
  static void scale_by_power(const Lanes& a, const Lanes& power, Lanes& out) {
    out = _mm512_scalef_ps(a, power);
  }
  static void scale_by_power(const WideLanes& a, const WideLanes& power, WideLanes& out) {
    out = _mm512_scalef_pd(a, power);
  }

  V rate_, low_, high_;
#else
  explicit Decay(double rate) : rate_(V{} + static_cast<Real>(-kLn2 * rate)) {}
  void operator()(const V& squares, V& out) const {
    exponential<Real>(squares * rate_, false, out);
  }

 private:
  V rate_;
#endif
};

// Adds a vector's lanes to partial sums, those of a float in two halves.
template <class Real>
inline void add_partials(const Real* lanes, double* partials) {
  // GCC would see that half of a vector is wanted in the end, and keep it in memory from the start.
  __asm__ volatile("" : : "r"(lanes) : "memory");
  constexpr int kCount = Vectors<Real>::kCount, kPart = kCount < kPartials ? kCount : kPartials;
  using Wide = typename Square<double, kPart>::V;
  Wide sum;
  __builtin_memcpy(&sum, partials, sizeof(sum));
  for (int first = 0; first < kCount; first += kPart) {
    typename Square<Real, kPart>::V part;
    __builtin_memcpy(&part, lanes + first, sizeof(part));
    sum += __builtin_convertvector(part, Wide);
  }
  __builtin_memcpy(partials, &sum, sizeof(sum));
}

// Raises a number to the largest of a vector's lanes.
template <class Real>
inline void raise(const Real* lanes, double& largest) {
  Real peak = lanes[0];
  for (int l = 1; l < Vectors<Real>::kCount; ++l) peak = peak < lanes[l] ? lanes[l] : peak;
  if (largest < static_cast<double>(peak)) largest = static_cast<double>(peak);
}

// In 1 and 2 dimensions the largest term would cost a tenth of the time.
bool tracks_largest(int d) { return d > 2; }

// A vector of columns in the arithmetic of the differences, which may be wider.
inline void load_columns(const float* p, Lanes& out) { load_lanes(p, out); }
inline void load_columns(const double* p, WideLanes& out) { load_lanes(p, out); }
inline void load_columns(const float* p, WideLanes& out) {
#if defined(FASTGEN_VECTOR_AVX512)
  out = _mm512_cvtps_pd(_mm256_loadu_ps(p));  // GCC would make it of two halves
#else
  Square<float, kLanes / 2>::V narrow;
  __builtin_memcpy(&narrow, p, sizeof(narrow));
  out = __builtin_convertvector(narrow, WideLanes);
#endif
}

// Squared distances of kRowsAtOnce rows to kWide vectors of columns, kSpan apart by feature.
template <class Real, int kFeatures, int kWide, class Column>
inline void take_differences(const Real* const* rows, const Vector<Real> (*held)[kRowsAtOnce],
                             int d, const Column* columns, Vector<Real> (*squares)[kWide]) {
  using V = Vector<Real>;
  constexpr int kCount = Vectors<Real>::kCount;
#pragma GCC unroll 4
  for (int f = 0; f < (kFeatures ? kFeatures : d); ++f) {
    V column[kWide];
#pragma GCC unroll 2
    for (int k = 0; k < kWide; ++k) load_columns(columns + f * kSpan + k * kCount, column[k]);
#pragma GCC unroll 4
    for (int r = 0; r < kRowsAtOnce; ++r) {
      V x;
      if constexpr (kFeatures > 0) {
        x = held[f][r];
      } else {
        repeat(rows[r][f], x);
      }
#pragma GCC unroll 2
      for (int k = 0; k < kWide; ++k) {
        const V t = column[k] - x;
        if (kFeatures > 0 && f == 0) {
          squares[r][k] = t * t;
        } else {
          fuse(t, t, squares[r][k], squares[r][k]);
        }
      }
    }
  }
}

// kFeatures is d, or 0 for any; then two vectors of columns hide the latency of the long sums.
template <class Real, int kFeatures>
void direct_sums_of(const DirectSums& task) {
  using V = Vector<Real>;
  constexpr int kCount = Vectors<Real>::kCount, kWide = kFeatures ? 1 : 2;
  constexpr bool kTracked = kFeatures == 0 || kFeatures > 2;
  const Decay<Real> decay(task.rate);
  for (int first = 0; first < task.row_count; first += kRowsAtOnce) {
    const Real* rows[kRowsAtOnce];
    V held[kFeatures ? kFeatures : 1][kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const int row = first + r < task.row_count ? first + r : task.row_count - 1;
      rows[r] = static_cast<const Real*>(task.rows) + static_cast<std::int64_t>(row) * task.d;
      for (int f = 0; f < kFeatures; ++f) repeat(rows[r][f], held[f][r]);
    }
    V sum[kRowsAtOnce] = {}, largest[kRowsAtOnce] = {};
    for (int block = 0; block < task.block_count; ++block) {
      const Real* columns = static_cast<const Real*>(task.blocks[block].columns);
      const Real* weights = static_cast<const Real*>(task.blocks[block].weights);
      for (int c = 0; c < kSpan; c += kWide * kCount) {
        V squares[kRowsAtOnce][kWide] = {};
        take_differences<Real, kFeatures, kWide>(rows, held, task.d, columns + c, squares);
#pragma GCC unroll 2
        for (int k = 0; k < kWide; ++k) {
          V weight;
          load_lanes(weights + c + k * kCount, weight);
#pragma GCC unroll 4
          for (int r = 0; r < kRowsAtOnce; ++r) {
            V term;
            decay(squares[r][k], term);
            if constexpr (kTracked) {
              const V weighted = weight * term;
              sum[r] = sum[r] + weighted;
              larger(largest[r], weighted, largest[r]);
            } else {
              fuse(weight, term, sum[r], sum[r]);
            }
          }
        }
      }
    }
    alignas(64) Real sums[kRowsAtOnce][kCount], peaks[kRowsAtOnce][kCount];
#pragma GCC unroll 4
    for (int r = 0; r < kRowsAtOnce; ++r) {
      store_lanes(sums[r], sum[r]);
      if constexpr (kTracked) store_lanes(peaks[r], largest[r]);
    }
    for (int r = 0; r < kRowsAtOnce && first + r < task.row_count; ++r) {
      add_partials(sums[r], task.partials + (first + r) * kPartials);
      if constexpr (kTracked) raise(peaks[r], task.largest[first + r]);
    }
  }
}

template <class Real>
void direct_sums(const DirectSums* task) {
  switch (task->d) {
    case 1:
      return direct_sums_of<Real, 1>(*task);
    case 2:
      return direct_sums_of<Real, 2>(*task);
    case 3:
      return direct_sums_of<Real, 3>(*task);
    default:
      return direct_sums_of<Real, 0>(*task);
  }
}

template <class Real>
void row_differences(const Differences* task) {
  constexpr int kCount = kLanes / 2, kWide = 2;  // two vectors hide the latency of the long sums
  const double* rows[kRowsAtOnce];
  for (int r = 0; r < kRowsAtOnce; ++r) {
    const int row = r < task->row_count ? r : task->row_count - 1;
    rows[r] = task->rows + static_cast<std::int64_t>(row) * task->d;
  }
  const Real* columns = static_cast<const Real*>(task->columns);
  for (int c = 0; c < kSpan; c += kWide * kCount) {
    WideLanes square[kRowsAtOnce][kWide] = {};
    take_differences<double, 0, kWide>(rows, nullptr, task->d, columns + c, square);
#pragma GCC unroll 4
    for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma GCC unroll 2
      for (int k = 0; k < kWide; ++k) {
        store_lanes(task->squares + r * kSpan + c + k * kCount, square[r][k]);
      }
    }
  }
}

// One exponential and its squares: kRates rates.
template <class Real, bool kWeighted, int kRates>
void accumulate_rates(const Accumulation& task, const Real* beyond, double rate, double* partials,
                      double* largest) {
  using V = Vector<Real>;
  constexpr int kCount = Vectors<Real>::kCount;
  const Decay<Real> decay(rate);
  const Real* weights = static_cast<const Real*>(task.weights);
  V sum[kRates] = {}, peak[kRates] = {};
  for (int c = 0; c < task.count; c += kCount) {
    V squares, term, weight;
    load_lanes(beyond + c, squares);
    decay(squares, term);
    if constexpr (kWeighted) load_lanes(weights + c, weight);
#pragma GCC unroll 4
    for (int k = 0; k < kRates; ++k) {
      if (k > 0) term = term * term;
      if constexpr (kWeighted) {
        const V weighted = weight * term;
        sum[k] = sum[k] + weighted;
        larger(peak[k], weighted, peak[k]);
      } else {
        sum[k] = sum[k] + term;
      }
    }
  }
  alignas(64) Real sums[kRates][kCount], peaks[kRates][kCount];
#pragma GCC unroll 4
  for (int k = 0; k < kRates; ++k) {
    store_lanes(sums[k], sum[k]);
    if constexpr (kWeighted) store_lanes(peaks[k], peak[k]);
  }
  for (int k = 0; k < kRates; ++k) {
    add_partials(sums[k], partials + k * kPartials);
    if constexpr (kWeighted) raise(peaks[k], largest[k]);
  }
}

template <class Real, bool kWeighted>
inline void accumulate_group(const Accumulation& task, const Real* beyond, const RateGroup& group,
                             double first_rate, double* partials, double* largest) {
  const double rate = group.rate / first_rate;
  switch (group.count) {
    case 1:
      return accumulate_rates<Real, kWeighted, 1>(task, beyond, rate, partials, largest);
    case 2:
      return accumulate_rates<Real, kWeighted, 2>(task, beyond, rate, partials, largest);
    case 3:
      return accumulate_rates<Real, kWeighted, 3>(task, beyond, rate, partials, largest);
    default:
      return accumulate_rates<Real, kWeighted, 4>(task, beyond, rate, partials, largest);
  }
}

// Where a number is in an array that has it.
inline int place_of(double value, const double* numbers) {
  int place = 0;
#if defined(FASTGEN_VECTOR_AVX512)
  const __m512d wanted = _mm512_set1_pd(value);
  unsigned found = 0;
  for (;; place += 8) {
    found = _mm512_cmp_pd_mask(_mm512_loadu_pd(numbers + place), wanted, _CMP_EQ_OQ);
    if (found != 0) return place + __builtin_ctz(found);
  }
#else
  while (numbers[place] != value) ++place;
  return place;
#endif
}

// Lowers the anchor of a row's sums.
inline void lower_anchor(const Accumulation& task, double anchor) {
  AnchoredSums& sums = *task.sums;
  const double fall = sums.anchor - anchor;
  int b = 0;
  for (int g = 0; g < task.group_count; ++g) {
    double rate = task.groups[g].rate;
    for (int k = 0; k < task.groups[g].count; ++k, ++b, rate += rate) {
      WideLanes factor;
      const double exponent = rate * fall * -kLn2;
      exponential<double>(WideLanes{} + exponent, false, factor);
      // Its argument is cut off where the result would be subnormal.
      const double power = exponent < -708 ? 0.0 : factor[0];
      for (int l = 0; l < kPartials; ++l) sums.partials[b * kPartials + l] *= power;
      // Without weights that is the term of the anchor.
      sums.largest[b] = task.weights ? sums.largest[b] * power : 1.0;
    }
  }
  sums.anchor = anchor;
}

template <class Real>
void accumulate(const Accumulation* task) {
  constexpr int kCount = kLanes / 2;
  WideLanes least[4] = {};  // four, or each would wait for the one before
  for (WideLanes& one : least) one = one + kNoSample;
  for (int c = 0; c < task->count; c += 4 * kCount) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int place = c + k * kCount < task->count ? c + k * kCount : c;
      WideLanes squares;
      load_lanes(task->squares + place, squares);
      smaller(least[k], squares, least[k]);
    }
  }
  smaller(least[0], least[1], least[0]);
  smaller(least[2], least[3], least[2]);
  smaller(least[0], least[2], least[0]);
  double nearest = least[0][0];
  for (int l = 1; l < kCount; ++l) nearest = least[0][l] < nearest ? least[0][l] : nearest;
  if (nearest >= kNoSample) return;
  AnchoredSums& sums = *task->sums;
  if (nearest < sums.anchor) {
    lower_anchor(*task, nearest);
    sums.place = place_of(nearest, task->squares);
  }

  // How far beyond the anchor, in units of the first bandwidth.
  const double first_rate = task->groups[0].rate;
  alignas(64) Real beyond[kSpan];
  const WideLanes rate = WideLanes{} + first_rate, anchor = WideLanes{} + sums.anchor;
  const WideLanes far = WideLanes{} + 0x1p30;
  for (int c = 0; c < task->count; c += kCount) {
    WideLanes squares;
    load_lanes(task->squares + c, squares);
    squares = (squares - anchor) * rate;  // exactly 0 for the anchor, however far it is
    smaller(squares, far, squares);
    const auto narrow = __builtin_convertvector(squares, typename Square<Real, kCount>::V);
    __builtin_memcpy(beyond + c, &narrow, sizeof(narrow));
  }
  const double gap = nearest - sums.anchor;
  int b = 0;
  for (int g = 0; g < task->group_count; ++g) {
    const RateGroup& group = task->groups[g];
    if (gap * group.rate > task->reach) break;  // rates ascend
    if (task->weights) {
      accumulate_group<Real, true>(*task, beyond, group, first_rate, sums.partials + b * kPartials,
                                   sums.largest + b);
    } else {
      accumulate_group<Real, false>(*task, beyond, group, first_rate, sums.partials + b * kPartials,
                                    nullptr);
    }
    b += group.count;
  }
}
