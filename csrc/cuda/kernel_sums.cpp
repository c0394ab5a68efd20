#include "cuda/kernel_sums.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/check.hpp"
#include "common/limbs.hpp"

namespace fastgen::cuda {

namespace {

// Rows of tiles that neighbours in time share: with 12 x 11 tiles on 132 multiprocessors L2 sends out 23
// blocks of rows where without order it would be up to 264.
constexpr std::int64_t kGroup = 12;
// Shares own squares of so many blocks, so that neighbours stay together.
constexpr std::int64_t kShareBlocks = 8;
// The host waits for a batch of tiles; its launch costs some 20 us.
constexpr double kShortBatch = 0.02, kLongBatch = 0.25;

}  // namespace

template <>
KernelSums::Numbers<float>& KernelSums::numbers<float>() {
  return numbers_float_;
}
template <>
KernelSums::Numbers<double>& KernelSums::numbers<double>() {
  return numbers_double_;
}

KernelSums::KernelSums(const RowView& x, const RowView* y,
                       std::vector<std::vector<KernelTerm>> kernels, const SumSubsets& subsets,
                       const std::int8_t* labels, int label_count, const SumOptions& options,
                       const Stream& stream)
    : stream_(stream),
      rows_(RowSource(x, options.x_on_host, stream),
            y ? RowSource(*y, options.y_on_host, stream) : RowSource{}, options.normalise,
            options.memory, stream),
      kernels_(std::move(kernels)),
      subsets_(subsets),
      given_labels_(labels),
      label_count_(labels ? label_count : 0),
      options_(options),
      float64_(options.float64 || x.dtype == DType::float64 || (y && y->dtype == DType::float64)) {
  FASTGEN_CHECK(!kernels_.empty() && subsets.count >= 1 && (!y || y->n >= 1));
  FASTGEN_CHECK(!labels || (!subsets.x && y && options.within));
  FASTGEN_CHECK(0 <= options.share_index && options.share_index < options.share_count);
  options_.within = options.within || !y;
  for (int s = 0; s < rows_.sets(); ++s) {
    const std::int64_t n = rows_.rows(s).n, size = s == 0 ? subsets_.x_size : subsets_.y_size;
    const std::int64_t* index = s == 0 ? subsets_.x : subsets_.y;
    FASTGEN_CHECK(n < std::int64_t{1} << 31);
    FASTGEN_CHECK(size >= 1 && (index || (size == n && subsets.count == 1)));
    for (std::int64_t i = 0; index && i < subsets.count * size; ++i) {
      FASTGEN_CHECK(0 <= index[i] && index[i] < n);
    }
  }
}

double KernelSums::advance(double seconds) {
  const CurrentDevice device(stream_.device());
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  if (phase_ == Phase::rows) begin();
  const std::int64_t least = multiprocessors(stream_.device());
  while (!done()) {
    const std::int64_t count = static_cast<std::int64_t>(walk_.pairs().size());
    if (next_tile_ == count) {
      if (!next_stage()) finish();
      continue;
    }
    const double left = std::min(std::max(seconds - elapsed(start), kShortBatch), kLongBatch);
    const std::int64_t batch =
        std::min(count - next_tile_,
                 std::max(least, static_cast<std::int64_t>(std::min(rate_ * left, 1e9))));
    const Clock::time_point launched = Clock::now();
    if (float64_) {
      multiply<double>(next_tile_, batch);
    } else {
      multiply<float>(next_tile_, batch);
    }
    stream_.synchronize();
    rate_ = static_cast<double>(batch) / std::max(elapsed(launched), 1e-6);
    next_tile_ += batch;
    if (elapsed(start) >= seconds) break;
  }
  if (done()) return 1.0;
  return std::min(walk_.fraction(next_tile_) * options_.share_count, 1.0 - 1e-9);
}

void KernelSums::begin() {
  if (!rows_.find()) {
    phase_ = Phase::done;
    return;
  }
  float64_ = float64_ || rows_.out_of_range();
  resolved_ = resolve_kernels(kernels_, rows_.data(), rows_.sets(), float64_);
  if (resolved_.needs_float64) {
    float64_ = true;
    resolved_ = resolve_kernels(kernels_, rows_.data(), rows_.sets(), true);
  }
  if (!overflow()) lay_out();
  phase_ = overflow() ? Phase::done : Phase::tiles;
}

// Gives every row of every subset its slot, and finds what is known of slots before they meet.
void KernelSums::lay_out() {
  walk_ = SumWalk(subsets_, rows_.sets(), options_.within, kSumRun);
  slots_ = walk_.slots();
  stride_ = slots_ + kSumTile;  // blocks end with tiles
  std::vector<std::int32_t> rows(static_cast<std::size_t>(stride_), -1);
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    for (int s = 0; s < rows_.sets(); ++s) {
      const std::int64_t size = walk_.subset_size(s), first = walk_.part_begin(g, s);
      for (std::int64_t i = 0; i < size; ++i) {
        rows[first + i] = static_cast<std::int32_t>(walk_.row(g, s, i));
      }
    }
  }
  row_ = uploaded(rows, stream_, "rows of subsets");
  upload_kernels();
  upload_labels();

