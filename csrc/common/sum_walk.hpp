// Which rows meet which in the sum engine: every row of every subset has a slot, slots are divided into
// blocks, and pairs of blocks are multiplied window by window.
#pragma once

#include <cstdint>
#include <vector>

namespace fastgen {

// Rows that meet each other: all of both sets, or some of each, many times.
struct SumSubsets {
  std::int64_t count;           // 1 for the full sample
  std::int64_t x_size, y_size;  // rows of a subset
  const std::int64_t* x;        // [count, x_size] row numbers; null: all rows in order
  const std::int64_t* y;        // [count, y_size]
};

class SumWalk {
 public:
  // Slots of one set in one subset.
  struct Block {
    std::int64_t begin;
    int count, set;
    std::int64_t subset;
  };
  struct Pair {
    std::int64_t rows, columns;  // blocks, rows not after columns
  };
  struct Packing {
    std::int64_t block;
    int place;
  };

  SumWalk() = default;
  // Each set's slots begin at a multiple of `run`.
  SumWalk(const SumSubsets& subsets, int sets, bool within, std::int64_t run);

  std::int64_t slots() const { return subsets_.count * subset_slots_; }
  std::int64_t subset_size(int set) const { return set == 0 ? subsets_.x_size : subsets_.y_size; }
  std::int64_t part_begin(std::int64_t subset, int set) const {
    return subset * subset_slots_ + (set == 0 ? 0 : second_set_);
  }
  // The row in a slot, which is the i-th of a set in a subset.
  std::int64_t row(std::int64_t subset, int set, std::int64_t i) const {
    const std::int64_t* index = set == 0 ? subsets_.x : subsets_.y;
    return index ? index[subset * subset_size(set) + i] : i;
  }
  // Calls value(slot) for the slots of a set, subset by subset.
  template <class Value>
  void each_slot(int set, Value&& value) const {
    for (std::int64_t g = 0; g < subsets_.count; ++g) {
      const std::int64_t begin = part_begin(g, set);
      for (std::int64_t slot = begin; slot < begin + subset_size(set); ++slot) value(slot);
    }
  }

  // Blocks of at most `rows` slots, windows of at most `window` blocks.
  void divide(std::int64_t rows, std::int64_t window);
  const std::vector<Block>& blocks() const { return blocks_; }
  // Blocks of a window; a block's place in its window is its number modulo this.
  std::int64_t window() const { return window_; }
  // Whether windows meet each other: then two of them have to be packed at a time.
  bool windows_meet() const;

  // The next two windows that have pairs: lists those, `group` blocks of rows at a time against every
  // block of columns, and what must be packed for them. False: there are no more.
  bool next_stage(std::int64_t group);
  std::vector<Pair>& pairs() { return pairs_; }
  const std::vector<Pair>& pairs() const { return pairs_; }
  const std::vector<Packing>& to_pack() const { return to_pack_; }
  int row_place() const { return row_place_; }
  int column_place() const { return column_place_; }

  double cost(const Pair& pair) const;  // products
  // Of the first pairs of this stage and all stages before it, as a share of all products.
  double fraction(std::int64_t pairs) const;

 private:
  bool meet(const Block& a, const Block& b) const;
  int place_window(std::int64_t window, int place);

  SumSubsets subsets_{};
  int sets_ = 0;
  bool within_ = false;
  std::int64_t subset_slots_ = 0, second_set_ = 0;
  std::vector<Block> blocks_;
  std::int64_t window_ = 1, row_window_ = 0, column_window_ = -1;
  std::int64_t packed_window_[2] = {-1, -1};
  int row_place_ = 0, column_place_ = 0;
  std::vector<Packing> to_pack_;  // for this stage
  std::vector<Pair> pairs_;       // of this stage
  double total_pairs_ = 0, done_pairs_ = 0;
};

}  // namespace fastgen
