#include "cpu/realism.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"
#include "common/rounding.hpp"

namespace fastgen::cpu {

namespace {

constexpr std::int64_t kOwnersPerTask = 64;

// The squared ratio that decides; a point on the edge of a ball of radius 0 has ratio 1.
double sq_ratio(double sq_radius, double sq_distance) {
  if (sq_distance == 0) return sq_radius > 0 ? std::numeric_limits<double>::infinity() : 1.0;
  return sq_radius / sq_distance;
}

}  // namespace

// The owners are rows of y, the candidates rows of x, and nearness is d^2 / r^2.
class Realism::Lists final : public NearestLists {
 public:
  Lists(const Prepared& x, const Prepared& y, const std::vector<double>& sq_radius)
      : NearestLists(y, x, 1, false), sq_radius_(sq_radius) {}

 protected:
  double exact_key(const double* point, std::int64_t, std::int32_t candidate) const override {
    return -sq_ratio(sq_radius_[candidate], candidates_.kernels().sq_distance(
                                                point, candidates_.row_of_slot(candidate),
                                                candidates_.rows().dtype, candidates_.rows().d));
  }
  double reach_of(double key) const override {
    return key == 0 ? std::numeric_limits<double>::infinity() : (-1.0 / key) * (1 + 0x1p-40);
  }

 private:
  const std::vector<double>& sq_radius_;
};

class Realism::Emit final : public Consumer {
 public:
  Emit(Lists& lists, const std::vector<double>& sq_radius, std::atomic<std::int64_t>& hits)
      : lists_(lists), sq_radius_(sq_radius), hits_(hits) {}

  void strip(const Join& join, Worker& worker, int, const Strip& strip,
             const StripRange& range) override {
    for (int r = 0; r < range.rows; ++r) {
      const double sq = sq_radius_[range.row + r] * join.sq_unit();
      worker.row_threshold[r] = -std::numeric_limits<float>::infinity();
      // Left out: a reach of minus infinity. Else never 0, which times infinity would be NaN.
      worker.row_weight[r] = std::isnan(sq) ? -std::numeric_limits<float>::infinity()
                                            : std::max(round_up(sq * (1 + 0x1p-20)),
                                                       std::numeric_limits<float>::min());
    }
    for (int c = 0; c < range.columns; ++c) {
      worker.column_threshold[c] =
          std::max(lists_.reach(range.column + c), std::numeric_limits<float>::min());
    }
    EmitStrip task{strip,
                   worker.row_threshold.data(),
                   worker.row_weight.data(),
                   worker.column_threshold.data(),
                   worker.hits.data(),
                   0};
    (join.float_path() ? join.kernels().emit_float : join.kernels().emit_int8)(&task);
    for (int h = 0; h < task.hit_count; ++h) {
      const Hit& hit = worker.hits[h];
      const std::int64_t x = range.row + hit.row, y = range.column + hit.column;
      const double sq = sq_radius_[x] * join.sq_unit();
      if (std::isnan(sq)) continue;
      const Interval bounds = join.bounds(x, y, hit.dot);
      if (sq_radius_[x] == 0 && bounds.low > 0) continue;  // ratio 0
      // Scaled radii that under- or overflow say nothing; an exact look will.
      const bool blind = sq < std::numeric_limits<double>::min() || std::isinf(sq);
      const double low = blind ? 0.0 : std::max(bounds.low, 0.0) / sq * (1 - 0x1p-40);
      const double high =
          blind ? std::numeric_limits<double>::infinity() : bounds.high / sq * (1 + 0x1p-40);
      lists_.offer(y, static_cast<std::int32_t>(x), low, high, worker.point.data());
    }
    hits_.fetch_add(task.hit_count, std::memory_order_relaxed);
  }

  void pair(const Join&, Worker& worker, std::int64_t x, std::int64_t y, double) override {
    // Few and far: an exact look at each is cheaper than a careful bound on the ratio.
    if (std::isnan(sq_radius_[x])) return;
    lists_.offer(y, static_cast<std::int32_t>(x), 0.0, std::numeric_limits<double>::infinity(),
                 worker.point.data());
  }