  const std::int64_t kernels = static_cast<std::int64_t>(kernels_.size());
  places_.low = 2 * kernels * stride_;
  places_.square_high = 2 * places_.low;
  places_.square_low = places_.square_high + 3 * kernels * subsets_.count;
  places_.form_high = places_.square_low + 3 * kernels * subsets_.count;
  places_.form_low = places_.form_high + kernels * label_count_;
  places_.diagonal = places_.form_low + kernels * label_count_;
  places_.end = places_.diagonal + kernels * stride_;
  totals_ = DeviceBuffer<Limb>(places_.end, stream_, "sums of kernels");
  fill_bytes(totals_.data(), 0, totals_.bytes(), stream_);
  exponent_ = DeviceBuffer<std::int16_t>(kernels * stride_, stream_, "sums of kernels");
  slot_grids({slot_rows(), slots_, stride_, rows_.data(), rows_.sets(), static_cast<int>(kernels),
              term_table_.data(), kernel_table_.data(), exponent_.data()},
             stream_);
  if (float64_) {
    allocate_numbers<double>();
  } else {
    allocate_numbers<float>();
  }
  divide();
}

template <class Real>
void KernelSums::allocate_numbers() {
  Numbers<Real>& n = numbers<Real>();
  n.unspread = DeviceBuffer<Real>(stride_, stream_, "numbers of rows");
  n.square = DeviceBuffer<Real>(stride_, stream_, "numbers of rows");
  n.own_product = DeviceBuffer<Real>(stride_, stream_, "numbers of rows");
  n.along = DeviceBuffer<Real>(stride_, stream_, "numbers of rows");
  slot_numbers(slot_rows(), slots_, n.unspread.data(), n.square.data(), n.along.data(), stream_);
  fill_bytes(n.own_product.data(), 0, n.own_product.bytes(), stream_);
}

SlotRows KernelSums::slot_rows() const {
  const bool two = rows_.sets() == 2;
  const std::int64_t of_subset = slots_ / subsets_.count;
  return {{rows_.view(0), two ? rows_.view(1) : SumSet{}},
          row_.data(),
          places(),
          of_subset,
          two ? walk_.part_begin(0, 1) : of_subset};
}

void KernelSums::upload_kernels() {
  const SumData& data = rows_.data();
  std::vector<SumTerm> terms;
  for (const ResolvedKernel& kernel : resolved_.kernels) {
    SumKernel one{static_cast<int>(terms.size()),
                  static_cast<int>(kernel.terms.size()),
                  kernel.distances,
                  kernel.look,
                  {1, 1, 1},
                  1};
    terms.insert(terms.end(), kernel.terms.begin(), kernel.terms.end());
    // Squares and forms are added up by blocks of 32 x 32 values.
    constexpr double kValues = static_cast<double>(kSumRun * kSumRun);
    double largest = 0;
    for (int s = 0; s < rows_.sets(); ++s) {
      for (int t = s; t < rows_.sets(); ++t) {
        const double value = kernel.largest(data, s, t), block = 2 * kValues * value * value;
        const double blocks = static_cast<double>(blocks_for(walk_.subset_size(s), kSumRun)) *
                              static_cast<double>(blocks_for(walk_.subset_size(t), kSumRun));
        one.square_scale[s + t] = grid(block, block * blocks);
        largest = std::max(largest, value);
      }
    }
    const double runs = static_cast<double>(slots_ / kSumRun), block = 2 * kValues * largest;
    one.form_scale = grid(block, block * runs * runs);
    device_kernels_.push_back(one);
  }
  term_table_ = uploaded(terms, stream_, "kernels");
  kernel_table_ = uploaded(device_kernels_, stream_, "kernels");
}

