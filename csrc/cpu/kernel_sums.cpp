#include "cpu/kernel_sums.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

constexpr std::int64_t kRowsPerTask = kRun;
// Column sums are kept per block and added in block order, so the centre does not depend on threads.
constexpr std::int64_t kMaxBlocks = 128;
constexpr std::int64_t kMinBlockRows = 256;
// Squares of values beyond this would leave float64.
constexpr double kLargestValue = 0x1p480;

std::int64_t blocks_of(std::int64_t items, std::int64_t size) { return (items + size - 1) / size; }

// The grid of sums whose single terms, runs of values, are at most `bound`: 2^37 units.
double grid(double bound) {
  if (!(bound > 0)) return 1.0;
  int exponent = 0;
  std::frexp(bound, &exponent);
  return std::ldexp(1.0, 37 - exponent);
}

double from_limbs(std::int64_t high, std::int64_t low, double scale) {
  __extension__ using Wide = __int128;
  const Wide whole = (static_cast<Wide>(high) << 37) + low;
  return static_cast<double>(whole) * 0x1p-37 / scale;
}

void add(std::int64_t& total, std::int64_t value) {
  __atomic_fetch_add(&total, value, __ATOMIC_RELAXED);
}

// |x|; squares of what is scaled neither overflow nor vanish.
double norm_of(const double* x, std::int64_t d) {
  double largest = 0, sum = 0;
  for (std::int64_t i = 0; i < d; ++i) largest = std::max(largest, std::fabs(x[i]));
  if (largest == 0) return 0;
  int exponent = 0;
  std::frexp(largest, &exponent);
  const double down = std::ldexp(1.0, -exponent / 2), rest = std::ldexp(1.0, -exponent) / down;
  for (std::int64_t i = 0; i < d; ++i) {
    const double value = x[i] * down * rest;
    sum += value * value;
  }
  return std::sqrt(sum) / down / rest;
}

}  // namespace

KernelSums::Worker::Worker(std::int64_t d, int labels) {
  packed_rows.reset(kTile * kTileDepth);
  packed_columns.reset(kTile * kTileDepth);
  products.reset(kTile * kTile);
  // One row more than a run: the micro-kernel reads past the last one's end.
  values.reset((labels > 0 ? kRun + 1 : 1) * kTile);
  scratch.reset(kSumScratch);
  partials.reset(8 * kTile);
  run_sums.reset(kTile / kRun * kTile);
  row.reset(d);
  limbs.reset(4 * kTile + 2 * labels);
}

KernelSums::KernelSums(const RowView& x, const RowView* y,
                       std::vector<std::vector<KernelTerm>> kernels, const SumSubsets& subsets,
                       const std::int8_t* labels, int label_count, const SumOptions& options,
                       const Kernels& table)
    : y_given_(y != nullptr),
      kernels_(std::move(kernels)),
      subsets_(subsets),
      label_count_(labels ? label_count : 0),
      options_(options),
      table_(&table),
      d_(x.d),
      given_labels_(labels) {
  FASTGEN_CHECK(options.block % kRun == 0 && 0 < options.block && options.block <= kTile);
  FASTGEN_CHECK(!kernels_.empty() && subsets.count >= 1 && options.threads >= 1);
  FASTGEN_CHECK(!labels || (subsets.count == 1 && y_given_ && options.within));
  sets_[0].rows = x;
  if (y) sets_[1].rows = *y;
  FASTGEN_CHECK(!y || y->d == d_);
  for (int s = 0; s < sets(); ++s) {
    const std::int64_t n = sets_[s].rows.n, size = subset_size(s);
    const std::int64_t* index = s == 0 ? subsets_.x : subsets_.y;
    FASTGEN_CHECK(size >= 1 && (index || (size == n && subsets.count == 1)));
    for (std::int64_t i = 0; index && i < subsets.count * size; ++i) {
      FASTGEN_CHECK(0 <= index[i] && index[i] < n);
    }
    sets_[s].factor.assign(n, 1.0);
    sets_[s].square.assign(n, 0.0);
    sets_[s].along.assign(n, 0.0);
  }
  float64_ = options.float64 || x.dtype == DType::float64 || (y && y->dtype == DType::float64);
  for (int i = 0; i < options.threads; ++i) {
    workers_.push_back(std::make_unique<Worker>(d_, label_count_));
  }
  begin_phase(options.normalise ? Phase::norms : Phase::scan);
}

