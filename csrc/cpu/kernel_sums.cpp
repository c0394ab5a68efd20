#include "cpu/kernel_sums.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// Squares of values beyond this would leave float64.
constexpr double kLargestValue = 0x1p480;

// The grid of sums whose terms, sums of runs, are at most `bound`: 2^37 units.
double grid(double bound) {
  if (!(bound > 0)) return 1.0;
  int exponent = 0;
  std::frexp(bound, &exponent);
  return std::ldexp(1.0, std::min(37 - exponent, 1000));
}

// The same for a total of at most `total`, which has to stay below 2^62 units.
double grid(double bound, double total) { return std::min(grid(bound), grid(total) * 0x1p24); }

double from_limbs(std::int64_t high, std::int64_t low, double scale) {
  __extension__ using Wide = __int128;
  const Wide whole = static_cast<Wide>(high) * (std::int64_t{1} << 37) + low;
  return static_cast<double>(whole) * 0x1p-37 / scale;
}

void add(std::int64_t& total, std::int64_t value) {
  __atomic_fetch_add(&total, value, __ATOMIC_RELAXED);
}

// For totals of more tiles than a low limb has room for.
void add_carried(std::int64_t& high, std::int64_t& low, std::int64_t tile_high,
                 std::int64_t tile_low) {
  constexpr std::int64_t kCarry = std::int64_t{1} << 37;
  const std::int64_t rest = (tile_low % kCarry + kCarry) % kCarry;
  add(high, tile_high + (tile_low - rest) / kCarry);
  add(low, rest);
}

}  // namespace

KernelSums::Worker::Worker(int labels) {
  products.reset(kTile * kTile);
  // One row more than a run: the micro-kernel reads past the last one's end.
  values.reset((labels > 0 ? kRun + 1 : 1) * kTile);
  scratch.reset(kSumScratch);
  partials.reset(8 * kTile);
  run_sums.reset(kTile / kRun * kTile);
  limbs.reset(4 * kTile + 2 * labels);
}

KernelSums::KernelSums(const RowView& x, const RowView* y,
                       std::vector<std::vector<KernelTerm>> kernels, const SumSubsets& subsets,
                       const std::int8_t* labels, int label_count, const SumOptions& options,
                       const Kernels& table)
    : rows_(x, y, options.normalise, options.float64, 0, table, options.threads),
      kernels_(std::move(kernels)),
      subsets_(subsets),
      given_labels_(labels),
      label_count_(labels ? label_count : 0),
      options_(options),
      d_(x.d) {
  FASTGEN_CHECK(options.block % kRun == 0 && 0 < options.block && options.block <= kTile);
  FASTGEN_CHECK(!kernels_.empty() && subsets.count >= 1);
  FASTGEN_CHECK(!labels || (!subsets.x && y && options.within));
  options_.within = options.within || !y;
  for (int s = 0; s < rows_.sets(); ++s) {
    const std::int64_t n = rows_.rows(s).n, size = subset_size(s);
    const std::int64_t* index = s == 0 ? subsets_.x : subsets_.y;
    FASTGEN_CHECK(size >= 1 && (index || (size == n && subsets.count == 1)));
    for (std::int64_t i = 0; index && i < subsets.count * size; ++i) {
      FASTGEN_CHECK(0 <= index[i] && index[i] < n);
    }
  }
  for (int i = 0; i < options.threads; ++i) {
    workers_.push_back(std::make_unique<Worker>(label_count_));
  }
}

double KernelSums::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  if (phase_ == Phase::rows) {
    if (!rows_.advance(deadline)) return 0.0;
    if (zero_row(0) >= 0 || zero_row(1) >= 0) {
      phase_ = Phase::done;
    } else if (!resolve_terms()) {
      rows_.use_float64();
      return 0.0;
    } else if (overflow_) {
      phase_ = Phase::done;
    } else {
      lay_out();
      set_grids();
      next_stage();
    }
  }
  while (!done()) {
    const bool packing = phase_ == Phase::pack;
    const bool finished =
        run_tasks(tasks_, options_.threads, deadline, [&](int worker, std::int64_t task) {
          return packing ? pack_task(task) : tile_task(worker, task);
        });
    if (!finished) break;
    if (packing) {
      phase_ = Phase::tiles;
      tasks_.reset(static_cast<std::int64_t>(pairs_.size()));
    } else {
      next_stage();
    }
  }
  if (done()) return 1.0;
  double stage = 0;
  if (phase_ == Phase::tiles) {
    const std::int64_t dealt = std::min(tasks_.next.load(), tasks_.count);
    for (std::int64_t i = 0; i < dealt; ++i) stage += cost(pairs_[i]);
  }
  return std::min((done_pairs_ + stage) / total_pairs_, 1.0 - 1e-9);
}

