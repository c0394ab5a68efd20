#include "cpu/row_order.hpp"

#include <algorithm>
#include <numeric>

namespace fastgen::cpu {

namespace {

constexpr std::int64_t kRowsPerTask = 16384;
// Parts of at most this many rows are halved to the end by one task.
constexpr std::int64_t kWholePart = 16384;
constexpr std::int64_t kLeaf = kSpan / 8;

}  // namespace

RowOrder::RowOrder(const RowView& rows, const Kernels& table, int threads)
    : rows_(rows), table_(&table), threads_(threads), values_(rows.n * rows.d), order_(rows.n) {
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  tasks_.reset(blocks_of(rows.n, kRowsPerTask));
}

bool RowOrder::advance(Deadline deadline) {
  while (phase_ != Phase::done) {
    const bool finished = run_tasks(tasks_, threads_, deadline, [&](int, std::int64_t task) {
      return phase_ == Phase::read ? read_task(task) : split_task(task);
    });
    if (!finished) return false;
    next_level();
  }
  return true;
}

void RowOrder::next_level() {
  std::vector<Part> level;
  if (phase_ == Phase::read) {
    level.push_back({0, rows_.n});
    phase_ = Phase::split;
  }
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    if (middle_[p] == parts_[p].end) continue;
    level.push_back({parts_[p].begin, middle_[p]});
    level.push_back({middle_[p], parts_[p].end});
  }
  parts_ = std::move(level);
  middle_.assign(parts_.size(), 0);
  if (parts_.empty()) {
    phase_ = Phase::done;
    values_.reset(0);
  }
  tasks_.reset(static_cast<std::int64_t>(parts_.size()));
}

void RowOrder::read_task(std::int64_t task) {
  const std::int64_t end = std::min(rows_.n, (task + 1) * kRowsPerTask);
  for (std::int64_t i = task * kRowsPerTask; i < end; ++i) {
    table_->to_double(rows_.row(i), rows_.dtype, rows_.d, values_.data() + i * rows_.d);
  }
}

void RowOrder::split_task(std::int64_t task) {
  std::vector<Key> keys;
  std::vector<double> moved;
  std::vector<Part> open{parts_[task]};
  const bool whole = parts_[task].end - parts_[task].begin <= kWholePart;
  middle_[task] = parts_[task].end;
  while (!open.empty()) {
    const Part part = open.back();
    open.pop_back();
    if (part.end - part.begin <= kLeaf) continue;
    const std::int64_t middle = halve(part, keys, moved);
    if (!whole) {
      middle_[task] = middle;
      return;
    }
    open.push_back({part.begin, middle});
    open.push_back({middle, part.end});
  }
}

// Puts the lower half along the longest side first; returns where the upper one begins, a whole number
// of blocks from the part's begin.
std::int64_t RowOrder::halve(const Part& part, std::vector<Key>& keys, std::vector<double>& moved) {
  const std::int64_t count = part.end - part.begin, d = rows_.d;
  double* values = values_.data() + part.begin * d;
  std::int64_t longest = 0;
  double length = -1;
  for (std::int64_t f = 0; f < d; ++f) {
    double low = values[f], high = values[f];
    for (std::int64_t i = 1; i < count; ++i) {
      low = std::min(low, values[i * d + f]);
      high = std::max(high, values[i * d + f]);
    }
    if (high - low > length) {
      length = high - low;
      longest = f;
    }
  }
  std::int64_t block = kSpan;
  while (block >= count) block /= 2;
  const std::int64_t half = blocks_of(blocks_of(count, block), 2) * block;
  keys.resize(count);
  for (std::int64_t i = 0; i < count; ++i) keys[i] = {values[i * d + longest], i};
  std::nth_element(keys.begin(), keys.begin() + half, keys.end(), [](const Key& a, const Key& b) {
    return a.value < b.value || (a.value == b.value && a.place < b.place);
  });
  moved.resize(count * d);
  std::vector<std::int64_t> rows(count);
  for (std::int64_t i = 0; i < count; ++i) {
    std::copy_n(values + keys[i].place * d, d, moved.data() + i * d);
    rows[i] = order_[part.begin + keys[i].place];
  }
  std::copy(moved.begin(), moved.end(), values);
  std::copy(rows.begin(), rows.end(), order_.begin() + part.begin);
  return part.begin + half;
}

}  // namespace fastgen::cpu
