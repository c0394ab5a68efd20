#include "cpu/knn.hpp"

#include <algorithm>
#include <limits>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

constexpr std::int64_t kOwnersPerTask = 64;
constexpr std::int64_t kSampleRowsPerTask = 10 * kStripRows;
constexpr std::int64_t kMaxSample = 256;
constexpr float kNever = -std::numeric_limits<float>::infinity();

bool nearer(const Prepared& y, const Neighbour& a, const Neighbour& b) {
  return a.key != b.key ? a.key < b.key : y.first_row(a.slot) < y.first_row(b.slot);
}

}  // namespace

class Knn::Lists final : public NearestLists {
 public:
  Lists(const Prepared& x, const Prepared& y, std::int64_t k, bool self, double sq_unit)
      : NearestLists(x, y, k, self), sq_unit_(sq_unit) {}

 protected:
  double exact_key(const double* point, std::int64_t, std::int32_t candidate) const override {
    return candidates_.kernels().sq_distance(point, candidates_.row_of_slot(candidate),
                                             candidates_.rows().dtype, candidates_.rows().d);
  }
  double reach_of(double key) const override { return key * sq_unit_; }

 private:
  double sq_unit_;
};

class Knn::Emit final : public Consumer {
 public:
  Emit(Lists& lists, std::atomic<std::int64_t>& hits) : lists_(lists), hits_(hits) {}

  void strip(const Join& join, Worker& worker, int, const Strip& strip,
             const StripRange& range) override {
    for (int r = 0; r < range.rows; ++r) {
      worker.row_threshold[r] = lists_.reach(range.row + r);
      worker.row_weight[r] = 1.0f;
    }
    for (int c = 0; c < range.columns; ++c) {
      worker.column_threshold[c] = join.self() ? lists_.reach(range.column + c) : kNever;
    }
    EmitStrip task{strip,
                   worker.row_threshold.data(),
                   worker.row_weight.data(),
                   worker.column_threshold.data(),
                   worker.hits.data(),
                   0};
    (join.float_path() ? join.kernels().emit_float : join.kernels().emit_int8)(&task);
    double* point = worker.point.data();
    for (int h = 0; h < task.hit_count; ++h) {
      const Hit& hit = worker.hits[h];
      const std::int64_t x = range.row + hit.row, y = range.column + hit.column;
      const Interval bounds = join.bounds(x, y, hit.dot);
      lists_.offer(x, static_cast<std::int32_t>(y), bounds.low, bounds.high, point);
      if (join.self())
        lists_.offer(y, static_cast<std::int32_t>(x), bounds.low, bounds.high, point);
    }
    hits_.fetch_add(task.hit_count, std::memory_order_relaxed);
  }

  void pair(const Join& join, Worker& worker, std::int64_t x, std::int64_t y, double sq) override {
    const double scaled = sq * join.sq_unit();
    lists_.offer(x, static_cast<std::int32_t>(y), scaled, scaled, worker.point.data());
    if (join.self()) {
      lists_.offer(y, static_cast<std::int32_t>(x), scaled, scaled, worker.point.data());
    }
  }

 private:
  Lists& lists_;
  std::atomic<std::int64_t>& hits_;
};

Knn::Knn(const Prepared& x, const Prepared* y, std::vector<std::int64_t> ranks, double* sq,
         std::int64_t* indices, int threads)
    : x_(x),
      y_(y ? *y : x),
      self_(y == nullptr),
      scan_(x.path() == Path::scan || (y && y->path() == Path::scan)),
      may_switch_(x.path() == Path::automatic && y_.path() == Path::automatic),
      ranks_(std::move(ranks)),
      sq_(sq),
      indices_(indices),
      threads_(threads) {
  const PlainFloatingPoint mode;
  FASTGEN_CHECK(!ranks_.empty() && ranks_.front() >= 1);
  FASTGEN_CHECK(std::is_sorted(ranks_.begin(), ranks_.end()));
  k_ = ranks_.back();
  FASTGEN_CHECK(k_ <= y_.rows().n - (self_ ? 1 : 0));
  if (scan_) {
    tasks_.reset(blocks_of(x_.slots(), 4));
    return;
  }
  join_ = std::make_unique<Join>(x, y, threads);
  threads_ = join_->threads();
  lists_ = std::make_unique<Lists>(x_, y_, k_, self_, join_->sq_unit());
  emit_ = std::make_unique<Emit>(*lists_, hits_);
  sampled_.assign(x_.parts().size(), false);
  if (self_) {
    for (std::int64_t slot = 0; slot < x_.slots(); ++slot) {
      if (x_.copies(slot) > 1) {
        lists_->add_known(slot, static_cast<std::int32_t>(slot), x_.copies(slot) - 1);
        // Nothing can come before k copies of the row itself; only the order of indices is open.
        if (!indices_ && x_.copies(slot) - 1 >= k_) lists_->lower_reach(slot, kNever);
      }
    }
  }
}