bool KernelSums::resolve_terms() {
  terms_.clear();
  distances_.clear();
  look_.clear();
  const SumData& data = rows_.data();
  overflow_ = !std::isfinite(data.mean_square);
  for (const std::vector<KernelTerm>& kernel : kernels_) {
    std::vector<SumTerm> terms;
    bool distances = false, look = false;
    for (const KernelTerm& given : kernel) {
      terms.push_back(resolve_term(given, data));
      const SumTerm& term = terms.back();
      if (!rows_.float64() && needs_float64(term, data)) return false;
      distances = distances || needs_distances(term);
      look = look || needs_look(term, data, rows_.float64());
    }
    for (int s = 0; s < rows_.sets(); ++s) {
      for (int t = 0; t < rows_.sets(); ++t) {
        overflow_ = overflow_ || !(largest_value(terms, s, t) < kLargestValue);
      }
    }
    terms_.push_back(std::move(terms));
    distances_.push_back(distances);
    look_.push_back(look);
  }
  return true;
}

std::int64_t KernelSums::part_begin(std::int64_t subset, int set) const {
  return subset * subset_slots_ + (set == 0 ? 0 : blocks_of(subsets_.x_size, kRun) * kRun);
}

// Gives every row of every subset its slot, and divides slots into blocks and windows.
void KernelSums::lay_out() {
  subset_slots_ = 0;
  for (int s = 0; s < rows_.sets(); ++s) subset_slots_ += blocks_of(subset_size(s), kRun) * kRun;
  slots_ = subsets_.count * subset_slots_;
  row_.assign(slots_, nullptr);
  factor_.assign(slots_, 0.0);
  square_.assign(slots_, 0.0);
  along_.assign(slots_, 0.0);
  spread_.assign(slots_, 1.0f);
  labels_.assign(static_cast<std::size_t>(label_count_) * slots_, 0);

  const auto [rows, bytes] = rows_.packed_block(options_.block, kRun);
  block_bytes_ = bytes;

  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    std::int64_t pooled = 0;
    for (int s = 0; s < rows_.sets(); ++s) {
      const std::int64_t* index = s == 0 ? subsets_.x : subsets_.y;
      const std::int64_t size = subset_size(s), begin = part_begin(g, s);
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t row = index ? index[g * size + i] : i, slot = begin + i;
        row_[slot] = rows_.rows(s).row(row);
        factor_[slot] = rows_.factor(s, row);
        square_[slot] = rows_.square(s, row);
        along_[slot] = rows_.along(s, row);
        spread_[slot] = rows_.spread(s, row);
      }
      for (int l = 0; l < label_count_; ++l) {
        const std::int8_t* from = given_labels_ + l * (rows_.rows(0).n + rows_.rows(1).n) + pooled;
        std::copy_n(from, size, labels_.data() + l * slots_ + begin);
      }
      pooled += size;
      for (std::int64_t i = 0; i < size; i += rows) {
        blocks_.push_back({begin + i, static_cast<int>(std::min(rows, size - i)), s, g});
      }
    }
  }
  const std::int64_t count = static_cast<std::int64_t>(blocks_.size());
  window_ = std::min(count, std::max<std::int64_t>(1, kWindowBytes / block_bytes_));
  // Whole subsets where they fit: then no window meets another.
  const std::int64_t of_subset = count / subsets_.count;
  if (window_ > of_subset) window_ -= window_ % of_subset;
  packed_[0].reset_unset(window_ * block_bytes_);
  if (window_ < count && window_ % of_subset != 0) packed_[1].reset_unset(window_ * block_bytes_);
  const double x = static_cast<double>(subsets_.x_size);
  const double y = rows_.sets() == 2 ? static_cast<double>(subsets_.y_size) : 0.0;
  total_pairs_ = (options_.within ? 0.5 * (x * x + y * y) : 0.0) + x * y;
  total_pairs_ *= static_cast<double>(subsets_.count);
}

// Bound on a kernel's values for a row of such numbers and any row of the set `other`.
double KernelSums::largest_value(const std::vector<SumTerm>& terms, double square, double along,
                                 int other) const {
  double bound = 0;
  for (const SumTerm& term : terms) bound += term_bound(term, square, along, rows_.data(), other);
  return bound;
}

// The same for any row of a set.
double KernelSums::largest_value(const std::vector<SumTerm>& terms, int set, int other) const {
  return largest_value(terms, rows_.data().peak_square[set], rows_.data().peak_along[set], other);
}

