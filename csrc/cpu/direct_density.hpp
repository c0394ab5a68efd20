// The density walk for few features: squared distances are sums of squared differences, so nothing
// cancels however close two rows are.
//
// With one bandwidth, terms are added up as they are, in the samples' own precision, and rows for which
// that tells too little are done again in float64, counted from their nearest sample. With several, all
// rows are, by one pass; but bandwidths follow one another where a far field makes each cheap.
//
// Where the walk is ordered, blocks of samples that are proven not to matter are passed over: by bounds
// from boxes, and for anchored sums by the nearest samples found so far.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/memory.hpp"
#include "cpu/density_problem.hpp"
#include "cpu/direct_rows.hpp"
#include "cpu/far_field.hpp"
#include "cpu/near_blocks.hpp"

namespace fastgen::cpu {

class DirectDensity final : public DensityWalk {
 public:
  DirectDensity(const DensityProblem& problem, bool ordered);

  double advance(Deadline deadline) override;
  const std::vector<LogSumTotals>& totals() const override { return totals_; }
  std::int64_t point(std::int64_t row) const override { return rows_.point(row); }
  bool too_narrow() const override { return too_narrow_; }

 private:
  enum class Phase { rows, far_field, direct, anchored, done };

  // A block of points and the part of the samples that it meets.
  struct Meeting {
    std::int64_t block;
    int part;
  };
  // Scratch of one thread.
  struct Worker {
    std::vector<std::int64_t> places;  // of the points at hand
    std::vector<std::int64_t> blocks;  // of samples that matter to them, of this part
    std::vector<std::pair<double, std::int64_t>> magnitudes;  // of their polynomials
    double weight;                                            // of those of all parts
    std::vector<SampleBlock> together;
    std::vector<FarGroup> groups;
    BlockSums sums;
    NearBlocks::Scratch near;
    Boxes box;  // of the points at hand
    AlignedBuffer<double> points, squares, far;
    // In the samples' type: points, points by feature, weights.
    AlignedBuffer<unsigned char> rows, turned, weights;
  };

  void begin_pass();
  void begin(Phase phase);
  void finish_phase();
  double tells() const;
  void list_blocks(Worker& worker, const Meeting& meeting, double floor);
  void direct_task(Worker& worker, const Meeting& meeting);
  void far_sums(Worker& worker, std::int64_t block, int count);
  void own_block(Worker& worker, DirectSums sums, std::int64_t begin, std::int64_t own);
  void anchored_task(Worker& worker, const Meeting& meeting);

  DensityProblem problem_;
  int d_;
  DirectRows rows_;
  bool too_narrow_ = false;
  bool far_field_;  // groups of samples as polynomials
  int parts_ = 1;

  Phase phase_ = Phase::rows;
  Tasks tasks_;
  double total_weight_ = 0;
  std::vector<LogSumTotals> totals_;  // of every pass
  std::vector<Worker> workers_;

  // Of this pass:
  std::size_t first_bandwidth_ = 0;
  bool direct_ = false;
  std::vector<double> rates_;
  std::vector<RateGroup> groups_;
  std::unique_ptr<NearBlocks> near_;
  std::unique_ptr<FarField> far_;
  std::vector<Meeting> meetings_;
  std::vector<std::vector<std::int64_t>> unsettled_;  // rows of each block of points
};

}  // namespace fastgen::cpu