 private:
  Lists& lists_;
  const std::vector<double>& sq_radius_;
  std::atomic<std::int64_t>& hits_;
};

Realism::Realism(const Prepared& x, const Prepared& y, const double* sq_radii_x, int threads)
    : x_(x),
      y_(y),
      sq_radius_(x.slots(), std::numeric_limits<double>::quiet_NaN()),
      scan_(x.path() == Path::scan || y.path() == Path::scan),
      threads_(threads) {
  const PlainFloatingPoint mode;
  for (std::int64_t slot = 0; slot < x.slots(); ++slot) {
    each_row(x, slot, [&](std::int64_t row) {
      const double sq = sq_radii_x[row];
      if (!std::isnan(sq) && !(sq <= sq_radius_[slot])) sq_radius_[slot] = sq;
    });
  }
  if (scan_) {
    scanned_.assign(y.slots(), 0.0);
    tasks_.reset(blocks_of(y.slots(), kOwnersPerTask));
    return;
  }
  join_ = std::make_unique<Join>(x, &y, threads);
  threads_ = join_->threads();
  lists_ = std::make_unique<Lists>(x, y, sq_radius_);
  emit_ = std::make_unique<Emit>(*lists_, sq_radius_, hits_);
}

Realism::~Realism() = default;

std::int64_t Realism::pairs() const { return join_ ? join_->pairs() : x_.slots() * y_.slots(); }
std::int64_t Realism::rechecked() const { return lists_ ? lists_->rechecked() : pairs(); }

double Realism::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  if (scan_) {
    std::vector<AlignedBuffer<double>> points(threads_);
    for (auto& point : points) point.reset(y_.rows().d);
    const bool finished = run_tasks(tasks_, threads_, deadline, [&](int index, std::int64_t task) {
      double* point = points[index].data();
      const std::int64_t end = std::min(y_.slots(), (task + 1) * kOwnersPerTask);
      for (std::int64_t slot = task * kOwnersPerTask; slot < end; ++slot) {
        y_.kernels().to_double(y_.row_of_slot(slot), y_.rows().dtype, y_.rows().d, point);
        for (std::int64_t s = 0; s < x_.slots(); ++s) {
          if (std::isnan(sq_radius_[s])) continue;
          const double sq =
              y_.kernels().sq_distance(point, x_.row_of_slot(s), x_.rows().dtype, x_.rows().d);
          scanned_[slot] = std::max(scanned_[slot], sq_ratio(sq_radius_[s], sq));
        }
      }
    });
    if (finished) stage_ = Stage::done;
    return finished ? 1.0 : 0.999 * tasks_.fraction();
  }
  do {
    switch (stage_) {
      case Stage::terms:
        if (join_->done()) {
          tasks_.reset(blocks_of(y_.slots(), kOwnersPerTask));
          stage_ = Stage::settle;
        } else if (join_->prepare_segment(deadline)) {
          stage_ = Stage::walk;
        }
        break;
      case Stage::walk:
        if (join_->advance(deadline, *emit_)) stage_ = Stage::terms;
        break;
      case Stage::settle:
        if (run_tasks(tasks_, threads_, deadline, [&](int index, std::int64_t task) {
              const std::int64_t end = std::min(y_.slots(), (task + 1) * kOwnersPerTask);
              for (std::int64_t slot = task * kOwnersPerTask; slot < end; ++slot) {
                lists_->settle(slot, join_->worker(index).point.data());
              }
            })) {
          stage_ = Stage::done;
        }
        break;
      case Stage::done:
        return 1.0;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return stage_ == Stage::done ? 1.0 : 0.999 * join_->fraction();
}

void Realism::finish(double* sq_ratio_out) const {
  const PlainFloatingPoint mode;
  FASTGEN_CHECK(stage_ == Stage::done);
  for (std::int64_t slot = 0; slot < y_.slots(); ++slot) {
    double value = 0;
    if (scan_) {
      value = scanned_[slot];
    } else if (lists_->begin(slot) != lists_->end(slot)) {
      value = -lists_->begin(slot)->key;
    }
    each_row(y_, slot, [&](std::int64_t row) { sq_ratio_out[row] = value + 0.0; });
  }
}

}  // namespace fastgen::cpu
