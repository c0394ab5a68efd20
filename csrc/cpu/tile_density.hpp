// The density walk for many features: squared distances from tiles of float64 products of centred rows.
//
// Rows are packed by windows, as in kernel_sums.hpp. Squared distances of close pairs are taken from the
// rows themselves where cancellation would show at the bandwidths asked for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "cpu/density_problem.hpp"
#include "cpu/sum_rows.hpp"

namespace fastgen::cpu {

class TileDensity final : public DensityWalk {
 public:
  explicit TileDensity(const DensityProblem& problem);

  double advance(Deadline deadline) override;
  const std::vector<LogSumTotals>& totals() const override { return totals_; }
  std::int64_t point(std::int64_t row) const override { return row; }

 private:
  enum class Phase { rows, pack, tiles, done };

  // Rows of one side, packed by blocks, a window of them at a time.
  struct Side {
    int set;
    std::int64_t n, block_rows;
    std::int64_t block_bytes, window_blocks, windows;
    std::vector<const void*> rows;
    std::vector<double> factor, square;
    std::vector<float> spread;
    AlignedBuffer<unsigned char> packed;

    std::int64_t blocks() const { return blocks_of(n, block_rows); }
    std::int64_t first_block(std::int64_t window) const { return window * window_blocks; }
    std::int64_t end_block(std::int64_t window) const {
      return std::min(blocks(), (window + 1) * window_blocks);
    }
  };
  struct Worker {
    AlignedBuffer<double> products, squares, largest, partials, row;
  };

  void lay_out();
  void lay_out(Side& side, int set, std::int64_t block_rows);
  void next_stage();
  TileSide tile_side(const Side& side, std::int64_t block) const;
  const unsigned char* packed(const Side& side, std::int64_t block) const;
  void pack_task(std::int64_t task);
  void tile_task(Worker& worker, std::int64_t task);
  void recompute_close(Worker& worker, std::int64_t point, std::int64_t first, int count,
                       double anchor);

  DensityProblem problem_;
  SumRows rows_;
  bool look_ = false;
  std::vector<double> rates_;
  std::vector<RateGroup> groups_;
  std::vector<float> narrow_weights_;
  std::vector<double> weights_;  // padded
  Phase phase_ = Phase::rows;
  Tasks tasks_;
  Side points_, samples_;
  std::int64_t point_window_ = 0, sample_window_ = -1, packed_points_ = -1;
  int parts_ = 1;
  double stages_done_ = 0;
  std::vector<LogSumTotals> totals_;  // one
  std::vector<Worker> workers_;
};

}  // namespace fastgen::cpu