void KernelSums::begin_phase(Phase phase) {
  phase_ = phase;
  std::int64_t count = 0;
  for (int s = 0; s < sets(); ++s) {
    Set& set = sets_[s];
    switch (phase) {
      case Phase::norms:
      case Phase::terms:
        count += blocks_of(set.rows.n, kRowsPerTask);
        break;
      case Phase::scan: {
        const std::int64_t n = std::max(sets_[0].rows.n, y_given_ ? sets_[1].rows.n : 0);
        block_rows_ = std::max(kMinBlockRows, blocks_of(n, kMaxBlocks));
        const std::int64_t blocks = blocks_of(set.rows.n, block_rows_);
        set.block_sum.assign(blocks, {});
        set.block_low = set.block_high = set.block_sum;
        count += blocks;
        break;
      }
      default:
        break;
    }
  }
  if (phase == Phase::tiles) {
    for (const Segment& segment : segments_) {
      count = segment.first_tile + (segment.symmetric
                                        ? segment.row_blocks * (segment.row_blocks + 1) / 2
                                        : segment.row_blocks * segment.column_blocks);
    }
  }
  tasks_.reset(count);
}

double KernelSums::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  while (!done()) {
    const bool finished =
        run_tasks(tasks_, options_.threads, deadline, [&](int worker, std::int64_t task) {
          switch (phase_) {
            case Phase::norms:
              return norms_task(worker, task);
            case Phase::scan:
              return scan_task(task);
            case Phase::terms:
              return terms_task(worker, task);
            default:
              return tile_task(worker, task);
          }
        });
    if (!finished) break;
    finish_phase();
  }
  if (done()) return 1.0;
  return phase_ == Phase::tiles ? std::min(tasks_.fraction(), 1.0 - 1e-9) : 0.0;
}

void KernelSums::finish_phase() {
  switch (phase_) {
    case Phase::norms: {
      for (int s = 0; s < sets(); ++s) {
        const std::vector<double>& factor = sets_[s].factor;
        const auto bad = std::find(factor.begin(), factor.end(), 0.0);
        if (bad != factor.end()) zero_row_[s] = bad - factor.begin();
        for (const double f : factor) float64_ = float64_ || f > 0x1p100 || f < 0x1p-100;
      }
      if (zero_row_[0] >= 0 || zero_row_[1] >= 0) return begin_phase(Phase::done);
      // Unit vectors need no centre: float32 holds their squared distances to 2^-22.
      mean_.assign(d_, 0.0);
      data_.unit = 1.0;
      place_centre();
      return begin_phase(Phase::terms);
    }
    case Phase::scan:
      find_centre();
      place_centre();
      return begin_phase(Phase::terms);
    case Phase::terms:
      if (!resolve_terms()) {  // float32 will not do: everything in its units again
        float64_ = true;
        place_centre();
        return begin_phase(Phase::terms);
      }
      if (overflow_) return begin_phase(Phase::done);
      lay_out();
      set_grids();
      return begin_phase(Phase::tiles);
    default:
      return begin_phase(Phase::done);
  }
}

