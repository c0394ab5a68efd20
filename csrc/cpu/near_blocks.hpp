// Which blocks of samples matter to a block of points: bounds from boxes on what each adds to the sums.
#pragma once

#include <cstdint>
#include <vector>

namespace fastgen::cpu {

// Boxes around blocks of rows, feature by feature.
struct Boxes {
  std::int64_t count = 0;
  int d = 0;
  std::vector<double> low, high;  // [d, count]

  void reset(std::int64_t boxes, int features);
};

// What blocks of samples weigh.
struct BlockWeights {
  std::vector<double> sum, largest;  // [blocks]
};

class NearBlocks {
 public:
  // `rates` ascend. What is left out adds less than 2^-bits of each sum.
  NearBlocks(const Boxes& samples, const BlockWeights& weights, const std::vector<double>& rates,
             int bits);

  // Numbers of one thread, by block of samples.
  struct Scratch {
    std::vector<double> nearest, farthest, exponent;
    double low = 0;  // lower bound on the sums under the first bandwidth, to the base 2
  };

  // Distances of all blocks from a box of points, for what follows.
  void measure(const Boxes& points, std::int64_t box, Scratch& scratch) const;
  // The largest squared distance between the box and any sample.
  static double farthest(const Scratch& scratch);
  // Lists the blocks that matter to the points, ascending. The points may be samples of the block `own`,
  // each of which is then left out of its own sum; -1: they are not. Sums of less than 2^floor may lack
  // more.
  void find(std::int64_t own, double floor, Scratch& scratch,
            std::vector<std::int64_t>& blocks) const;

 private:
  const Boxes& samples_;
  const BlockWeights& weights_;
  const std::vector<double>& rates_;
  int bits_;
  double total_ = 0;
  std::vector<double> log_weight_;  // to the base 2
};

}  // namespace fastgen::cpu