void KernelSums::set_grids() {
  for (const std::vector<SumTerm>& terms : terms_) {
    Totals totals;
    totals.scale.assign(slots_, 1.0);
    double largest = 0;
    for (int s = 0; s < rows_.sets(); ++s) {
      each_slot(s, [&](std::int64_t slot) {
        double bound = 0;
        for (int t = 0; t < rows_.sets(); ++t) {
          bound = std::max(bound, largest_value(terms, square_[slot], along_[slot], t));
        }
        totals.scale[slot] = grid(kRun * bound);
      });
      for (int t = s; t < rows_.sets(); ++t) {
        const double value = largest_value(terms, s, t), run = 2.0 * kRun * value * value;
        const double runs = static_cast<double>(subset_size(s)) *
                            static_cast<double>(blocks_of(subset_size(t), kRun));
        totals.square_scale[s + t] = grid(run, run * runs);
        largest = std::max(largest, value);
      }
    }
    const double block = 2.0 * kRun * kRun * largest;
    const double blocks = static_cast<double>(slots_ / kRun);
    totals.form_scale = grid(block, block * blocks * blocks);
    totals.high.assign(2 * slots_, 0);
    totals.low.assign(2 * slots_, 0);
    totals.square_high.assign(3 * subsets_.count, 0);
    totals.square_low.assign(3 * subsets_.count, 0);
    totals.form_high.assign(label_count_, 0);
    totals.form_low.assign(label_count_, 0);
    totals.diagonal.assign(slots_, 0.0);
    totals_.push_back(std::move(totals));
  }
}

// Whether block `a`, not after `b`, is to be multiplied with it.
bool KernelSums::meet(const Block& a, const Block& b) const {
  return a.subset == b.subset && (a.set != b.set || options_.within);
}

// Has a window packed, if it is not already, in the given place; returns where it is.
int KernelSums::place_window(std::int64_t window, int place) {
  for (int other = 0; other < 2; ++other) {
    if (packed_window_[other] == window) return other;
  }
  packed_window_[place] = window;
  const std::int64_t end =
      std::min(static_cast<std::int64_t>(blocks_.size()), (window + 1) * window_);
  for (std::int64_t b = window * window_; b < end; ++b) to_pack_.push_back({b, place});
  return place;
}

// Products of a pair of blocks.
double KernelSums::cost(const Pair& pair) const {
  const double area = static_cast<double>(blocks_[pair.rows].count) *
                      static_cast<double>(blocks_[pair.columns].count);
  return pair.rows == pair.columns ? 0.5 * area : area;
}

// Lists the pairs of blocks of the next two windows that have any, and what must be packed for them.
void KernelSums::next_stage() {
  const std::int64_t count = static_cast<std::int64_t>(blocks_.size());
  const std::int64_t windows = blocks_of(count, window_);
  for (const Pair& pair : pairs_) done_pairs_ += cost(pair);
  pairs_.clear();
  while (pairs_.empty()) {
    ++column_window_;
    const std::int64_t last = std::min(count, (row_window_ + 1) * window_) - 1;
    if (column_window_ >= windows ||
        blocks_[column_window_ * window_].subset > blocks_[last].subset) {
      column_window_ = ++row_window_;
    }
    if (row_window_ >= windows) {
      phase_ = Phase::done;
      return;
    }
    const std::int64_t row_end = std::min(count, (row_window_ + 1) * window_);
    const std::int64_t column_end = std::min(count, (column_window_ + 1) * window_);
    for (std::int64_t a = row_window_ * window_; a < row_end; ++a) {
      for (std::int64_t b = std::max(a, column_window_ * window_); b < column_end; ++b) {
        if (meet(blocks_[a], blocks_[b])) pairs_.push_back({a, b});
      }
    }
  }
  // Small tiles last, so that no thread waits long for another.
  std::stable_sort(pairs_.begin(), pairs_.end(),
                   [&](const Pair& a, const Pair& b) { return cost(a) > cost(b); });
  to_pack_.clear();
  row_place_ = place_window(row_window_, 0);
  column_place_ = place_window(column_window_, 1 - row_place_);
  phase_ = Phase::pack;
  tasks_.reset(static_cast<std::int64_t>(to_pack_.size()));
}

TileSide KernelSums::side(const Block& block) const {
  return {row_.data() + block.begin,
          factor_.data() + block.begin,
          rows_.rows(block.set).dtype,
          block.count,
          d_,
          rows_.centre(),
          spread_.data() + block.begin};
}

void KernelSums::pack_task(std::int64_t task) {
  const Packing& packing = to_pack_[task];
  rows_.kernels().pack(side(blocks_[packing.block]),
                       packed_[packing.place].data() + packing.block % window_ * block_bytes_);
}

