// A set of rows on one device made ready for joins: identical rows grouped, tight clusters told apart, every
// part centred on its own mean, rotated and quantised to int8 (twice where asked), with a residual
// norm per row. The device's counterpart of cpu/prepared.hpp; numbers may differ, answers do not.
//
// Distinct rows are numbered by slot, part after part. Every part begins at a multiple of kTileRows;
// the slots up to there are padding: no row, no copies, quantised to zeros.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/groups.hpp"
#include "common/rotation.hpp"
#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

constexpr int kTileRows = 128;   // rows and columns of a tile
constexpr int kTileDepth = 128;  // bytes of each row that a tile multiplies at a time

// automatic: int8, and finer products where int8 proves too coarse. direct: float32 differences, for at
// most kDirectFeatures features. exact: every pair is computed in float64.
enum class Path { automatic, int8, fine, direct, exact };

constexpr std::int64_t kDirectFeatures = 16;

// A run of slots with one centre; `begin` is a multiple of kTileRows, slots from `end` on are padding.
struct Part {
  std::int64_t begin = 0, end = 0;
  std::vector<double> centre;  // [d]
  // A few rows so far out that one scale cannot serve them and the rest: all their pairs are exact.
  bool outlying = false;

  std::int64_t size() const { return end - begin; }
  std::int64_t tiles() const { return blocks_for(size(), kTileRows); }
};

// Device pointers, by slot. In units of z = R (x - c) unit:
struct PreparedView {
  RowView rows;                   // the original rows, in device memory
  const std::int32_t* first_row;  // smallest row of the group; -1: padding
  const std::int32_t* copies;     // rows in the group; 0: padding
  const std::int8_t* high;        // [slots, depth] q, in [-127, 127]
  const std::int8_t* low;   // [slots, depth] of round(254 (z / s - q)), same range; null without
  const double* scale;      // s
  const double* magnitude;  // a >= |s q|
  const double* error;      // eps >= |z - s q|
  const double* square;     // |z|^2, relative error at most double_sum_error(depth)
  // Of the pair of planes: fine_magnitude >= |s (q + l / 254)|, fine_error >= |z - s (q + l / 254)|,
  // fine_low >= |s l / 254|. Null without `low`.
  const double* fine_magnitude;
  const double* fine_error;
  const double* fine_low;
  std::int64_t slots;  // a multiple of kTileRows
  std::int64_t depth;  // padded features, a multiple of kTileDepth
};

struct QuantiseTask;
struct Scan;

class Prepared {
 public:
  // `rows` are in the memory of the stream's device and must outlive this object, as must the stream.
  // Path::automatic becomes direct where the rows have few features; every path becomes exact where no
  // bound holds: more features than kMaxQuantisedFeatures, or hardly any spread.
  Prepared(const RowView& rows, Path path, const Stream& stream);
  ~Prepared();
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  // Works for about `seconds`; the fraction done, 1 when ready.
  double advance(double seconds);
  bool ready() const { return phase_ == Phase::done; }

  const Stream& stream() const { return stream_; }
  Path path() const { return path_; }
  const RowView& rows() const { return rows_; }
  const Rotation& rotation() const { return rotation_; }
  const Groups& groups() const { return groups_; }
  const std::vector<Part>& parts() const { return parts_; }
  // The part's centre on the device; null where nothing is quantised.
  const double* centre_there(const Part& part) const;
  // Group of every slot (-1: padding), and slot of every group; on the host.
  const std::vector<std::int32_t>& group_of_slot() const { return group_of_slot_; }
  const std::vector<std::int32_t>& slot_of_group() const { return slot_of_group_; }
  std::int64_t slots() const { return static_cast<std::int64_t>(group_of_slot_.size()); }
  std::int64_t depth() const { return depth_; }
  // Exact power of two that brings the largest |z| to at most 2^40.
  double unit() const { return unit_; }
  // Makes the second plane, once; nothing where nothing is quantised. Const, because joins ask for it
  // of a set that others share: the first plane and its bounds stay as they are.
  void refine() const;
  PreparedView view() const;
  std::int64_t nbytes() const;  // device memory held

 private:
  enum class Phase { scan, group, cluster, arrange, quantise, done };

  void scan();
  void read_columns(const std::vector<double>& columns, std::int64_t counted);
  void group();
  void find_clusters();
  void arrange();
  void quantise();
  bool quantised() const { return path_ != Path::exact && path_ != Path::direct; }
  // What the quantising kernel reads; where results go is still to be set.
  QuantiseTask task() const;

  RowView rows_;
  Stream stream_;
  Path path_;
  Rotation rotation_;
  std::int64_t depth_;
  Phase phase_ = Phase::scan;

  // Between the phases.
  std::unique_ptr<Scan> scan_;
  unsigned repeated_ = 0;               // rows whose hash an earlier row has
  std::vector<std::int32_t> outliers_;  // rows
  std::vector<double> mean_;
  std::vector<std::vector<double>> clusters_;
  std::vector<std::int8_t> cluster_of_;  // [groups], empty when there is one part

  double unit_ = 1.0;
  Groups groups_;
  std::vector<Part> parts_;
  std::vector<std::int32_t> group_of_slot_, slot_of_group_;

  DeviceBuffer<std::int32_t> first_row_, copies_, centre_of_tile_;
  DeviceBuffer<double> centres_;
  DeviceBuffer<std::uint32_t> flips_;
  DeviceBuffer<std::int8_t> high_;
  DeviceBuffer<double> bounds_;  // [4, slots]: scale, magnitude, error, square
  mutable DeviceBuffer<std::int8_t> low_;
  mutable DeviceBuffer<double> fine_bounds_;  // [3, slots]: fine_magnitude, fine_error, fine_low
};

}  // namespace fastgen::cuda