void KernelSums::norms_task(int worker, std::int64_t task) {
  const std::int64_t first = blocks_of(sets_[0].rows.n, kRowsPerTask);
  Set& set = sets_[task < first ? 0 : 1];
  const std::int64_t begin = (task < first ? task : task - first) * kRowsPerTask;
  double* row = workers_[worker]->row.data();
  for (std::int64_t i = begin; i < std::min(set.rows.n, begin + kRowsPerTask); ++i) {
    table_->to_double(set.rows.row(i), set.rows.dtype, d_, row);
    const double norm = norm_of(row, d_);
    set.factor[i] = norm > 0 ? 1 / norm : 0.0;
  }
}

void KernelSums::scan_task(std::int64_t task) {
  const std::int64_t first = static_cast<std::int64_t>(sets_[0].block_sum.size());
  Set& set = sets_[task < first ? 0 : 1];
  const std::int64_t block = task < first ? task : task - first;
  std::vector<double> sum(d_, 0.0), low(d_, std::numeric_limits<double>::infinity());
  std::vector<double> high(d_, -std::numeric_limits<double>::infinity());
  const std::int64_t begin = block * block_rows_;
  for (std::int64_t i = begin; i < std::min(set.rows.n, begin + block_rows_); ++i) {
    table_->scan_row(set.rows.row(i), set.rows.dtype, d_, sum.data(), low.data(), high.data());
  }
  set.block_sum[block] = std::move(sum);
  set.block_low[block] = std::move(low);
  set.block_high[block] = std::move(high);
}

// The mean of both sets, and a power of two that brings every |z| below 1.
void KernelSums::find_centre() {
  std::vector<double> low(d_, std::numeric_limits<double>::infinity());
  std::vector<double> high(d_, -std::numeric_limits<double>::infinity());
  std::vector<double> sums[2];
  double rows = 0;
  for (int s = 0; s < sets(); ++s) {
    Set& set = sets_[s];
    sums[s].assign(d_, 0.0);
    for (std::size_t block = 0; block < set.block_sum.size(); ++block) {
      for (std::int64_t i = 0; i < d_; ++i) {
        sums[s][i] += set.block_sum[block][i];
        low[i] = std::min(low[i], set.block_low[block][i]);
        high[i] = std::max(high[i], set.block_high[block][i]);
      }
    }
    set.block_sum = set.block_low = set.block_high = {};
    rows += static_cast<double>(set.rows.n);
  }
  mean_.assign(d_, 0.0);
  double widest = 0;
  for (std::int64_t i = 0; i < d_; ++i) {
    mean_[i] = (y_given_ ? sums[0][i] + sums[1][i] : sums[0][i]) / rows;
    widest = std::max(widest, std::max(high[i] - mean_[i], mean_[i] - low[i]));
  }
  data_.unit = 1.0;
  if (widest > 0) {
    double square = 0;
    for (std::int64_t i = 0; i < d_; ++i) {
      const double share = std::max(high[i] - mean_[i], mean_[i] - low[i]) / widest;
      square += share * share;
    }
    int exponent = 0, more = 0;
    std::frexp(widest, &exponent);
    std::frexp(std::sqrt(square), &more);
    data_.unit = std::ldexp(1.0, -std::max(exponent + more, -1000));
  }
  for (int s = 0; s < sets(); ++s) {
    std::fill(sets_[s].factor.begin(), sets_[s].factor.end(), data_.unit);
  }
}

void KernelSums::place_centre() {
  centre_.reset(d_);  // zeroed; float32 fills its first half
  data_.centre_square = 0;
  for (std::int64_t i = 0; i < d_; ++i) {
    const double exact = mean_[i] * data_.unit;
    const float narrow = static_cast<float>(exact);
    const double centre = float64_ ? exact : static_cast<double>(narrow);
    if (float64_) {
      centre_[i] = exact;
    } else {
      reinterpret_cast<float*>(centre_.data())[i] = narrow;
    }
    data_.centre_square += centre * centre;
  }
}

