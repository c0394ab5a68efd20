#include "cpu/scatter.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// A multiple of every panel width, and the least that a scatter matrix is laid out for.
constexpr int kPanels = 24;
constexpr std::int64_t kDepthBlocks = 15;  // of a chunk at most: 32 MB at d = 2048
constexpr std::int64_t kChunkBytes = 32 << 20;

std::int64_t whole_panels(std::int64_t d) { return blocks_of(d, kPanels) * kPanels; }

RowView no_rows(std::int64_t d) { return {nullptr, DType::float64, 0, d, 0}; }

RowView float64_rows(const double* rows, std::int64_t n, std::int64_t d) {
  return {reinterpret_cast<const unsigned char*>(rows), DType::float64, n, d,
          d * static_cast<std::int64_t>(sizeof(double))};
}

RowView slice(const RowView& rows, std::int64_t begin, std::int64_t n) {
  RowView part = rows;
  if (n > 0) part.data += begin * rows.row_stride;
  part.n = n;
  return part;
}

}  // namespace

std::int64_t Scatter::chunk_rows(std::int64_t d) {
  const std::int64_t bytes =
      whole_panels(d) * kTileDepth * static_cast<std::int64_t>(sizeof(double));
  const std::int64_t blocks = std::min(kDepthBlocks, kChunkBytes / bytes);
  return std::max<std::int64_t>(blocks, 1) * kTileDepth - 1;
}

Scatter::Scatter(std::int64_t d, const Kernels& table, int threads)
    : d_(d),
      table_(table),
      threads_(threads),
      tile_(static_cast<int>(std::min<std::int64_t>(kScatterTile, whole_panels(d)))),
      blocks_(blocks_of(d, tile_)),
      width_(whole_panels(d)),
      chunk_rows_(chunk_rows(d)),
      head_(no_rows(d)),
      tail_(no_rows(d)) {
  FASTGEN_CHECK(d >= 1 && threads >= 1 && kScatterTile % kPanels == 0);
  FASTGEN_CHECK(kPanels % table.scatter.panel == 0);
  for (State* state : {&now_, &next_}) {
    state->origin.assign(width_, 0.0);
    state->mean.assign(width_, 0.0);
  }
  step_.assign(width_, 0.0);
  chunk_mean_.assign(width_, 0.0);
}

int Scatter::features_of(std::int64_t block) const {
  return static_cast<int>(std::min<std::int64_t>(tile_, width_ - block * tile_));
}

// Tiles on the diagonal take half the time: last, they leave threads idle for less.
Scatter::Place Scatter::place_of(std::int64_t task) const {
  const std::int64_t below = tiles() - blocks_;
  if (task >= below) return {static_cast<int>(task - below), static_cast<int>(task - below)};
  auto row = static_cast<std::int64_t>((1 + std::sqrt(1 + 8 * static_cast<double>(task))) / 2);
  while (row * (row - 1) / 2 > task) --row;
  while (row * (row + 1) / 2 <= task) ++row;
  return {static_cast<int>(row), static_cast<int>(task - row * (row - 1) / 2)};
}

const double* Scatter::tile_of(const State& state, Place place) const {
  const std::int64_t number = std::int64_t{place.row} * (place.row + 1) / 2 + place.column;
  return state.tiles.data() + number * tile_items();
}

double* Scatter::tile_of(State& state, Place place) const {
  return const_cast<double*>(tile_of(static_cast<const State&>(state), place));
}

// The rows of a chunk, in two parts, and their number.
std::int64_t Scatter::parts_of(std::int64_t chunk, RowView parts[2]) const {
  const std::int64_t begin = chunk * chunk_rows_;
  const std::int64_t end = std::min(begin + chunk_rows_, head_.n + tail_.n);
  const std::int64_t head_begin = std::min(begin, head_.n), head_end = std::min(end, head_.n);
  parts[0] = slice(head_, head_begin, head_end - head_begin);
  const std::int64_t tail_begin = std::max(begin - head_.n, std::int64_t{0});
  parts[1] = slice(tail_, tail_begin, std::max(end - head_.n, std::int64_t{0}) - tail_begin);
  return end - begin;
}

