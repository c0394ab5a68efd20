#include "common/sum_walk.hpp"

#include <algorithm>

namespace fastgen {

namespace {

std::int64_t blocks_of(std::int64_t items, std::int64_t size) { return (items + size - 1) / size; }

}  // namespace

SumWalk::SumWalk(const SumSubsets& subsets, int sets, bool within, std::int64_t run)
    : subsets_(subsets), sets_(sets), within_(within) {
  second_set_ = subset_slots_ = blocks_of(subsets.x_size, run) * run;
  if (sets == 2) subset_slots_ += blocks_of(subsets.y_size, run) * run;
  const double x = static_cast<double>(subsets.x_size);
  const double y = sets == 2 ? static_cast<double>(subsets.y_size) : 0.0;
  total_pairs_ = (within ? 0.5 * (x * x + y * y) : 0.0) + x * y;
  total_pairs_ *= static_cast<double>(subsets.count);
}

void SumWalk::divide(std::int64_t rows, std::int64_t window) {
  blocks_.clear();
  for (std::int64_t g = 0; g < subsets_.count; ++g) {
    for (int s = 0; s < sets_; ++s) {
      const std::int64_t size = subset_size(s), begin = part_begin(g, s);
      for (std::int64_t i = 0; i < size; i += rows) {
        blocks_.push_back({begin + i, static_cast<int>(std::min(rows, size - i)), s, g});
      }
    }
  }
  const std::int64_t count = static_cast<std::int64_t>(blocks_.size());
  window_ = std::min(count, std::max<std::int64_t>(1, window));
  // Whole subsets where they fit: then no window meets another.
  const std::int64_t of_subset = count / subsets_.count;
  if (window_ > of_subset) window_ -= window_ % of_subset;
}

bool SumWalk::windows_meet() const {
  const std::int64_t count = static_cast<std::int64_t>(blocks_.size());
  return window_ < count && window_ % (count / subsets_.count) != 0;
}

// Whether block `a`, not after `b`, is to be multiplied with it.
bool SumWalk::meet(const Block& a, const Block& b) const {
  return a.subset == b.subset && (a.set != b.set || within_);
}

// Has a window packed, if it is not already, in the given place; returns where it is.
int SumWalk::place_window(std::int64_t window, int place) {
  for (int other = 0; other < 2; ++other) {
    if (packed_window_[other] == window) return other;
  }
  packed_window_[place] = window;
  const std::int64_t end =
      std::min(static_cast<std::int64_t>(blocks_.size()), (window + 1) * window_);
  for (std::int64_t b = window * window_; b < end; ++b) to_pack_.push_back({b, place});
  return place;
}

double SumWalk::cost(const Pair& pair) const {
  const double area = static_cast<double>(blocks_[pair.rows].count) *
                      static_cast<double>(blocks_[pair.columns].count);
  return pair.rows == pair.columns ? 0.5 * area : area;
}

double SumWalk::fraction(std::int64_t pairs) const {
  double stage = 0;
  for (std::int64_t i = 0; i < pairs; ++i) stage += cost(pairs_[i]);
  return (done_pairs_ + stage) / total_pairs_;
}

bool SumWalk::next_stage(std::int64_t group) {
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
    if (row_window_ >= windows) return false;
    const std::int64_t row_end = std::min(count, (row_window_ + 1) * window_);
    const std::int64_t column_end = std::min(count, (column_window_ + 1) * window_);
    for (std::int64_t first = row_window_ * window_; first < row_end; first += group) {
      const std::int64_t end = std::min(row_end, first + group);
      for (std::int64_t b = std::max(first, column_window_ * window_); b < column_end; ++b) {
        // Later blocks are of later subsets.
        if (blocks_[b].subset > blocks_[end - 1].subset) break;
        for (std::int64_t a = first; a < std::min(end, b + 1); ++a) {
          if (meet(blocks_[a], blocks_[b])) pairs_.push_back({a, b});
        }
      }
    }
  }
  to_pack_.clear();
  row_place_ = place_window(row_window_, 0);
  column_place_ = place_window(column_window_, 1 - row_place_);
  return true;
}

}  // namespace fastgen