void KernelSums::terms_task(int index, std::int64_t task) {
  const std::int64_t first = blocks_of(sets_[0].rows.n, kRowsPerTask);
  Set& set = sets_[task < first ? 0 : 1];
  const std::int64_t begin = (task < first ? task : task - first) * kRowsPerTask;
  const int count = static_cast<int>(std::min(kRowsPerTask, set.rows.n - begin));
  const void* rows[kRowsPerTask];
  for (int i = 0; i < count; ++i) rows[i] = set.rows.row(begin + i);
  const TileSide side{rows, set.factor.data() + begin, set.rows.dtype, count};
  Worker& worker = *workers_[index];
  const Tile tile{side,
                  side,
                  d_,
                  centre_.data(),
                  true,
                  worker.packed_rows.data(),
                  worker.packed_columns.data(),
                  worker.products.data()};
  sum_kernels().multiply(&tile);
  for (int i = 0; i < count; ++i) {
    const std::int64_t place = static_cast<std::int64_t>(i) * kTile + i;
    set.square[begin + i] =
        float64_ ? worker.products[place]
                 : static_cast<double>(reinterpret_cast<float*>(worker.products.data())[place]);
    set.along[begin + i] = sum_kernels().along(side, i, centre_.data(), d_);
  }
}

bool KernelSums::resolve_terms() {
  data_.mean_square = data_.peak_square = data_.peak_along = 0;
  double rows = 0;
  for (int s = 0; s < sets(); ++s) {
    double sum = 0;
    for (std::int64_t i = 0; i < sets_[s].rows.n; ++i) {
      sum += sets_[s].square[i];
      data_.peak_square = std::max(data_.peak_square, sets_[s].square[i]);
      data_.peak_along = std::max(data_.peak_along, std::fabs(sets_[s].along[i]));
    }
    data_.mean_square += sum;
    rows += static_cast<double>(sets_[s].rows.n);
  }
  data_.mean_square /= rows;
  terms_.clear();
  distances_.clear();
  look_.clear();
  for (const std::vector<KernelTerm>& kernel : kernels_) {
    std::vector<SumTerm> terms;
    bool distances = false, look = false;
    double bound = 0;
    for (const KernelTerm& given : kernel) {
      terms.push_back(resolve_term(given, data_));
      const SumTerm& term = terms.back();
      if (!float64_ && needs_float64(term, data_)) return false;
      distances = distances || needs_distances(term);
      look = look || needs_look(term, data_, float64_);
      bound += term_bound(term, data_.peak_square, data_.peak_along, data_);
    }
    overflow_ = overflow_ || !(bound < kLargestValue);
    terms_.push_back(std::move(terms));
    distances_.push_back(distances);
    look_.push_back(look);
  }
  return true;
}

KernelSums::Part KernelSums::part(std::int64_t subset, int set) const {
  const std::int64_t x_slots = blocks_of(subsets_.x_size, kRun) * kRun;
  return {set, subset * subset_slots_ + (set == 0 ? 0 : x_slots), subset_size(set)};
}

