#include "cpu/kernel_sums.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.hpp"
#include "common/limbs.hpp"

namespace fastgen::cpu {

namespace {

void add(std::int64_t& total, std::int64_t value) {
  __atomic_fetch_add(&total, value, __ATOMIC_RELAXED);
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
    const std::int64_t n = rows_.rows(s).n, size = s == 0 ? subsets_.x_size : subsets_.y_size;
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
    } else {
      resolved_ = resolve_kernels(kernels_, rows_.data(), rows_.sets(), rows_.float64());
      if (resolved_.needs_float64) {
        rows_.use_float64();
        return 0.0;
      }
      if (overflow()) {
        phase_ = Phase::done;
      } else {
        lay_out();
        set_grids();
        next_stage();
      }
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
      tasks_.reset(static_cast<std::int64_t>(walk_.pairs().size()));
    } else {
      next_stage();
    }
  }
  if (done()) return 1.0;
  const std::int64_t dealt = std::min(tasks_.next.load(), tasks_.count);
  return std::min(walk_.fraction(phase_ == Phase::tiles ? dealt : 0), 1.0 - 1e-9);
}

// Gives every row of every subset its slot, and divides slots into blocks and windows.
void KernelSums::lay_out() {
  walk_ = SumWalk(subsets_, rows_.sets(), options_.within, kRun);
  slots_ = walk_.slots();
  row_.assign(slots_, nullptr);
  factor_.assign(slots_, 0.0);
  square_.assign(slots_, 0.0);
  along_.assign(slots_, 0.0);
  spread_.assign(slots_, 1.0f);
  labels_.assign(static_cast<std::size_t>(label_count_) * slots_, 0);

  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    std::int64_t pooled = 0;
    for (int s = 0; s < rows_.sets(); ++s) {
      const std::int64_t size = walk_.subset_size(s), begin = walk_.part_begin(g, s);
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t row = walk_.row(g, s, i), slot = begin + i;
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
    }
  }
  const auto [rows, bytes] = rows_.packed_block(options_.block, kRun);
  block_bytes_ = bytes;
  walk_.divide(rows, kWindowBytes / block_bytes_);
  packed_[0].reset_unset(walk_.window() * block_bytes_);
  if (walk_.windows_meet()) packed_[1].reset_unset(walk_.window() * block_bytes_);
}

void KernelSums::set_grids() {
  const SumData& data = rows_.data();
  for (const ResolvedKernel& kernel : resolved_.kernels) {
    Totals totals;
    totals.scale.assign(slots_, 1.0);
    double largest = 0;
    for (int s = 0; s < rows_.sets(); ++s) {
      walk_.each_slot(s, [&](std::int64_t slot) {
        double bound = 0;
        for (int t = 0; t < rows_.sets(); ++t) {
          bound = std::max(bound, kernel.largest(square_[slot], along_[slot], data, t));
        }
        totals.scale[slot] = grid(kRun * bound);
      });
      for (int t = s; t < rows_.sets(); ++t) {
        const double value = kernel.largest(data, s, t), run = 2.0 * kRun * value * value;
        const double runs = static_cast<double>(walk_.subset_size(s)) *
                            static_cast<double>(blocks_of(walk_.subset_size(t), kRun));
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

// The pairs of blocks of the next two windows, and what must be packed for them.
void KernelSums::next_stage() {
  if (!walk_.next_stage(1)) {
    phase_ = Phase::done;
    return;
  }
  // Small tiles last, so that no thread waits long for another.
  std::stable_sort(walk_.pairs().begin(), walk_.pairs().end(),
                   [&](const SumWalk::Pair& a, const SumWalk::Pair& b) {
                     return walk_.cost(a) > walk_.cost(b);
                   });
  phase_ = Phase::pack;
  tasks_.reset(static_cast<std::int64_t>(walk_.to_pack().size()));
}

TileSide KernelSums::side(const SumWalk::Block& block) const {
  return {row_.data() + block.begin,
          factor_.data() + block.begin,
          rows_.rows(block.set).dtype,
          block.count,
          d_,
          rows_.centre(),
          spread_.data() + block.begin};
}

void KernelSums::pack_task(std::int64_t task) {
  const SumWalk::Packing& packing = walk_.to_pack()[task];
  rows_.kernels().pack(
      side(walk_.blocks()[packing.block]),
      packed_[packing.place].data() + packing.block % walk_.window() * block_bytes_);
}

void KernelSums::tile_task(int index, std::int64_t task) {
  const SumWalk::Pair pair = walk_.pairs()[task];
  const SumWalk::Block& rows = walk_.blocks()[pair.rows];
  const SumWalk::Block& columns = walk_.blocks()[pair.columns];
  const auto packed = [&](int place, std::int64_t block) {
    return packed_[place].data() + block % walk_.window() * block_bytes_;
  };
  Worker& worker = *workers_[index];
  const Tile tile{packed(walk_.row_place(), pair.rows),
                  packed(walk_.column_place(), pair.columns),
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
  for (std::size_t k = 0; k < totals_.size(); ++k) {
    const ResolvedKernel& kernel = resolved_.kernels[k];
    Totals& totals = totals_[k];
    std::fill(forms, forms + 2 * label_count_, 0);
    SumTile sums{};
    sums.tile = &tile;
    sums.rows = side(rows);
    sums.columns = side(columns);
    sums.terms = kernel.terms.data();
    sums.term_count = static_cast<int>(kernel.terms.size());
    sums.symmetric = rows.set == columns.set;
    sums.distances = kernel.distances;
    sums.look = kernel.look;
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

void KernelSums::row_sums(int kernel, int set, int other, double* out) const {
  const Totals& totals = totals_[kernel];
  walk_.each_slot(set, [&](std::int64_t slot) {
    const std::int64_t place = other * slots_ + slot;
    *out++ = from_limbs(totals.high[place], totals.low[place], totals.scale[slot]);
  });
}

void KernelSums::diagonal(int kernel, int set, double* out) const {
  walk_.each_slot(set, [&](std::int64_t slot) { *out++ = totals_[kernel].diagonal[slot]; });
}

void KernelSums::shift(int kernel, int set, double* out) const {
  walk_.each_slot(
      set, [&](std::int64_t slot) { *out++ = resolved_.kernels[kernel].shift(along_[slot]); });
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
