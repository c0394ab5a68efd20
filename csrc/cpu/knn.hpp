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
  // Results, written while it runs: sq [n, ranks] squared distances; indices [n, ranks] or null.
  Knn(const Prepared& x, const Prepared* y, std::vector<std::int64_t> ranks, double* sq,
      std::int64_t* indices, int threads);
  ~Knn();

  double advance(double seconds);
  bool done() const { return stage_ == Stage::done; }

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
  // Writes the wanted ranks of every copy of a slot; its neighbours are sorted by (key, first row).
  void write_slot(std::int64_t slot, const Neighbour* begin, const Neighbour* end);

  const Prepared& x_;
  const Prepared& y_;
  bool self_, scan_, may_switch_;
  std::vector<std::int64_t> ranks_;
  std::int64_t k_;
  double* sq_;
  std::int64_t* indices_;
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
};

}  // namespace fastgen::cpu