// Gives every row of every subset its slot, and lists what meets what.
void KernelSums::lay_out() {
  subset_slots_ = 0;
  for (int s = 0; s < sets(); ++s) subset_slots_ += blocks_of(subset_size(s), kRun) * kRun;
  slots_ = subsets_.count * subset_slots_;
  row_.assign(slots_, nullptr);
  factor_.assign(slots_, 0.0);
  square_.assign(slots_, 0.0);
  along_.assign(slots_, 0.0);
  labels_.assign(static_cast<std::size_t>(label_count_) * slots_, 0);
  std::int64_t pooled = 0;
  for (int s = 0; s < sets(); ++s) {
    const Set& set = sets_[s];
    const std::int64_t* index = s == 0 ? subsets_.x : subsets_.y;
    for (std::int64_t g = 0; g < subsets_.count; ++g) {
      const Part p = part(g, s);
      for (std::int64_t i = 0; i < p.size; ++i) {
        const std::int64_t row = index ? index[g * p.size + i] : i;
        row_[p.begin + i] = set.rows.row(row);
        factor_[p.begin + i] = set.factor[row];
        square_[p.begin + i] = set.square[row];
        along_[p.begin + i] = set.along[row];
        for (int l = 0; l < label_count_; ++l) {
          const std::int64_t all = sets_[0].rows.n + sets_[1].rows.n;
          labels_[l * slots_ + p.begin + i] = given_labels_[l * all + pooled + i];
        }
      }
    }
    pooled += set.rows.n;
  }
  const bool within = options_.within || !y_given_;
  std::int64_t tiles = 0;
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    for (int s = 0; s < sets(); ++s) {
      for (int t = s; t < sets(); ++t) {
        if (s == t && !within) continue;
        Segment segment{part(g, s), part(g, t), s == t, tiles, 0, 0};
        segment.row_blocks = blocks_of(segment.rows.size, options_.block);
        segment.column_blocks = blocks_of(segment.columns.size, options_.block);
        tiles += segment.symmetric ? segment.row_blocks * (segment.row_blocks + 1) / 2
                                   : segment.row_blocks * segment.column_blocks;
        segments_.push_back(segment);
      }
    }
  }
}

void KernelSums::set_grids() {
  for (const std::vector<SumTerm>& terms : terms_) {
    Totals totals;
    totals.scale.assign(slots_, 1.0);
    double largest = 0;
    for (std::int64_t i = 0; i < slots_; ++i) {
      double bound = 0;
      for (const SumTerm& term : terms) bound += term_bound(term, square_[i], along_[i], data_);
      largest = std::max(largest, bound);
      totals.scale[i] = grid(kRun * bound);
    }
    totals.square_scale = grid(2 * kRun * largest * largest);
    totals.form_scale = grid(2.0 * kRun * kRun * largest);
    totals.high.assign(2 * slots_, 0);
    totals.low.assign(2 * slots_, 0);
    totals.square_high.assign(segments_.size(), 0);
    totals.square_low.assign(segments_.size(), 0);
    totals.form_high.assign(label_count_, 0);
    totals.form_low.assign(label_count_, 0);
    totals.diagonal.assign(slots_, 0.0);
    totals_.push_back(std::move(totals));
  }
}

