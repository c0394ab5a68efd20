// An order of rows in which blocks are small boxes: a k-d tree whose leaves are the blocks.
//
// Parts are halved at the middle row along their longest side, so blocks fit the data whatever their
// scales, and one far row makes one block long. (A space-filling curve over a grid has neither.)
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "common/memory.hpp"
#include "common/rows.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

class RowOrder {
 public:
  // Blocks of kSpan rows, whose halves, quarters and eighths are boxes too.
  RowOrder(const RowView& rows, const Kernels& table, int threads);

  // True when the order is known.
  bool advance(Deadline deadline);
  std::vector<std::int64_t> take() { return std::move(order_); }

 private:
  enum class Phase { read, split, done };
  struct Part {
    std::int64_t begin, end;
  };
  struct Key {
    double value;
    std::int64_t place;
  };

  void read_task(std::int64_t task);
  void split_task(std::int64_t task);
  std::int64_t halve(const Part& part, std::vector<Key>& keys, std::vector<double>& moved);
  void next_level();

  RowView rows_;
  const Kernels* table_;
  int threads_;
  Phase phase_ = Phase::read;
  Tasks tasks_;
  AlignedBuffer<double> values_;  // [n, d] in the order so far
  std::vector<std::int64_t> order_;
  std::vector<Part> parts_;           // to be halved
  std::vector<std::int64_t> middle_;  // of every part, once it is
};

}  // namespace fastgen::cpu
