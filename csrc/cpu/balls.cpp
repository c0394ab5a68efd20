#include "cpu/balls.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"
#include "common/rounding.hpp"

namespace fastgen::cpu {

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kSlotsPerTask = 4;
constexpr std::size_t kPendingPairs = 1 << 16;  // of one worker: 0.5 MB, and 50 ms of looks

}  // namespace

void Balls::Side::begin(const Prepared& rows, const double* radii_given, std::int64_t radii) {
  set = &rows;
  sq_radii = radii_given;
  const std::int64_t n = rows.rows().n;
  if (sq_radii && !rows.groups().distinct()) {
    for (std::int64_t r = 0; r < radii && !by_row; ++r) {
      for (std::int64_t slot = 0; slot < rows.slots() && !by_row; ++slot) {
        each_row(rows, slot, [&](std::int64_t row) {
          const double a = sq_radii[r * n + row], b = sq_radius(r, slot);
          by_row = by_row || !(a == b || (std::isnan(a) && std::isnan(b)));
        });
      }
    }
  }
  inside = std::vector<std::atomic<std::int64_t>>(sq_radii ? radii * inside_width() : 0);
  balls = std::vector<std::atomic<std::int64_t>>(radii * rows.slots());
  for (auto& count : inside) count.store(0);
  for (auto& count : balls) count.store(0);
}

void Balls::Side::scale(std::int64_t radii, double sq_unit) {
  inner.assign(radii * stride(), kNone);
  outer = inner;
  reach.assign(stride(), kNone);
  copies.assign(stride(), 0);
  for (std::int64_t slot = 0; slot < set->slots(); ++slot) {
    copies[slot] = set->copies(slot);
    for (std::int64_t r = 0; sq_radii && r < radii; ++r) {
      const double scaled = sq_radius(r, slot) * sq_unit;
      inner[r * stride() + slot] = round_down(scaled);
      outer[r * stride() + slot] = round_up(scaled);
      reach[slot] = std::max(reach[slot], outer[r * stride() + slot]);
    }
  }
}

// Counts a strip: what the kernel proved is added to the totals, what it emitted is decided here.
class Balls::Count final : public Consumer {
 public:
  Count(Balls& balls, int threads) : balls_(balls), local_(threads) {
    const std::int64_t radii = balls.radii_;
    for (Local& local : local_) {
      local.columns_in_row.resize(radii * kStripRows);
      local.balls_of_row.resize(radii * kStripRows);
      local.rows_in_column.resize(radii * kMaxBlockColumns);
      local.balls_of_column.resize(radii * kMaxBlockColumns);
      for (auto* thresholds : {&local.row_inside, &local.row_outside}) {
        thresholds->resize(radii * kStripRows);
      }
    }
  }

  void strip(const Join& join, Worker& worker, int index, const Strip& strip,
             const StripRange& range) override {
    Local& local = local_[index];
    const Side &x = balls_.x_, &y = balls_.y_;
    BallStrip task{};
    task.strip = strip;
    task.radii = static_cast<int>(balls_.radii_);
    task.row_stride = kStripRows;
    task.column_stride = kMaxBlockColumns;
    for (std::int64_t r = 0; r < balls_.radii_; ++r) {
      for (int i = 0; i < range.rows; ++i) {
        local.row_inside[r * kStripRows + i] = x.inner[r * x.stride() + range.row + i];
        local.row_outside[r * kStripRows + i] = x.outer[r * x.stride() + range.row + i];
      }
    }
    task.row_inside = local.row_inside.data();
    task.row_outside = local.row_outside.data();
    task.column_inside = y.inner.data() + range.column;
    task.column_outside = y.outer.data() + range.column;
    task.threshold_stride = y.stride();
    task.row_reach = x.reach.data() + range.row;
    task.column_reach = y.reach.data() + range.column;
    task.row_copies = x.copies.data() + range.row;
    task.column_copies = y.copies.data() + range.column;
    task.columns_in_row = local.columns_in_row.data();
    task.balls_of_column = local.balls_of_column.data();
    task.rows_in_column = local.rows_in_column.data();
    task.balls_of_row = local.balls_of_row.data();
    task.hits = worker.hits.data();
    (join.float_path() ? join.kernels().balls_float : join.kernels().balls_int8)(&task);
    decide(join, worker, local, range, task.hit_count);
    if (x.sq_radii) {
      drain(local.columns_in_row, kStripRows, range.rows, balls_.x_.inside, x.set->slots(),
            range.row);
      drain(local.balls_of_column, kMaxBlockColumns, range.columns, balls_.y_.balls, y.set->slots(),
            range.column);
    }
    if (y.sq_radii) {
      drain(local.rows_in_column, kMaxBlockColumns, range.columns, balls_.y_.inside, y.set->slots(),
            range.column);
      drain(local.balls_of_row, kStripRows, range.rows, balls_.x_.balls, x.set->slots(), range.row);
    }
  }