void KernelSums::tile_task(int index, std::int64_t task) {
  const auto after = std::upper_bound(
      segments_.begin(), segments_.end(), task,
      [](std::int64_t tile, const Segment& segment) { return tile < segment.first_tile; });
  const std::int64_t place = after - segments_.begin() - 1;
  const Segment& segment = segments_[place];
  std::int64_t row_block = 0, column_block = task - segment.first_tile;
  if (segment.symmetric) {
    while (column_block >= segment.row_blocks - row_block) {
      column_block -= segment.row_blocks - row_block;
      ++row_block;
    }
    column_block += row_block;
  } else {
    row_block = column_block / segment.column_blocks;
    column_block %= segment.column_blocks;
  }
  const std::int64_t block = options_.block;
  const std::int64_t row = segment.rows.begin + row_block * block;
  const std::int64_t column = segment.columns.begin + column_block * block;
  const int rows = static_cast<int>(std::min(block, segment.rows.begin + segment.rows.size - row));
  const int columns =
      static_cast<int>(std::min(block, segment.columns.begin + segment.columns.size - column));
  const int row_set = segment.rows.set, column_set = segment.columns.set;

  Worker& worker = *workers_[index];
  const Tile tile{
      {row_.data() + row, factor_.data() + row, sets_[row_set].rows.dtype, rows},
      {row_.data() + column, factor_.data() + column, sets_[column_set].rows.dtype, columns},
      d_,
      centre_.data(),
      segment.symmetric && row_block == column_block,
      worker.packed_rows.data(),
      worker.packed_columns.data(),
      worker.products.data()};
  sum_kernels().multiply(&tile);

  std::int64_t* limbs = worker.limbs.data();
  std::int64_t* forms = limbs + 4 * kTile;
  for (std::size_t k = 0; k < terms_.size(); ++k) {
    Totals& totals = totals_[k];
    std::fill(forms, forms + 2 * label_count_, 0);
    SumTile sums{};
    sums.tile = &tile;
    sums.terms = terms_[k].data();
    sums.term_count = static_cast<int>(terms_[k].size());
    sums.symmetric = segment.symmetric;
    sums.distances = distances_[k] != 0;
    sums.look = look_[k] != 0;
    sums.row_square = square_.data() + row;
    sums.column_square = square_.data() + column;
    sums.row_along = along_.data() + row;
    sums.column_along = along_.data() + column;
    sums.row_scale = totals.scale.data() + row;
    sums.column_scale = totals.scale.data() + column;
    sums.square_scale = totals.square_scale;
    sums.form_scale = totals.form_scale;
    sums.labels = label_count_;
    sums.label_stride = slots_;
    sums.row_labels = labels_.data() + row;
    sums.column_labels = labels_.data() + column;
    sums.values = worker.values.data();
    sums.scratch = worker.scratch.data();
    sums.partials = worker.partials.data();
    sums.run_sums = worker.run_sums.data();
    sums.row_sums = {limbs, limbs + kTile};
    sums.column_sums = {limbs + 2 * kTile, limbs + 3 * kTile};
    sums.forms = {forms, forms + label_count_};
    sums.diagonal = totals.diagonal.data() + row;
    sum_kernels().sum(&sums);

    const std::int64_t row_place = column_set * slots_ + row;
    for (int r = 0; r < rows; ++r) {
      add(totals.high[row_place + r], sums.row_sums.high[r]);
      add(totals.low[row_place + r], sums.row_sums.low[r]);
    }
    const std::int64_t column_place = row_set * slots_ + column;
    for (int c = 0; c < columns; ++c) {
      add(totals.high[column_place + c], sums.column_sums.high[c]);
      add(totals.low[column_place + c], sums.column_sums.low[c]);
    }
    add(totals.square_high[place], sums.square_high);
    add(totals.square_low[place], sums.square_low);
    for (int l = 0; l < label_count_; ++l) {
      add(totals.form_high[l], forms[l]);
      add(totals.form_low[l], forms[label_count_ + l]);
    }
  }
}

void KernelSums::row_sums(int kernel, int set, int other, double* out) const {
  const Totals& totals = totals_[kernel];
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const Part p = part(g, set);
    for (std::int64_t i = p.begin; i < p.begin + p.size; ++i) {
      *out++ = from_limbs(totals.high[other * slots_ + i], totals.low[other * slots_ + i],
                          totals.scale[i]);
    }
  }
}

void KernelSums::diagonal(int kernel, int set, double* out) const {
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const Part p = part(g, set);
    out = std::copy_n(totals_[kernel].diagonal.data() + p.begin, p.size, out);
  }
}

void KernelSums::shift(int kernel, int set, double* out) const {
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const Part p = part(g, set);
    for (std::int64_t i = p.begin; i < p.begin + p.size; ++i) {
      double sum = 0;
      for (const SumTerm& term : terms_[kernel]) sum += term_shift(term, along_[i]);
      *out++ = sum;
    }
  }
}

void KernelSums::squares(int kernel, int set, int other, double* out) const {
  const Totals& totals = totals_[kernel];
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i].rows.set == set && segments_[i].columns.set == other) {
      *out++ = from_limbs(totals.square_high[i], totals.square_low[i], totals.square_scale);
    }
  }
}

void KernelSums::forms(int kernel, double* out) const {
  const Totals& totals = totals_[kernel];
  for (int l = 0; l < label_count_; ++l) {
    out[l] = from_limbs(totals.form_high[l], totals.form_low[l], totals.form_scale);
  }
}

}  // namespace fastgen::cpu
