// k nearest neighbours of every row, exact: sampled thresholds, the join, float64 rechecks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/join.hpp"
#include "cpu/nearest_lists.hpp"

namespace fastgen::cpu {

class Knn {
 public:
  // y == nullptr: among the other rows of x. `ranks` (1-based) are the neighbours wanted, ascending.
  Knn(const Prepared& x, const Prepared* y, std::vector<std::int64_t> ranks, bool indices,
      int threads);
  ~Knn();

  double advance(double seconds);
  std::int64_t rank_count() const { return static_cast<std::int64_t>(ranks_.size()); }
  // sq: [n, ranks] squared distances; indices: [n, ranks] or null.
  void finish(double* sq, std::int64_t* indices) const;

  std::int64_t pairs() const;
  std::int64_t hits() const { return hits_.load(); }
  std::int64_t rechecked() const;

 private:
  class Lists;
  class Emit;

  double scan(Deadline deadline);
  void scan_slot(std::int64_t slot, double* row, std::vector<Neighbour>& all);
  void begin_sample();
  void sample_task(int index, std::int64_t task);
  // The wanted ranks of one row from its slot's neighbours, which are sorted by (key, first row).
  void write_row(std::int64_t row, const Neighbour* begin, const Neighbour* end, double* sq,
                 std::int64_t* indices) const;

  const Prepared& x_;
  const Prepared& y_;
  bool self_, indices_, scan_, may_switch_;
  std::vector<std::int64_t> ranks_;
  std::int64_t k_;
  int threads_;

  std::unique_ptr<Join> join_;
  std::unique_ptr<Lists> lists_;
  std::unique_ptr<Emit> emit_;
  Tasks tasks_;
  enum class Stage { terms, sample, walk, settle, done } stage_ = Stage::terms;
  std::vector<std::int64_t> sample_;
  std::vector<float> sample_terms_[5];
  std::vector<bool> sampled_;  // parts of x whose thresholds have been set
  std::atomic<std::int64_t> hits_{0}, scanned_{0};

  // Scan path: results by slot, since neighbours are found in one go.
  std::vector<std::vector<Neighbour>> found_;
};

}  // namespace fastgen::cpu