void Scatter::begin(std::int64_t chunks, const RowView& head, const RowView& tail) {
  rollback();
  chunks_ = chunks;
  head_ = head;
  tail_ = tail;
  next_.count = now_.count;
  next_.origin = now_.origin;
  next_.mean = now_.mean;
}

void Scatter::begin_update(const RowView& batch) {
  FASTGEN_CHECK(batch.d == d_);
  const std::int64_t rows = waiting_ + batch.n;
  begin(rows / chunk_rows_, float64_rows(pending_.data(), waiting_, d_), batch);
  updating_ = true;
  if (rows % chunk_rows_ && !pending_.size()) pending_.reset_unset(chunk_rows_ * d_);
  if (count() == 0 && batch.n > 0) {
    table_.to_double(batch.row(0), batch.dtype, d_, next_.origin.data());
  }
  next_phase();
}

void Scatter::begin_flush(bool means_only) {
  begin(waiting_ > 0, float64_rows(pending_.data(), waiting_, d_), no_rows(d_));
  means_only_ = means_only;
  next_phase();
}

void Scatter::begin_merge(const Scatter& other) {
  FASTGEN_CHECK(other.d_ == d_);
  begin(other.waiting_ > 0, no_rows(d_), float64_rows(other.pending_.data(), other.waiting_, d_));
  if (count() == 0) next_.origin = other.now_.origin;
  if (other.now_.count == 0) return next_phase();
  other_ = &other;
  for (std::int64_t f = 0; f < d_; ++f) {
    step_[f] = (other.now_.origin[f] - next_.origin[f]) + other.now_.mean[f] - now_.mean[f];
  }
  if (!next_.tiles.size()) next_.tiles.reset(tiles() * tile_items());
  phase_ = Phase::join;
  tasks_.reset(tiles());
}

void Scatter::rollback() {
  phase_ = Phase::idle;
  other_ = nullptr;
  head_ = tail_ = no_rows(d_);
  chunks_ = chunk_ = 0;
  copied_ = updating_ = means_only_ = false;
}

void Scatter::commit() {
  FASTGEN_CHECK(phase_ == Phase::done && !means_only_);
  if (copied_) std::swap(now_.tiles, next_.tiles);
  std::swap(now_.origin, next_.origin);
  std::swap(now_.mean, next_.mean);
  now_.count = next_.count;
  // A merge leaves the rows that wait here waiting.
  if (updating_) {
    const std::int64_t used = chunks_ > 0 ? chunks_ * chunk_rows_ - head_.n : 0;
    if (chunks_ > 0) waiting_ = 0;
    for (std::int64_t row = used; row < tail_.n; ++row) {
      table_.to_double(tail_.row(row), tail_.dtype, d_, pending_.data() + waiting_++ * d_);
    }
  } else if (head_.n > 0) {
    waiting_ = 0;
  }
  rollback();
}

double Scatter::advance(Deadline deadline) {
  FASTGEN_CHECK(phase_ != Phase::idle);
  while (phase_ != Phase::done) {
    const Phase phase = phase_;
    const bool finished = run_tasks(tasks_, threads_, deadline, [&](int, std::int64_t task) {
      if (phase == Phase::join) return join_task(task);
      return phase == Phase::pack ? pack_task(task) : multiply_task(task);
    });
    if (!finished) break;
    next_phase();
    if (phase_ != Phase::done && std::chrono::steady_clock::now() >= deadline) break;
  }
  if (phase_ == Phase::done) return 1.0;
  if (phase_ == Phase::join) return 0.5 * tasks_.fraction();
  const double within = phase_ == Phase::multiply ? tasks_.fraction() : 0.0;
  const double done = (static_cast<double>(chunk_) + within) / static_cast<double>(chunks_);
  return std::min(done, 1 - 1e-9);
}

