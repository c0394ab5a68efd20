// The density walk for few features: squared distances are sums of squared differences, so nothing
// cancels however close two rows are.
//
// With one bandwidth, terms are added up as they are, in the samples' own precision, and rows for which
// that tells too little are done again in float64, counted from their nearest sample. With several, all
// rows are. Where the walk is ordered, blocks of samples that are proven not to matter are passed over.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "cpu/density_problem.hpp"
#include "cpu/near_blocks.hpp"
#include "cpu/row_order.hpp"

namespace fastgen::cpu {

class DirectDensity final : public DensityWalk {
 public:
  DirectDensity(const DensityProblem& problem, bool ordered);

  double advance(Deadline deadline) override;
  const LogSumTotals& totals() const override { return *totals_; }
  std::int64_t point(std::int64_t row) const override { return ordered_ ? point_order_[row] : row; }

 private:
  enum class Phase { order, boxes, samples, direct, anchored, done };

  // A block of points and the part of the samples that it meets.
  struct Meeting {
    std::int64_t block;
    int part;
  };
  // Scratch of one thread.
  struct Worker {
    std::vector<std::int64_t> rows;  // of the block
    AlignedBuffer<double> points, squares, largest, partials;
    AlignedBuffer<unsigned char> narrow, weights;  // points and weights in the samples' type
    std::vector<std::int64_t> blocks;
    NearBlocks::Scratch near;
  };

  void begin(Phase phase);
  void work(int worker, std::int64_t task);
  std::int64_t sample(std::int64_t place) const { return ordered_ ? sample_order_[place] : place; }
  // Whether samples, and points, are float32 here.
  bool narrow() const { return item_ == 4; }
  void box_task(std::int64_t task);
  void place_unit();
  void samples_task(std::int64_t task);
  void list_blocks(Worker& worker, const Meeting& meeting);
  void load_points(Worker& worker);
  void direct_task(Worker& worker, const Meeting& meeting);
  void anchored_task(Worker& worker, const Meeting& meeting);
  bool settled(std::int64_t row) const;
  const void* block_columns(std::int64_t block) const {
    return columns_.data() + block * kSpan * problem_.points.d * item_;
  }
  const void* block_weights(std::int64_t block) const {
    return weights_.data() + block * kSpan * item_;
  }

  DensityProblem problem_;
  bool ordered_;
  int d_;
  std::int64_t item_;
  std::int64_t block_points_ = kPoints;
  int parts_ = 1;
  double unit_ = 1, total_weight_ = 0;
  std::vector<double> rates_;
  std::vector<RateGroup> groups_;

  Phase phase_;
  Tasks tasks_;
  std::unique_ptr<RowOrder> ordering_;
  std::vector<std::int64_t> point_order_, sample_order_;
  Boxes point_boxes_, sample_boxes_;
  BlockWeights block_weight_;
  AlignedBuffer<unsigned char> columns_;  // [blocks, d, kSpan] in units of the engine
  AlignedBuffer<unsigned char> weights_;  // [blocks, kSpan]
  std::unique_ptr<NearBlocks> near_;
  std::unique_ptr<LogSumTotals> totals_;
  std::vector<Meeting> meetings_;
  std::vector<std::vector<std::int64_t>> unsettled_;  // rows of each block of points
  std::vector<Worker> workers_;
};

}  // namespace fastgen::cpu