void KernelSums::upload_labels() {
  if (label_count_ == 0) return;
  const std::int64_t n = rows_.rows(0).n, m = rows_.rows(1).n;
  std::vector<std::int8_t> labels(static_cast<std::size_t>(label_count_ * stride_), 0);
  for (int l = 0; l < label_count_; ++l) {
    const std::int8_t* from = given_labels_ + l * (n + m);
    std::copy_n(from, n, labels.data() + l * stride_);
    std::copy_n(from + n, m, labels.data() + l * stride_ + walk_.part_begin(0, 1));
  }
  labels_ = uploaded(labels, stream_, "labels");
}

TileOfList KernelSums::tile_of(const SumWalk::Pair& pair) const {
  const auto packed_row = [&](std::int64_t block) {
    const std::int64_t first = block / walk_.window() * walk_.window();
    return static_cast<std::int32_t>(walk_.blocks()[block].begin - walk_.blocks()[first].begin);
  };
  return {packed_row(pair.rows), packed_row(pair.columns), static_cast<std::int32_t>(pair.rows),
          static_cast<std::int32_t>(pair.columns)};
}

TileList KernelSums::tile_list(int row_place, int column_place, const TileOfList* tiles,
                               std::int64_t count) const {
  const std::int64_t features = float64_ ? kSliceFeatures<double> : kSliceFeatures<float>;
  const std::int64_t slices = blocks_for(rows_.rows(0).d, features);
  return {packed_[row_place].data(),
          packed_[column_place].data(),
          slices * kSumSliceBytes,
          static_cast<int>(slices),
          tiles,
          static_cast<int>(count)};
}

// Packs the windows of the next stage and lists its tiles; false: there is none.
bool KernelSums::next_stage() {
  if (stages_ > 0) carry();
  if (!walk_.next_stage(kGroup)) return false;
  if (float64_) {
    pack<double>();
  } else {
    pack<float>();
  }
  std::vector<SumWalk::Pair>& pairs = walk_.pairs();
  if (options_.share_count > 1) {
    // By what a pair is, not by its place in the walk: that depends on the windows, and they on what
    // memory a device has.
    const auto others = [&](const SumWalk::Pair& pair) {
      const std::int64_t row = pair.rows / kShareBlocks, column = pair.columns / kShareBlocks;
      return (column * (column + 1) / 2 + row) % options_.share_count != options_.share_index;
    };
    pairs.erase(std::remove_if(pairs.begin(), pairs.end(), others), pairs.end());
  }
  std::vector<TileOfList> tiles;
  tiles.reserve(pairs.size());
  for (const SumWalk::Pair& pair : pairs) tiles.push_back(tile_of(pair));
  if (!tiles.empty()) tiles_ = uploaded(tiles, stream_, "lists of tiles");
  ++stages_;
  next_tile_ = 0;
  return true;
}

void KernelSums::carry() {
  Limb* totals = totals_.data();
  carry_limbs(totals + places_.square_high, totals + places_.square_low,
              places_.square_low - places_.square_high, stream_);
  carry_limbs(totals + places_.form_high, totals + places_.form_low,
              places_.form_low - places_.form_high, stream_);
}

template <class Real>
void KernelSums::pack() {
  const std::vector<SumWalk::Packing>& packing = walk_.to_pack();
  const std::vector<SumWalk::Block>& blocks = walk_.blocks();
  const bool own_products =
      std::any_of(device_kernels_.begin(), device_kernels_.end(),
                  [](const SumKernel& kernel) { return kernel.distances && !kernel.look; });
  std::vector<TileOfList> diagonal;
  for (const SumWalk::Packing& one : packing) diagonal.push_back(tile_of({one.block, one.block}));
  if (own_products && !diagonal.empty()) {
    square_tiles_ = uploaded(diagonal, stream_, "lists of tiles");
  }
  // The blocks of a window follow each other.
  for (std::size_t first = 0, end = 0; first < packing.size(); first = end) {
    const int place = packing[first].place;
    while (end < packing.size() && packing[end].place == place) ++end;
    const std::int64_t begin = blocks[packing[first].block].begin;
    const SumWalk::Block& last = blocks[packing[end - 1].block];
    load(place, packing[first].block, packing[end - 1].block + 1);
    SlotRows slots = slot_rows();
    for (int s = 0; s < rows_.sets(); ++s) slots.sets[s].rows = loaded(place, s);
    pack_slots<Real>(slots, rows_.centre(), begin, last.begin + last.count - begin,
                     packed_[place].data(), stream_);
    if (!looks()) {
      for (std::unique_ptr<Rows>& rows : loaded_[place]) rows.reset();
    }
    if (own_products) {
      const TileList list = tile_list(place, place, square_tiles_.data() + first,
                                      static_cast<std::int64_t>(end - first));
      Numbers<Real>& n = numbers<Real>();
      launch_squares({list, blocks_.data(), n.unspread.data(), n.own_product.data()}, stream_);
    }
  }
}

