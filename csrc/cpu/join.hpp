// The walk over pairs of rows that every comparison-based reduction shares: segments (pairs of parts),
// blocks of packed columns, strips of rows. A consumer says which thresholds hold for a strip and
// takes what the kernels emit.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "cpu/bounds.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"
#include "cpu/prepared.hpp"

namespace fastgen::cpu {

struct Segment {
  const Part* x;
  const Part* y;
  bool symmetric;  // x and y are the same part of the same set

  // Outlying rows have no bounds: every pair is computed.
  bool exact() const { return x->outlying || y->outlying; }
};

// What a strip is about: slots [row, row + rows) of x against [column, column + columns) of y.
struct StripRange {
  std::int64_t row, column;
  int rows, columns;
};

// Scratch of one worker.
struct Worker {
  AlignedBuffer<unsigned char> rows, panels;
  AlignedBuffer<std::int32_t> products;
  AlignedBuffer<float> floats;    // one converted panel or strip
  AlignedBuffer<double> doubles;  // one row
  AlignedBuffer<double> point;    // one row, for consumers
  AlignedBuffer<float> row_threshold, row_weight, column_threshold;
  std::vector<Hit> hits;
  std::int64_t packed_first = -1;  // slot of the first packed column; -1: none
};

class Join;

class Consumer {
 public:
  virtual ~Consumer() = default;
  // Runs the kernel on a strip and deals with what it emits.
  virtual void strip(const Join& join, Worker& worker, int index, const Strip& strip,
                     const StripRange& range) = 0;
  // Takes a pair whose canonical squared distance is known.
  virtual void pair(const Join& join, Worker& worker, std::int64_t x_slot, std::int64_t y_slot,
                    double sq) = 0;
};

class Join {
 public:
  // y == nullptr: x against itself, each unordered pair once, no row with itself.
  Join(const Prepared& x, const Prepared* y, int threads);

  const Kernels& kernels() const { return x_.set->kernels(); }
  bool self() const { return self_; }
  bool float_path() const { return float_path_; }
  // What is left of the walk uses float32 products, a hundred times sharper and four times slower.
  // Call between `advance`s; the current segment must be prepared again.
  void use_float_path();
  // Whether looks at pairs cost more than float32 products would: then int8 cannot tell them apart.
  bool int8_too_coarse(std::int64_t rechecked) const;
  // Workers of the walk; at most as many as were asked for.
  int threads() const { return threads_; }
  const JoinSide& x() const { return x_; }
  const JoinSide& y() const { return self_ ? x_ : y_; }
  const Segment& segment() const { return segments_[current_]; }
  bool done() const { return current_ >= static_cast<std::int64_t>(segments_.size()); }
  double fraction() const;
  // Squared distances times this are in the join's units.
  double sq_unit() const { return unit_ * unit_; }
  // Pairs walked so far.
  std::int64_t pairs() const { return pairs_.load(); }

  // Computes the terms of the current segment; call before `advance` and `sample`. True when done.
  bool prepare_segment(Deadline deadline);
  // Walks the current segment; true when it is finished, and the next one is current.
  bool advance(Deadline deadline, Consumer& consumer);

  // Bounds on the squared distance of an emitted pair.
  Interval bounds(std::int64_t x_slot, std::int64_t y_slot, std::int32_t dot) const {
    return pair_bounds(x_, x_slot, y(), y_slot, dot, float_path_);
  }

  // Columns that `pack` can take, and a worker's scratch, for consumers that drive the kernels.
  int packed_columns() const { return packed_columns_; }
  Worker& worker(int index) { return *workers_[index]; }
  // Packs the listed slots of y (at most packed_columns) into the worker's panels.
  void pack(Worker& worker, const std::int64_t* slots, int count) const;
  // A strip over `range` with its row operand loaded; the columns are those packed last.
  Strip load_strip(Worker& worker, const StripRange& range, const Terms& column_terms) const;

 private:
  void add_segments(const Prepared& x, const Prepared* y);
  void allocate_workers();
  int block_capacity(bool float_path) const;
  void load_float_row(const JoinSide& side, const Part& part, std::int64_t slot, double* row,
                      float* out) const;
  void walk_task(int worker, std::int64_t task, Consumer& consumer);
  void exact_task(int worker, std::int64_t task, Consumer& consumer);

  JoinSide x_, y_;
  bool self_, float_path_;
  int threads_;
  double unit_ = 1.0;
  int block_columns_;   // of a task; fixed for the whole walk
  int packed_columns_;  // at a time, on the current path
  std::vector<Segment> segments_;
  std::int64_t current_ = 0;

  Tasks terms_tasks_, walk_tasks_;
  enum class Stage { terms, walk } stage_ = Stage::terms;
  bool terms_started_ = false, walk_started_ = false;
  std::vector<double> offset_, rotated_offset_;
  double sq_offset_ = 0;
  std::int64_t blocks_ = 0, row_groups_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<std::int64_t> pairs_{0};
  double total_pairs_ = 0, finished_pairs_ = 0;
};

}  // namespace fastgen::cpu
