// Logarithms of Gaussian-kernel sums on a device, log sum_j w_j exp(-|x_i - y_j|^2 / 2 h^2): the density
// engine. The device's counterpart of cpu/density.hpp; numbers may differ within the stated error.
//
// Few features: differences. One bandwidth and rows of float16 or float32: sums of terms as they are
// (plain_sums.hpp), and points for which that tells too little again; those and all else in float64, counted
// from the nearest sample (anchored_sums.hpp). Many features: with one bandwidth and such rows, exponents from
// float16 products where few samples matter (screened_sums.hpp); all else by tiles of float64 products
// (tile_sums.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/rows.hpp"
#include "cuda/density_problem.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

class ScreenedSums;
class TileSums;

enum class DensityPath { automatic, direct, tiles };

class LogSums {
 public:
  // Rows are in the memory of the stream's device, which must outlive the engine; `bandwidths` in any order,
  // within a factor of 2^100 of each other. `weights`, on the host and copied: [samples], in (0, 1], the
  // largest 1; null: all 1. `leave_one_out`: point i is sample first + i and left out of its own sum.
  LogSums(const RowView& points, const RowView& samples, std::vector<double> bandwidths,
          const double* weights, bool leave_one_out, std::int64_t first, DensityPath path,
          const Stream& stream);
  ~LogSums();

  // Works for about that long and returns the fraction done, 1 at the end.
  double advance(double seconds);
  bool done() const { return phase_ == Phase::done; }
  // Whether a bandwidth is so small beside the rows that exponents leave float64: then there are no sums.
  bool too_narrow() const { return too_narrow_; }
  // Points that a cheaper walk told enough about; none where all were done in float64.
  std::int64_t served_first() const { return served_first_; }
  // To the host: [points, bandwidths]; [bandwidths] points of which one sample has more than half of the sum.
  void log_sums(double* out) const;
  void dominated(std::int64_t* out) const;
  // Before the first advance: asks for what the largest term has of each sum.
  void want_shares();
  // [points, bandwidths]: that, where it is more than half; 0 elsewhere.
  void shares(double* out) const;

  // At most so many points go into one batch, beside what memory and time allow. Changes no result.
  void limit_batches(std::int64_t points) { most_points_ = points; }
  // From so many samples on float16 products are tried, and terms down to 2^-listed of a sum, or some below,
  // computed apart.
  void screen_from(std::int64_t samples, double listed = 18) {
    least_screened_ = samples;
    listed_ = listed;
  }

 private:
  enum class Phase { look, first, settle, done };

  // Points that one unit serves; all where there is no list of them.
  struct Pass {
    DensityRates rates;
    DeviceBuffer<std::int32_t> rows;
    bool listed;
    std::int64_t count;
  };

  void look();
  void list_passes();
  void begin_pass();
  std::int64_t next_batch(std::int64_t left, std::int64_t most);
  void first_batch();
  void settle_batch();
  DensityRates rates_in(double unit) const;

  Stream stream_;
  DensityProblem problem_;
  DensityPath path_;
  std::vector<std::int64_t> descending_;  // the caller's numbers of the bandwidths by size
  std::vector<double> widths_;            // in that order
  DeviceBuffer<double> weights_, logs_, shares_;
  DeviceBuffer<unsigned long long> dominated_, peaks_;
  DeviceBuffer<unsigned> unsettled_count_;
  DeviceBuffer<std::int32_t> unsettled_;
  std::vector<double> mean_;  // of the samples, for tiles

  Phase phase_ = Phase::look;
  bool too_narrow_ = false;
  bool first_ = false;              // whether points are tried by a cheaper walk first
  double unit_ = 1, far_unit_ = 1;  // of points in reach, and of those beyond
  bool far_ = false;                // whether there may be such
  std::vector<Pass> passes_;
  std::size_t pass_ = 0;
  std::unique_ptr<ScreenedSums> screened_;
  std::unique_ptr<TileSums> tiles_;
  std::int64_t done_points_ = 0;  // of the pass
  std::int64_t served_first_ = 0;
  double settled_ = 0, to_settle_ = 0;
  std::int64_t most_points_ = std::int64_t{1} << 31, least_screened_ = 16384;
  double listed_ = 18;
  double points_per_second_ = 0;
  double shown_ = 0;  // fraction said so far: points may have to begin anew
};

}  // namespace fastgen::cuda
