// The walk over tiles of pairs that all comparison-based reductions share on a device: segments (pairs of
// parts), bands of tiles, batches of them. A consumer says which thresholds hold and takes the hits.
//
// Tiles go by bands: with T blocks of columns, band s has row r meet block (r + s) mod T, r counted in blocks
// too, so that every band shows every row some columns, rows of a symmetric segment meet each other
// once (bands 0 to T / 2), and a batch of a few neighbouring bands reads few distinct rows. Blocks
// have 256 rows, or 128 for direct differences and where every pair is a hit: what a share owns must not
// depend on its device. Where a block of threads has too little shared memory for the wide tiles
// (tile_product.cuh), a block of columns is two narrow ones.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "cuda/certificate.cuh"
#include "cuda/join_tiles.hpp"
#include "cuda/prepared.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

struct Segment {
  const Part* x;
  const Part* y;
  bool symmetric;  // x and y are the same part of the same set
};

// Bands [begin, end) of the segment at hand.
struct Batch {
  std::int64_t band_begin, band_end;
};

// Bands that are behind, and may have lowered thresholds: of the segment, and as many as rows of its x
// part have met columns, and columns of its y part rows, in segments before.
struct Behind {
  std::int64_t here, by_x, by_y;
};

// A share of the tiles, where several devices or calls divide a join: row tiles go round by groups.
struct Share {
  int index = 0, count = 1;
};

// What a join may use; tests ask for less.
struct JoinLimits {
  std::int64_t hits = std::int64_t{1} << 22;  // at a time, 48 MB; at least those of one tile
  std::int64_t shared = 0;                    // bytes of a block; 0: what the device has
};

class Join;

class Consumer {
 public:
  virtual ~Consumer() = default;
  // At most so many bands in the next batch.
  virtual std::int64_t most_bands(const Behind& behind) const = 0;
  // At least all thresholds that hold in the segment, which is left out where its parts lie farther apart.
  // Asked where there are several parts, before a segment begins.
  virtual double most_reach(const Join& join, const Segment& segment) {
    (void)join, (void)segment;
    return std::numeric_limits<double>::infinity();
  }
  // Launches the kernel of the batch: Join::emit or Join::count.
  virtual void tiles(Join& join, const Batch& batch) = 0;
  // Takes hits in device memory, each emitted once over the whole walk (any order). Thresholds may
  // be lowered here to what still needs every pair that matters; they hold from the next launch on.
  virtual void hits(Join& join, const Hit* hits, std::int64_t count) = 0;
};

class Join {
 public:
  // y null: x against itself, each unordered pair once, no row with itself. Both sets on one device.
  Join(const Prepared& x, const Prepared* y, Share share, const Stream& stream,
       const JoinLimits& limits = {});
  ~Join();
  Join(const Join&) = delete;
  Join& operator=(const Join&) = delete;

  const Stream& stream() const { return stream_; }
  const Prepared& x() const { return x_; }
  const Prepared& y() const { return y_; }
  bool self() const { return self_; }
  double sq_unit() const { return unit_ * unit_; }
  JoinView view() const;
  Product product() const { return product_; }
  // Finer products from here on, if there are any: the segment's remaining bands are walked with them.
  void use_fine();

  bool done() const { return current_ == segments_.size(); }
  const Segment& segment() const { return segments_[current_]; }
  // Sets the segment's terms on the device if that has not been done.
  void begin_segment();
  // Walks batches until about `seconds` are over, one at least; true when the segment is finished or
  // left out, and the next one is at hand.
  bool advance(double seconds, Consumer& consumer);
  double fraction() const;
  // Pairs looked at or left out so far. What a walk looks at does not depend on time.
  std::int64_t pairs() const;

  // For Consumer::tiles.
  void emit(const Batch& batch, const EmitThresholds& thresholds);
  void count(const Batch& batch, const BallThresholds& thresholds);
  // Lowers reach[slot] of the segment's x side to an upper bound of the k-th smallest squared distance to the
  // segment's y side, from a sample of its columns; pairs of a row with itself do not count.
  // Does nothing where a sample would be most of the columns, or not more than k.
  void sample_reach(std::int64_t k, float* reach);

 private:
  // Terms of one set, by slot; see SideView.
  struct Side {
    DeviceBuffer<float> scale, magnitude, error, low, high, direct, reach;
    DeviceBuffer<double> square, quantised_square, slack;
    // By part: at least all |z|, empty where all segments are walked; rows of the other side met.
    std::vector<double> radius;
    std::vector<std::int64_t> met;
  };

  void choose_product();
  void choose_unit();
  void add_segments();
  void allocate(Side& side, const Prepared& set);
  void find_radii(Side& side, const Prepared& set);
  bool beyond(const Segment& segment, double reach) const;
  void finish_segment();
  Behind behind() const;
  void set_terms();
  bool exact() const;
  int block_rows() const;
  double segment_pairs(const Segment& segment) const;
  std::int64_t bands() const;
  std::int64_t next_batch(const Consumer& consumer) const;
  TileJob job(const Batch& batch) const;
  SideView side_view(const Side& side, const Prepared& set) const;
  void walk(TileJob job, const std::function<void(const TileJob&)>& launch_tiles);

  const Prepared& x_;
  const Prepared& y_;
  bool self_;
  Share share_;
  Stream stream_;
  Product product_ = Product::int8;
  bool all_exact_ = false, wide_ = false;
  double unit_ = 1.0;

  std::vector<Segment> segments_;
  std::size_t current_ = 0;
  bool terms_ready_ = false;
  std::int64_t band_ = 0;  // next of the segment
  double finished_pairs_ = 0, total_pairs_ = 0;

  Side x_side_, y_side_;
  DeviceBuffer<Hit> hits_;
  DeviceBuffer<TileCounters> counters_;
  DeviceBuffer<std::int32_t> redo_[2];
  Consumer* consumer_ = nullptr;
};

}  // namespace fastgen::cuda