// Ends the running phase and begins the one that follows.
void Scatter::next_phase() {
  if (phase_ == Phase::pack && !means_only_) {
    phase_ = Phase::multiply;
    return tasks_.reset(tiles());
  }
  if (phase_ != Phase::idle) {
    RowView parts[2];
    const bool joined = phase_ == Phase::join;
    const std::int64_t rows = joined ? other_->now_.count : parts_of(chunk_, parts);
    if (!joined) ++chunk_;
    const double share = static_cast<double>(rows) / static_cast<double>(next_.count + rows);
    for (std::int64_t f = 0; f < d_; ++f) next_.mean[f] += step_[f] * share;
    next_.count += rows;
    copied_ = !means_only_;
  }
  if (chunk_ == chunks_) {
    phase_ = Phase::done;
    return;
  }
  const std::int64_t depth = chunk_rows_ + 1;
  if (!packed_.size()) packed_.reset_unset(depth * width_);
  if (!means_only_ && !next_.tiles.size()) next_.tiles.reset(tiles() * tile_items());
  phase_ = Phase::pack;
  tasks_.reset(blocks_);
}

// now + other + n k / (n + k) step step', one tile of it.
void Scatter::join_task(std::int64_t task) {
  const Place place = place_of(task);
  const std::int64_t n = now_.count, k = other_->now_.count;
  const double weight =
      static_cast<double>(n) * (static_cast<double>(k) / static_cast<double>(n + k));
  const double* second = tile_of(other_->now_, place);
  const double* first = n > 0 ? tile_of(now_, place) : nullptr;
  double* out = tile_of(next_, place);
  const double* row_step = step_.data() + std::int64_t{place.row} * tile_;
  const double* column_step = step_.data() + std::int64_t{place.column} * tile_;
  const int columns = features_of(place.column);
  for (int r = 0; r < features_of(place.row); ++r) {
    for (int c = 0; c < columns; ++c) {
      const std::int64_t i = std::int64_t{r} * tile_ + c;
      out[i] = first ? (first[i] + second[i]) + weight * (row_step[r] * column_step[c]) : second[i];
    }
  }
}

// The mean of a block of the chunk's features, then its rows less that mean, then the row that joins.
void Scatter::pack_task(std::int64_t task) {
  RowView parts[2];
  const std::int64_t rows = parts_of(chunk_, parts), first = task * tile_;
  const std::int64_t block_items = width_ * kTileDepth;
  double* packed = packed_.data() + first * kTileDepth;
  FeatureBlock block{parts[0], 0, 0, first, features_of(task), next_.origin.data() + first};
  double* mean = chunk_mean_.data() + first;
  double* step = step_.data() + first;
  // Sums of kTileDepth rows, whichever part they are in, and sums of those.
  std::fill(mean, mean + block.features, 0.0);
  for (std::int64_t begin = 0; begin < rows; begin += kTileDepth) {
    const std::int64_t end = std::min<std::int64_t>(begin + kTileDepth, rows);
    std::fill(step, step + block.features, 0.0);
    for (int p = 0; p < 2; ++p) {
      const std::int64_t offset = p == 0 ? 0 : parts[0].n;
      block.rows = parts[p];
      block.begin = std::clamp<std::int64_t>(begin - offset, 0, parts[p].n);
      block.end = std::clamp<std::int64_t>(end - offset, 0, parts[p].n);
      if (block.begin < block.end) table_.scatter.add_columns(block, step);
    }
    for (int f = 0; f < block.features; ++f) mean[f] += step[f];
  }
  const double n = static_cast<double>(next_.count), k = static_cast<double>(rows);
  const double weight = std::sqrt(n * (k / (n + k)));
  std::vector<double> joining(block.features), zeros(block.features, 0.0);
  for (int f = 0; f < block.features; ++f) {
    mean[f] /= k;
    step[f] = mean[f] - next_.mean[first + f];
    joining[f] = weight * step[f];
  }
  for (int p = 0; p < 2; ++p) {
    block.rows = parts[p];
    block.begin = 0;
    block.end = parts[p].n;
    table_.scatter.pack(block, mean, p == 0 ? 0 : parts[0].n, block_items, packed);
  }
  const FeatureBlock last{
      float64_rows(joining.data(), 1, block.features), 0, 1, 0, block.features, zeros.data()};
  table_.scatter.pack(last, zeros.data(), rows, block_items, packed);
}

