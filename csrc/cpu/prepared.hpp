// A set of rows made ready for joins: identical rows grouped, tight clusters told apart, every part
// centred on its own mean, rotated, and quantised to int8 with a residual norm per row.
//
// Distinct rows are numbered by "slot", part after part. One prepared set serves every join.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/groups.hpp"
#include "common/memory.hpp"
#include "common/rotation.hpp"
#include "common/rows.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

enum class Path { automatic, int8, float32, scan };

// A run of slots with one centre.
struct Part {
  std::int64_t begin = 0, end = 0;
  std::vector<double> centre;  // [d]
  // A few rows so far out that one scale cannot serve them and the rest: their pairs are all computed
  // exactly, and they take no part in the mean.
  bool outlying = false;

  std::int64_t size() const { return end - begin; }
};

class Prepared {
 public:
  // The rows must outlive this object. Path::automatic lets joins go from int8 to float32.
  Prepared(const RowView& rows, Path path, const Kernels& kernels, int threads);

  // Works for about `seconds`; the fraction done, 1 when ready.
  double advance(double seconds);
  bool ready() const { return phase_ == Phase::done; }

  const RowView& rows() const { return rows_; }
  const Kernels& kernels() const { return *kernels_; }
  const Rotation& rotation() const { return rotation_; }
  const Groups& groups() const { return groups_; }
  const std::vector<Part>& parts() const { return parts_; }
  Path path() const { return path_; }
  int threads() const { return threads_; }
  std::int64_t nbytes() const;

  std::int64_t slots() const { return groups_.size(); }
  std::int64_t depth() const { return rotation_.depth(); }
  // Bytes between quantised rows: an odd number of cache lines, or rows of 2048 would share two sets.
  std::int64_t stride() const { return depth() % 128 == 0 ? depth() + 64 : depth(); }
  // Exact power of two that brings the largest |z| to at most 2^40.
  double unit() const { return unit_; }
  const void* row_of_slot(std::int64_t slot) const { return rows_.row(first_row(slot)); }
  std::int32_t first_row(std::int64_t slot) const { return groups_.first[group_[slot]]; }
  std::int32_t copies(std::int64_t slot) const { return groups_.copies[group_[slot]]; }
  std::int32_t group(std::int64_t slot) const { return group_[slot]; }

  // In units of z = R (x - c) * unit, by slot.
  const std::uint8_t* quantised(std::int64_t slot) const {
    return quantised_.data() + slot * stride();
  }
  double scale(std::int64_t slot) const { return scale_[slot]; }
  double magnitude(std::int64_t slot) const { return magnitude_[slot]; }
  double error(std::int64_t slot) const { return error_[slot]; }
  double square(std::int64_t slot) const { return square_[slot]; }

 private:
  enum class Phase { scan, centre, assign, quantise, done };

  void begin_phase(Phase phase);
  void scan_block(std::int64_t block);
  void finish_scan();
  bool find_outliers();
  void assign_rows(int worker, std::int64_t task);
  void finish_assign();
  void quantise_rows(int worker, std::int64_t task);

  RowView rows_;
  const Kernels* kernels_;
  int threads_;
  Path path_;
  Rotation rotation_;

  Phase phase_ = Phase::scan;
  Tasks tasks_;
  std::int64_t block_rows_ = 0;

  std::vector<std::uint64_t> hashes_;
  std::vector<double> peaks_;   // [n] largest magnitude of each row
  std::vector<bool> outlying_;  // [n], empty when no row is
  std::int64_t outliers_ = 0;
  std::vector<std::vector<double>> block_sum_, block_low_, block_high_;  // [blocks][d]
  std::vector<double> mean_;
  std::vector<std::vector<double>> clusters_;
  std::vector<std::int8_t> cluster_of_;  // [groups]

  Groups groups_;
  std::vector<std::int32_t> group_;  // [slots]
  std::vector<Part> parts_;
  double unit_ = 1.0;
  AlignedBuffer<std::uint8_t> quantised_;
  std::vector<double> scale_, magnitude_, error_, square_;  // [slots]
  std::vector<AlignedBuffer<double>> centred_;              // scratch by worker
  std::vector<AlignedBuffer<float>> rotated_;
};

// Calls member(row) for every row of a slot, ascending.
template <class Member>
void each_row(const Prepared& set, std::int64_t slot, Member&& member) {
  const Groups& groups = set.groups();
  const std::int32_t group = set.group(slot);
  if (groups.distinct()) {
    member(static_cast<std::int64_t>(groups.first[group]));
  } else {
    for (std::int64_t i = groups.start[group]; i < groups.start[group + 1]; ++i) {
      member(static_cast<std::int64_t>(groups.members[i]));
    }
  }
}

}  // namespace fastgen::cpu
