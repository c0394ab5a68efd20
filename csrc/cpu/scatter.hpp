// Mean and scatter matrix of rows that come in batches, in float64.
//
// Rows are taken in chunks, whose size d alone decides; those that do not fill one wait. A chunk is
// centred on its own mean, and one more row beside it,
//   (n k / (n + k))^(1/2) (mean of the chunk - mean so far),  n rows so far, k in the chunk,
// makes Chan's rule for joining two parts (Chan, Golub and LeVeque, "Algorithms for computing the
// sample variance", 1983) a part of the product. So neither threads nor the batches' sizes change a bit.
//
// All is relative to the first row: a mean of 1e9 standard deviations costs no digits.
//
// Work builds the next state beside the present one, and `commit` puts it in its place: a call that is
// given up halfway changes nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "common/memory.hpp"
#include "common/rows.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

class Scatter {
 public:
  Scatter(std::int64_t d, const Kernels& table, int threads);

  // Rows of one chunk: with the row that joins it, whole blocks of kTileDepth, packed in at most
  // 32 MB (more where a single block takes more).
  static std::int64_t chunk_rows(std::int64_t d);

  // Each begins a piece of work and forgets what was begun before and not committed. What they are
  // given has to stay as it is until `commit`.
  void begin_update(const RowView& batch);
  void begin_merge(const Scatter& other);
  // Waiting rows as a short chunk; with `means_only` nothing that could be committed.
  void begin_flush(bool means_only);
  // Works until the deadline; returns the fraction done.
  double advance(Deadline deadline);
  // After advance has returned 1.
  void commit();
  void rollback();

  std::int64_t d() const { return d_; }
  std::int64_t count() const { return now_.count + waiting_; }
  std::int64_t waiting() const { return waiting_; }  // rows that do not fill a chunk
  const double* waiting_rows() const { return pending_.data(); }
  // Of the rows that do not wait; after work and before `commit`, of the next state.
  std::int64_t folded() const { return state().count; }
  const double* origin() const { return state().origin.data(); }  // [d]
  const double* shift() const { return state().mean.data(); }     // [d], the mean less the origin
  // [d, d], both triangles, divided by `divisor`.
  void scatter(double divisor, double* out) const;

  // The inverse of the accessors, on a new object. Reads the lower triangle.
  void restore(std::int64_t folded, const double* origin, const double* shift,
               const double* scatter, const double* waiting_rows, std::int64_t waiting);

 private:
  struct State {
    std::int64_t count = 0;
    std::vector<double> origin, mean;  // [width_]; the mean less the origin
    AlignedBuffer<double> tiles;       // of the lower triangle, [tile_, tile_] each
  };
  struct Place {
    int row, column;
  };
  enum class Phase { idle, join, pack, multiply, done };

  const State& state() const { return phase_ == Phase::done ? next_ : now_; }
  std::int64_t tile_items() const { return std::int64_t{tile_} * tile_; }
  std::int64_t tiles() const { return blocks_ * (blocks_ + 1) / 2; }
  Place place_of(std::int64_t task) const;
  int features_of(std::int64_t block) const;
  double* tile_of(State& state, Place place) const;
  const double* tile_of(const State& state, Place place) const;
  std::int64_t parts_of(std::int64_t chunk, RowView parts[2]) const;
  void begin(std::int64_t chunks, const RowView& head, const RowView& tail);
  void next_phase();
  void join_task(std::int64_t task);
  void pack_task(std::int64_t task);
  void multiply_task(std::int64_t task);

  const std::int64_t d_;
  const Kernels& table_;
  const int threads_;
  const int tile_;             // features on a tile's side
  const std::int64_t blocks_;  // of that many features
  const std::int64_t width_;   // d to whole panels of every instruction set
  const std::int64_t chunk_rows_;

  State now_, next_;
  AlignedBuffer<double> pending_;  // [chunk_rows_, d]
  std::int64_t waiting_ = 0;

  // The work.
  Phase phase_ = Phase::idle;
  Tasks tasks_;
  const Scatter* other_ = nullptr;
  RowView head_, tail_;  // the rows of all chunks, one after the other
  std::int64_t chunks_ = 0, chunk_ = 0;
  bool copied_ = false;    // next_ holds a scatter matrix
  bool updating_ = false;  // `commit` keeps what is left of tail_
  bool means_only_ = false;
  std::vector<double> step_, chunk_mean_;
  AlignedBuffer<double> packed_;
};

}  // namespace fastgen::cpu