void Scatter::multiply_task(std::int64_t task) {
  const Place place = place_of(task);
  RowView parts[2];
  const std::int64_t rows = parts_of(chunk_, parts);
  double* out = tile_of(next_, place);
  if (!copied_) {
    if (now_.count > 0) {
      std::memcpy(out, tile_of(now_, place), tile_items() * sizeof(double));
    } else {
      std::fill(out, out + tile_items(), 0.0);
    }
  }
  const std::int64_t block = std::int64_t{tile_} * kTileDepth;
  const std::int64_t features = std::min<std::int64_t>(tile_, d_ - std::int64_t{place.row} * tile_);
  table_.scatter.multiply({packed_.data() + place.row * block,
                           packed_.data() + place.column * block,
                           static_cast<int>(blocks_of(features, 8) * 8), features_of(place.column),
                           rows + 1, width_ * kTileDepth, place.row == place.column, out, tile_});
}

void Scatter::scatter(double divisor, double* out) const {
  const State& from = copied_ && phase_ == Phase::done ? next_ : now_;
  FASTGEN_CHECK(from.count > 0);
  Tasks tasks;
  tasks.reset(tiles());
  run_tasks(tasks, threads_, Deadline::max(), [&](int, std::int64_t task) {
    const Place place = place_of(task);
    const double* tile = tile_of(from, place);
    const std::int64_t row = std::int64_t{place.row} * tile_;
    const std::int64_t column = std::int64_t{place.column} * tile_;
    const std::int64_t rows = std::min<std::int64_t>(tile_, d_ - row);
    const std::int64_t columns = std::min<std::int64_t>(tile_, d_ - column);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t end = place.row == place.column ? r + 1 : columns;
      for (std::int64_t c = 0; c < end; ++c) {
        const double value = tile[r * tile_ + c] / divisor;
        out[(row + r) * d_ + column + c] = value;
        out[(column + c) * d_ + row + r] = value;
      }
    }
  });
}

void Scatter::restore(std::int64_t folded, const double* origin, const double* shift,
                      const double* scatter, const double* waiting_rows, std::int64_t waiting) {
  FASTGEN_CHECK(count() == 0 && phase_ == Phase::idle && 0 <= waiting && waiting < chunk_rows_);
  std::copy(origin, origin + d_, now_.origin.begin());
  std::copy(shift, shift + d_, now_.mean.begin());
  if (folded > 0) {
    now_.tiles.reset(tiles() * tile_items());
    for (std::int64_t task = 0; task < tiles(); ++task) {
      const Place place = place_of(task);
      const std::int64_t row = std::int64_t{place.row} * tile_;
      const std::int64_t column = std::int64_t{place.column} * tile_;
      const std::int64_t rows = std::min<std::int64_t>(tile_, d_ - row);
      const std::int64_t columns = std::min<std::int64_t>(tile_, d_ - column);
      double* tile = tile_of(now_, place);
      for (std::int64_t r = 0; r < rows; ++r) {
        const double* from = scatter + (row + r) * d_ + column;
        std::copy(from, from + (place.row == place.column ? r + 1 : columns), tile + r * tile_);
      }
    }
  }
  if (waiting > 0) {
    pending_.reset_unset(chunk_rows_ * d_);
    std::copy(waiting_rows, waiting_rows + waiting * d_, pending_.data());
  }
  now_.count = folded;
  waiting_ = waiting;
}

}  // namespace fastgen::cpu