  // What is left of one worker's pending pairs, after the walk.
  void finish(Join& join, int index) { settle(join, join.worker(index), local_[index]); }

  void pair(const Join&, Worker&, std::int64_t i, std::int64_t j, double sq) override {
    Side &x = balls_.x_, &y = balls_.y_;
    for (std::int64_t r = 0; r < balls_.radii_; ++r) {
      if (x.sq_radii && balls_.within(sq, x.sq_radius(r, i))) {
        x.inside[r * x.set->slots() + i].fetch_add(y.copies[j]);
        y.balls[r * y.set->slots() + j].fetch_add(x.copies[i]);
      }
      if (y.sq_radii && balls_.within(sq, y.sq_radius(r, j))) {
        y.inside[r * y.set->slots() + j].fetch_add(x.copies[i]);
        x.balls[r * x.set->slots() + i].fetch_add(y.copies[j]);
      }
    }
  }

 private:
  struct Local {
    std::vector<std::int32_t> columns_in_row, balls_of_row, rows_in_column, balls_of_column;
    std::vector<float> row_inside, row_outside;
    std::vector<std::pair<std::int32_t, std::int32_t>> pending;  // slots of x and y
  };

  // Counts the emitted pairs that the float64 bounds decide; the others wait for an exact look.
  void decide(const Join& join, Worker& worker, Local& local, const StripRange& range, int hits) {
    const Side &x = balls_.x_, &y = balls_.y_;
    for (int h = 0; h < hits; ++h) {
      const Hit& hit = worker.hits[h];
      const std::int64_t i = range.row + hit.row, j = range.column + hit.column;
      const Interval bounds = join.bounds(i, j, hit.dot);
      const auto open = [&](double sq_radius) {
        const double scaled = sq_radius * join.sq_unit();
        return bounds.low <= scaled && !(bounds.high < scaled);
      };
      bool undecided = false;
      for (std::int64_t r = 0; r < balls_.radii_; ++r) {
        undecided = undecided || (x.sq_radii && open(x.sq_radius(r, i))) ||
                    (y.sq_radii && open(y.sq_radius(r, j)));
      }
      if (undecided) {
        local.pending.emplace_back(static_cast<std::int32_t>(i), static_cast<std::int32_t>(j));
        continue;
      }
      for (std::int64_t r = 0; r < balls_.radii_; ++r) {
        if (x.sq_radii && bounds.high < x.sq_radius(r, i) * join.sq_unit()) {
          local.columns_in_row[r * kStripRows + hit.row] += y.copies[j];
          local.balls_of_column[r * kMaxBlockColumns + hit.column] += x.copies[i];
        }
        if (y.sq_radii && bounds.high < y.sq_radius(r, j) * join.sq_unit()) {
          local.rows_in_column[r * kMaxBlockColumns + hit.column] += x.copies[i];
          local.balls_of_row[r * kStripRows + hit.row] += y.copies[j];
        }
      }
    }
    balls_.hits_.fetch_add(hits, std::memory_order_relaxed);
    if (local.pending.size() >= kPendingPairs) settle(join, worker, local);
  }

  // Looks at pending pairs row by row, so that a row of x comes from memory once and not per pair.
  void settle(const Join& join, Worker& worker, Local& local) {
    const RowView& x_rows = balls_.x_.set->rows();
    const RowView& y_rows = balls_.y_.set->rows();
    std::sort(local.pending.begin(), local.pending.end());
    std::int32_t loaded = -1;
    for (const auto& [i, j] : local.pending) {
      if (loaded != i) {
        join.kernels().to_double(balls_.x_.set->row_of_slot(i), x_rows.dtype, x_rows.d,
                                 worker.point.data());
        loaded = i;
      }
      pair(join, worker, i, j,
           join.kernels().sq_distance(worker.point.data(), balls_.y_.set->row_of_slot(j),
                                      y_rows.dtype, y_rows.d));
    }
    balls_.rechecked_.fetch_add(static_cast<std::int64_t>(local.pending.size()),
                                std::memory_order_relaxed);
    local.pending.clear();
  }

  // Adds a strip's counts to the totals (integers: any order gives the same sum) and clears them.
  void drain(std::vector<std::int32_t>& counts, std::int64_t local_stride, int used,
             std::vector<std::atomic<std::int64_t>>& totals, std::int64_t stride,
             std::int64_t first) {
    for (std::int64_t r = 0; r < balls_.radii_; ++r) {
      for (int i = 0; i < used; ++i) {
        std::int32_t& count = counts[r * local_stride + i];
        if (count) totals[r * stride + first + i].fetch_add(count, std::memory_order_relaxed);
        count = 0;
      }
    }
  }

  Balls& balls_;
  std::vector<Local> local_;
};

