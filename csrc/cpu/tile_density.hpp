// The density walk for many features: squared distances from tiles of products of centred rows, packed by
// windows as in kernel_sums.hpp.
//
// Products are float64. For one bandwidth, float32 rows whose norms are not too large in bandwidths are
// tried in float32 first, at half the cost, and points for which that may be too coarse done again. Squared distances of close pairs are taken from the rows themselves where
// cancellation would show.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/bandwidths.hpp"
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
  bool too_narrow() const override { return !rates_.empty() && rates_.back() > kFastestRate; }

 private:
  enum class Phase { rows, pack, tiles, done };

  // Rows of one side, packed by blocks, a window of them at a time.
  struct Side {
    int set;
    std::vector<std::int64_t> numbers;  // of the rows in their set
    std::int64_t n, block_rows;
    std::int64_t block_bytes, window_blocks, windows;
    std::vector<const void*> rows;
    std::vector<double> factor, square, largest;  // largest |z_f|, of float32 rows
    std::vector<float> spread;
    AlignedBuffer<unsigned char> packed;

    std::int64_t blocks() const { return blocks_of(n, block_rows); }
    std::int64_t first_block(std::int64_t window) const { return window * window_blocks; }
    std::int64_t end_block(std::int64_t window) const {
      return std::min(blocks(), (window + 1) * window_blocks);
    }
  };
  struct Worker {
    AlignedBuffer<double> products, squares, row;  // row: two of them
    BlockSums sums;
  };

  bool narrow() const { return !rows_.float64(); }
  double coarseness(double product, double square, double largest) const;
  void begin_rows();
  void lay_out(Side& side, std::int64_t block_rows);
  void list_coarse();
  void next_stage();
  TileSide tile_side(const Side& side, std::int64_t block) const;
  const unsigned char* packed(const Side& side, std::int64_t block) const;
  void pack_task(std::int64_t task);
  void tile_task(Worker& worker, std::int64_t task);
  void recompute_close(Worker& worker, std::int64_t point, std::int64_t first, int count,
                       double anchor);

  DensityProblem problem_;
  SumRows rows_;
  bool look_ = false, again_ = false;
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
  // Of float32 products, by part and point: the nearest sample's squared distance, norm and largest |z_f|.
  struct Nearest {
    double square, norm, largest;
  };
  std::vector<Nearest> nearest_;
  std::vector<Worker> workers_;
};

}  // namespace fastgen::cpu