template <class Real>
void KernelSums::multiply(std::int64_t first, std::int64_t count) {
  const Numbers<Real>& n = numbers<Real>();
  SumTask<Real> task{};
  task.list = tile_list(walk_.row_place(), walk_.column_place(), tiles_.data() + first, count);
  task.blocks = blocks_.data();
  task.terms = term_table_.data();
  task.kernels = kernel_table_.data();
  task.slots = stride_;
  task.subsets = subsets_.count;
  task.unspread = n.unspread.data();
  task.square = n.square.data();
  task.own_product = n.own_product.data();
  task.along = n.along.data();
  for (int s = 0; s < rows_.sets(); ++s) {
    task.rows[0][s] = loaded(walk_.row_place(), s);
    task.rows[1][s] = loaded(walk_.column_place(), s);
    task.factor[s] = rows_.view(s).factor;
  }
  task.row = row_.data();
  task.place = places();
  task.labels = labels_.data();
  task.label_count = label_count_;
  Limb* totals = totals_.data();
  task.totals = {totals,
                 totals + places_.low,
                 totals + places_.square_high,
                 totals + places_.square_low,
                 totals + places_.form_high,
                 totals + places_.form_low,
                 reinterpret_cast<double*>(totals + places_.diagonal),
                 exponent_.data()};
  // Labels ask for the values of one kernel at a time: they take the place of the products.
  const int kernels = static_cast<int>(kernels_.size()), step = label_count_ > 0 ? 1 : kernels;
  for (int k = 0; k < kernels; k += step) {
    task.kernel_begin = k;
    task.kernel_end = k + step;
    launch_sum_tiles(task, stream_);
  }
}

void KernelSums::finish() {
  limbs_ = downloaded(totals_, stream_);
  host_exponent_ = downloaded(exponent_, stream_);
  phase_ = Phase::done;
}

void KernelSums::set_limbs(const std::int64_t* limbs, std::int64_t count) {
  FASTGEN_CHECK(done() && count == static_cast<std::int64_t>(limbs_.size()));
  std::memcpy(limbs_.data(), limbs, static_cast<std::size_t>(count) * sizeof(Limb));
}

void KernelSums::row_sums(int kernel, int set, int other, double* out) const {
  const Limb* high = limbs_.data() + (2 * kernel + other) * stride_;
  const std::int16_t* exponent = host_exponent_.data() + kernel * stride_;
  walk_.each_slot(set, [&](std::int64_t slot) {
    *out++ = from_limbs(static_cast<std::int64_t>(high[slot]),
                        static_cast<std::int64_t>(high[places_.low + slot]),
                        std::ldexp(1.0, exponent[slot]));
  });
}

void KernelSums::diagonal(int kernel, int set, double* out) const {
  const Limb* bits = limbs_.data() + places_.diagonal + kernel * stride_;
  walk_.each_slot(set, [&](std::int64_t slot) { std::memcpy(out++, bits + slot, sizeof(double)); });
}

void KernelSums::shift(int kernel, int set, double* out) const {
  const std::vector<double>& along = rows_.along(set);
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    for (std::int64_t i = 0; i < walk_.subset_size(set); ++i) {
      const std::size_t row = static_cast<std::size_t>(walk_.row(g, set, i));
      *out++ = resolved_.kernels[static_cast<std::size_t>(kernel)].shift(along[row]);
    }
  }
}

void KernelSums::squares(int kernel, int set, int other, double* out) const {
  const double scale = device_kernels_[static_cast<std::size_t>(kernel)].square_scale[set + other];
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    const std::int64_t place = (kernel * subsets_.count + g) * 3 + set + other;
    out[g] = from_limbs(static_cast<std::int64_t>(limbs_[places_.square_high + place]),
                        static_cast<std::int64_t>(limbs_[places_.square_low + place]), scale);
  }
}

void KernelSums::forms(int kernel, double* out) const {
  const double scale = device_kernels_[static_cast<std::size_t>(kernel)].form_scale;
  for (int l = 0; l < label_count_; ++l) {
    const std::int64_t place = std::int64_t{kernel} * label_count_ + l;
    out[l] = from_limbs(static_cast<std::int64_t>(limbs_[places_.form_high + place]),
                        static_cast<std::int64_t>(limbs_[places_.form_low + place]), scale);
  }
}

}  // namespace fastgen::cuda
