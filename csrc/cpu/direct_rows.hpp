// Points and samples of few features made ready for the direct walk: in order or as they are, boxes around
// their blocks, samples by features in the engine's units.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "cpu/density_problem.hpp"
#include "cpu/near_blocks.hpp"
#include "cpu/row_order.hpp"

namespace fastgen::cpu {

class DirectRows {
 public:
  // Blocks of `block_points` points; of kSpan samples. Sets problem.float64 where float32 cannot hold the
  // samples in units of the bandwidths.
  DirectRows(DensityProblem& problem, bool ordered, std::int64_t block_points);

  // True when all is ready.
  bool advance(Deadline deadline);

  // The caller's numbers of the rows at such places.
  std::int64_t point(std::int64_t place) const { return ordered_ ? point_order_[place] : place; }
  std::int64_t sample(std::int64_t place) const { return ordered_ ? sample_order_[place] : place; }
  bool ordered() const { return ordered_; }
  std::int64_t samples() const { return problem_.samples.n; }
  std::int64_t block_points() const { return block_points_; }
  // Whether samples are kept as float32.
  bool narrow() const { return !problem_.float64; }
  std::int64_t item() const { return narrow() ? 4 : 8; }
  // Units of the engine per unit of the rows, a power of two.
  double unit() const { return unit_; }

  // In units of the engine:
  const Boxes& point_boxes() const { return point_boxes_; }
  const Boxes& sample_boxes() const { return sample_boxes_; }
  SampleBlock block(std::int64_t number) const {
    return {columns_.data() + number * kSpan * d_ * item(),
            weights_.data() + number * kSpan * item()};
  }
  const BlockWeights& weights() const { return block_weight_; }
  // Points at the given places, [places, d].
  void load(const std::vector<std::int64_t>& places, double* out) const;
  // A feature, and the weight, of the sample at a place.
  double feature(std::int64_t place, int f) const {
    return value(columns_, (place / kSpan * d_ + f) * kSpan + place % kSpan);
  }
  double weight(std::int64_t place) const { return value(weights_, place); }
  // Writes a number as samples are kept.
  void put(unsigned char* to, std::int64_t place, double number) const {
    if (narrow()) {
      reinterpret_cast<float*>(to)[place] = static_cast<float>(number);
    } else {
      reinterpret_cast<double*>(to)[place] = number;
    }
  }

 private:
  enum class Phase { order, boxes, samples, done };

  double value(const AlignedBuffer<unsigned char>& buffer, std::int64_t place) const {
    return narrow() ? static_cast<double>(reinterpret_cast<const float*>(buffer.data())[place])
                    : reinterpret_cast<const double*>(buffer.data())[place];
  }
  void box_task(std::int64_t task);
  void place_unit();
  void samples_task(std::int64_t task);

  DensityProblem& problem_;
  bool ordered_;
  int d_;
  std::int64_t block_points_;
  double unit_ = 1;
  Phase phase_;
  Tasks tasks_;
  std::unique_ptr<RowOrder> ordering_;
  std::vector<std::int64_t> point_order_, sample_order_;
  Boxes point_boxes_, sample_boxes_;
  BlockWeights block_weight_;
  AlignedBuffer<unsigned char> columns_;  // [blocks, d, kSpan]
  AlignedBuffer<unsigned char> weights_;  // [blocks, kSpan]
};

}  // namespace fastgen::cpu