Balls::Balls(const Prepared& x, const Prepared& y, const double* sq_radii_x,
             const double* sq_radii_y, std::int64_t radii, bool closed, int threads)
    : radii_(radii), closed_(closed), threads_(threads) {
  const PlainFloatingPoint mode;
  FASTGEN_CHECK(radii >= 1 && x.ready() && y.ready());
  x_.begin(x, sq_radii_x, radii);
  y_.begin(y, sq_radii_y, radii);
  may_switch_ = x.path() == Path::automatic && y.path() == Path::automatic;
  scan_ = x.path() == Path::scan || y.path() == Path::scan || x_.by_row || y_.by_row;
  if (scan_) {
    tasks_.reset(blocks_of(x.slots(), kSlotsPerTask));
    return;
  }
  join_ = std::make_unique<Join>(x, &y, threads);
  threads_ = join_->threads();
  x_.scale(radii, join_->sq_unit());
  y_.scale(radii, join_->sq_unit());
  count_ = std::make_unique<Count>(*this, threads);
}

Balls::~Balls() = default;

std::int64_t Balls::pairs() const {
  return join_ ? join_->pairs() : x_.set->slots() * y_.set->slots();
}

double Balls::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  if (scan_) {
    std::vector<AlignedBuffer<double>> rows(threads_);
    for (auto& row : rows) row.reset(x_.set->rows().d);
    const bool finished = run_tasks(tasks_, threads_, deadline, [&](int index, std::int64_t task) {
      const std::int64_t end = std::min(x_.set->slots(), (task + 1) * kSlotsPerTask);
      for (std::int64_t slot = task * kSlotsPerTask; slot < end; ++slot) {
        scan_slot(slot, rows[index].data());
      }
    });
    return finished ? 1.0 : 0.999 * tasks_.fraction();
  }
  do {
    if (join_->done()) {
      if (!settling_) tasks_.reset(threads_);
      settling_ = true;
      const bool finished = run_tasks(tasks_, threads_, deadline, [&](int, std::int64_t task) {
        count_->finish(*join_, static_cast<int>(task));
      });
      return finished ? 1.0 : 0.999;
    }
    if (!terms_ready_) {
      terms_ready_ = join_->prepare_segment(deadline);
    } else if (join_->advance(deadline, *count_)) {
      terms_ready_ = false;
    } else if (may_switch_ && join_->int8_too_coarse(rechecked_.load())) {
      join_->use_float_path();
      terms_ready_ = false;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return 0.999 * join_->fraction();
}

void Balls::scan_slot(std::int64_t slot, double* row) {
  const RowView& x_rows = x_.set->rows();
  const RowView& y_rows = y_.set->rows();
  const Kernels& kernels = x_.set->kernels();
  kernels.to_double(x_.set->row_of_slot(slot), x_rows.dtype, x_rows.d, row);
  for (std::int64_t other = 0; other < y_.set->slots(); ++other) {
    const double sq = kernels.sq_distance(row, y_.set->row_of_slot(other), y_rows.dtype, y_rows.d);
    const auto count = [&](Side& own, std::int64_t own_slot, Side& points, std::int64_t point) {
      if (!own.sq_radii) return;
      for (std::int64_t r = 0; r < radii_; ++r) {
        std::int64_t containing = 0;
        each_row(*own.set, own_slot, [&](std::int64_t i) {
          if (!within(sq, own.sq_radii[r * own.set->rows().n + i])) return;
          ++containing;
          if (own.by_row)
            own.inside[r * own.inside_width() + i].fetch_add(points.set->copies(point));
        });
        if (!own.by_row && containing) {
          own.inside[r * own.inside_width() + own_slot].fetch_add(points.set->copies(point));
        }
        if (containing) points.balls[r * points.set->slots() + point].fetch_add(containing);
      }
    };
    count(x_, slot, y_, other);
    count(y_, other, x_, slot);
  }
  rechecked_.fetch_add(y_.set->slots(), std::memory_order_relaxed);
}

void Balls::expand(const Side& side, const std::vector<std::atomic<std::int64_t>>& counts,
                   std::int64_t width, std::int64_t* out) const {
  const std::int64_t n = side.set->rows().n;
  for (std::int64_t r = 0; r < radii_; ++r) {
    for (std::int64_t slot = 0; slot < side.set->slots(); ++slot) {
      each_row(*side.set, slot, [&](std::int64_t row) {
        const bool by_row = &counts == &side.inside && side.by_row;
        out[r * n + row] = counts[r * width + (by_row ? row : slot)].load();
      });
    }
  }
}

void Balls::y_in_x(std::int64_t* out) const { expand(x_, x_.inside, x_.inside_width(), out); }
void Balls::x_in_y(std::int64_t* out) const { expand(y_, y_.inside, y_.inside_width(), out); }
void Balls::x_balls_of_y(std::int64_t* out) const { expand(y_, y_.balls, y_.set->slots(), out); }
void Balls::y_balls_of_x(std::int64_t* out) const { expand(x_, x_.balls, x_.set->slots(), out); }

}  // namespace fastgen::cpu