void KernelSums::tile_task(int index, std::int64_t task) {
  const Pair pair = pairs_[task];
  const Block& rows = blocks_[pair.rows];
  const Block& columns = blocks_[pair.columns];
  Worker& worker = *workers_[index];
  const Tile tile{packed_[row_place_].data() + pair.rows % window_ * block_bytes_,
                  packed_[column_place_].data() + pair.columns % window_ * block_bytes_,
                  rows.count,
                  columns.count,
                  d_,
                  pair.rows == pair.columns,
                  spread_.data() + rows.begin,
                  spread_.data() + columns.begin,
                  worker.products.data()};
  rows_.kernels().multiply(&tile);

  std::int64_t* limbs = worker.limbs.data();
  std::int64_t* forms = limbs + 4 * kTile;
  for (std::size_t k = 0; k < terms_.size(); ++k) {
    Totals& totals = totals_[k];
    std::fill(forms, forms + 2 * label_count_, 0);
    SumTile sums{};
    sums.tile = &tile;
    sums.rows = side(rows);
    sums.columns = side(columns);
    sums.terms = terms_[k].data();
    sums.term_count = static_cast<int>(terms_[k].size());
    sums.symmetric = rows.set == columns.set;
    sums.distances = distances_[k] != 0;
    sums.look = look_[k] != 0;
    sums.row_square = square_.data() + rows.begin;
    sums.column_square = square_.data() + columns.begin;
    sums.row_along = along_.data() + rows.begin;
    sums.column_along = along_.data() + columns.begin;
    sums.row_scale = totals.scale.data() + rows.begin;
    sums.column_scale = totals.scale.data() + columns.begin;
    sums.square_scale = totals.square_scale[rows.set + columns.set];
    sums.form_scale = totals.form_scale;
    sums.labels = label_count_;
    sums.label_stride = slots_;
    sums.row_labels = labels_.data() + rows.begin;
    sums.column_labels = labels_.data() + columns.begin;
    sums.values = worker.values.data();
    sums.scratch = worker.scratch.data();
    sums.partials = worker.partials.data();
    sums.run_sums = worker.run_sums.data();
    sums.row_sums = {limbs, limbs + kTile};
    sums.column_sums = {limbs + 2 * kTile, limbs + 3 * kTile};
    sums.forms = {forms, forms + label_count_};
    sums.diagonal = totals.diagonal.data() + rows.begin;
    rows_.kernels().sum(&sums);

    const std::int64_t row_place = columns.set * slots_ + rows.begin;
    for (int r = 0; r < rows.count; ++r) {
      add(totals.high[row_place + r], sums.row_sums.high[r]);
      add(totals.low[row_place + r], sums.row_sums.low[r]);
    }
    const std::int64_t column_place = rows.set * slots_ + columns.begin;
    for (int c = 0; c < columns.count; ++c) {
      add(totals.high[column_place + c], sums.column_sums.high[c]);
      add(totals.low[column_place + c], sums.column_sums.low[c]);
    }
    const std::int64_t square_place = 3 * rows.subset + rows.set + columns.set;
    add_carried(totals.square_high[square_place], totals.square_low[square_place], sums.square_high,
                sums.square_low);
    for (int l = 0; l < label_count_; ++l) {
      add_carried(totals.form_high[l], totals.form_low[l], forms[l], forms[label_count_ + l]);
    }
  }
}

// Calls value(slot) for the slots of a set, subset by subset.
template <class Value>
void KernelSums::each_slot(int set, Value&& value) const {
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const std::int64_t begin = part_begin(g, set);
    for (std::int64_t slot = begin; slot < begin + subset_size(set); ++slot) value(slot);
  }
}

void KernelSums::row_sums(int kernel, int set, int other, double* out) const {
  const Totals& totals = totals_[kernel];
  each_slot(set, [&](std::int64_t slot) {
    const std::int64_t place = other * slots_ + slot;
    *out++ = from_limbs(totals.high[place], totals.low[place], totals.scale[slot]);
  });
}

void KernelSums::diagonal(int kernel, int set, double* out) const {
  each_slot(set, [&](std::int64_t slot) { *out++ = totals_[kernel].diagonal[slot]; });
}

void KernelSums::shift(int kernel, int set, double* out) const {
  each_slot(set, [&](std::int64_t slot) {
    double sum = 0;
    for (const SumTerm& term : terms_[kernel]) sum += term_shift(term, along_[slot]);
    *out++ = sum;
  });
}

void KernelSums::squares(int kernel, int set, int other, double* out) const {
  const Totals& totals = totals_[kernel];
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const std::int64_t place = 3 * g + set + other;
    out[g] = from_limbs(totals.square_high[place], totals.square_low[place],
                        totals.square_scale[set + other]);
  }
}

void KernelSums::forms(int kernel, double* out) const {
  const Totals& totals = totals_[kernel];
  for (int l = 0; l < label_count_; ++l) {
    out[l] = from_limbs(totals.form_high[l], totals.form_low[l], totals.form_scale);
  }
}

}  // namespace fastgen::cpu