Knn::~Knn() = default;

std::int64_t Knn::pairs() const { return join_ ? join_->pairs() : scanned_.load(); }
std::int64_t Knn::rechecked() const { return lists_ ? lists_->rechecked() : scanned_.load(); }

double Knn::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  if (scan_) return scan(deadline);
  do {
    switch (stage_) {
      case Stage::terms:
        if (join_->done()) {
          tasks_.reset(blocks_of(x_.slots(), kOwnersPerTask));
          stage_ = Stage::settle;
        } else if (join_->prepare_segment(deadline)) {
          begin_sample();
          stage_ = Stage::sample;
        }
        break;
      case Stage::sample:
        if (run_tasks(tasks_, threads_, deadline,
                      [&](int index, std::int64_t task) { sample_task(index, task); })) {
          stage_ = Stage::walk;
        }
        break;
      case Stage::walk:
        if (join_->advance(deadline, *emit_)) {
          stage_ = Stage::terms;
        } else if (may_switch_ && join_->int8_too_coarse(lists_->rechecked())) {
          join_->use_float_path();
          stage_ = Stage::terms;
        }
        break;
      case Stage::settle:
        if (run_tasks(tasks_, threads_, deadline, [&](int index, std::int64_t task) {
              const std::int64_t end = std::min(x_.slots(), (task + 1) * kOwnersPerTask);
              for (std::int64_t slot = task * kOwnersPerTask; slot < end; ++slot) {
                lists_->settle(slot, join_->worker(index).point.data());
                write_slot(slot, lists_->begin(slot), lists_->end(slot));
              }
            })) {
          stage_ = Stage::done;
        }
        break;
      case Stage::done:
        return 1.0;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  if (stage_ == Stage::done) return 1.0;
  return stage_ == Stage::settle ? 0.95 + 0.049 * tasks_.fraction() : 0.95 * join_->fraction();
}

// Upper bounds to a sample of columns give every row a first threshold. The sample only bounds: its
// pairs are not offered, so the walk counts none twice.
void Knn::begin_sample() {
  tasks_.reset(0);
  const Segment& segment = join_->segment();
  const std::size_t part = static_cast<std::size_t>(segment.x - x_.parts().data());
  if (sampled_[part] || segment.exact() || (self_ && !segment.symmetric)) return;
  sampled_[part] = true;
  const std::int64_t columns = segment.y->size();
  const std::int64_t wanted = std::max<std::int64_t>(std::min(columns / 16, kMaxSample), 4 * k_);
  const std::int64_t size = std::min<std::int64_t>(wanted, join_->packed_columns());
  // A sample of most columns would cost what it saves.
  if (size > columns / 4 || size <= k_) return;
  sample_.resize(size);
  for (auto& terms : sample_terms_) terms.assign(size + kMaxBlockColumns, 0.0f);
  for (std::int64_t s = 0; s < size; ++s) {
    sample_[s] = segment.y->begin + s * columns / size;
    const Terms terms = join_->y().terms(sample_[s]);
    sample_terms_[0][s] = *terms.scale;
    sample_terms_[1][s] = *terms.magnitude;
    sample_terms_[2][s] = *terms.error;
    sample_terms_[3][s] = *terms.low;
    sample_terms_[4][s] = *terms.high;
  }
  for (int i = 0; i < threads_; ++i) join_->worker(i).packed_first = -1;
  tasks_.reset(blocks_of(segment.x->size(), kSampleRowsPerTask));
}

void Knn::sample_task(int index, std::int64_t task) {
  const Segment& segment = join_->segment();
  Worker& worker = join_->worker(index);
  const int size = static_cast<int>(sample_.size());
  constexpr std::int64_t kSample = -2;
  if (worker.packed_first != kSample) {
    join_->pack(worker, sample_.data(), size);
    worker.packed_first = kSample;
  }
  std::vector<float> upper(static_cast<std::size_t>(kStripRows) * kMaxBlockColumns);
  const std::int64_t first = segment.x->begin + task * kSampleRowsPerTask;
  const std::int64_t last = std::min(segment.x->end, first + kSampleRowsPerTask);
  const Terms terms{sample_terms_[0].data(), sample_terms_[1].data(), sample_terms_[2].data(),
                    sample_terms_[3].data(), sample_terms_[4].data()};
  for (std::int64_t row = first; row < last; row += kStripRows) {
    const StripRange range{row, 0, static_cast<int>(std::min<std::int64_t>(kStripRows, last - row)),
                           size};
    UpperStrip strip{join_->load_strip(worker, range, terms), upper.data()};
    (join_->float_path() ? join_->kernels().upper_float : join_->kernels().upper_int8)(&strip);
    for (int r = 0; r < range.rows; ++r) {
      float* begin = upper.data() + r * kMaxBlockColumns;
      if (self_) {
        const auto own = std::lower_bound(sample_.begin(), sample_.end(), row + r);
        if (own != sample_.end() && *own == row + r) {
          begin[own - sample_.begin()] = std::numeric_limits<float>::infinity();
        }
      }
      std::nth_element(begin, begin + (k_ - 1), begin + size);
      lists_->lower_reach(row + r, begin[k_ - 1]);
    }
  }
}

double Knn::scan(Deadline deadline) {
  std::vector<std::vector<Neighbour>> all(threads_);
  std::vector<AlignedBuffer<double>> rows(threads_);
  for (auto& row : rows) row.reset(x_.rows().d);
  const bool finished = run_tasks(tasks_, threads_, deadline, [&](int index, std::int64_t task) {
    const std::int64_t end = std::min(x_.slots(), (task + 1) * 4);
    for (std::int64_t slot = task * 4; slot < end; ++slot) {
      scan_slot(slot, rows[index].data(), all[index]);
    }
  });
  if (finished) stage_ = Stage::done;
  return finished ? 1.0 : 0.999 * tasks_.fraction();
}

void Knn::scan_slot(std::int64_t slot, double* row, std::vector<Neighbour>& all) {
  const RowView& y = y_.rows();
  x_.kernels().to_double(x_.row_of_slot(slot), x_.rows().dtype, x_.rows().d, row);
  all.clear();
  for (std::int64_t s = 0; s < y_.slots(); ++s) {
    if (self_ && s == slot && x_.copies(slot) == 1) continue;
    all.push_back({x_.kernels().sq_distance(row, y_.row_of_slot(s), y.dtype, y.d),
                   static_cast<std::int32_t>(s)});
  }
  scanned_.fetch_add(y_.slots(), std::memory_order_relaxed);
  const auto order = [&](const Neighbour& a, const Neighbour& b) { return nearer(y_, a, b); };
  const std::size_t wanted = std::min<std::size_t>(all.size(), k_ + 1);
  std::nth_element(all.begin(), all.begin() + (wanted - 1), all.end(), order);
  std::sort(all.begin(), all.begin() + wanted, order);
  write_slot(slot, all.data(), all.data() + wanted);
}

void Knn::write_slot(std::int64_t slot, const Neighbour* begin, const Neighbour* end) {
  const Groups& groups = y_.groups();
  std::vector<std::pair<double, std::int64_t>> neighbours;
  if (!indices_) {
    // Only the distances: every copy of a row has the same, its other copies at 0 among them.
    std::int64_t covered = 0;
    std::size_t rank = 0;
    std::vector<double> found(ranks_.size());
    for (const Neighbour* p = begin; p != end && rank < ranks_.size(); ++p) {
      covered += y_.copies(p->slot) - (self_ && p->slot == slot ? 1 : 0);
      for (; rank < ranks_.size() && ranks_[rank] <= covered; ++rank) found[rank] = p->key;
    }
    FASTGEN_CHECK(rank == ranks_.size());
    each_row(x_, slot, [&](std::int64_t row) {
      std::copy(found.begin(), found.end(), sq_ + row * static_cast<std::int64_t>(found.size()));
    });
    return;
  }
  each_row(x_, slot, [&](std::int64_t row) {
    neighbours.clear();
    for (const Neighbour* p = begin; p != end; ++p) {
      // Groups beyond the k-th neighbour's distance add nothing; those at it may hold smaller indices.
      if (static_cast<std::int64_t>(neighbours.size()) >= k_ && p->key > neighbours.back().first) {
        break;
      }
      const std::int32_t group = y_.group(p->slot);
      const std::int64_t copies = groups.copies[group];
      std::int64_t taken = 0;
      for (std::int64_t c = 0; c < copies && taken < k_; ++c) {
        const std::int64_t member =
            groups.distinct() ? groups.first[group] : groups.members[groups.start[group] + c];
        if (self_ && member == row) continue;
        neighbours.emplace_back(p->key, member);
        ++taken;
      }
    }
    std::sort(neighbours.begin(), neighbours.end());
    FASTGEN_CHECK(static_cast<std::int64_t>(neighbours.size()) >= k_);
    const std::int64_t ranks = static_cast<std::int64_t>(ranks_.size());
    for (std::int64_t r = 0; r < ranks; ++r) {
      sq_[row * ranks + r] = neighbours[ranks_[r] - 1].first;
      indices_[row * ranks + r] = neighbours[ranks_[r] - 1].second;
    }
  });
}

}  // namespace fastgen::cpu
