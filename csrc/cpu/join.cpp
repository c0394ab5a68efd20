#include "cpu/join.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// A worker packs a block once for all its tasks in it, so tasks may be short: 0.4 s if every pair of
// one has to be looked at (1 us each).
constexpr std::int64_t kRowsPerTask = 960;
constexpr std::int64_t kTermsPerTask = 256;
constexpr std::int64_t kExactPerTask = 256;  // rows of the larger part against at most 64 outliers
constexpr std::int64_t kPackedBytes = 800 * 1024;  // a packed block stays in a 1 MB L2

}  // namespace

Join::Join(const Prepared& x, const Prepared* y, int threads)
    : self_(y == nullptr), threads_(threads) {
  const PlainFloatingPoint mode;
  FASTGEN_CHECK(x.ready() && (self_ || y->ready()));
  FASTGEN_CHECK(self_ || x.rows().d == y->rows().d);
  FASTGEN_CHECK(self_ || &x.kernels() == &y->kernels());
  x_.set = &x;
  y_.set = self_ ? &x : y;
  // int32 holds 133,000 products of 127^2; wider rows take the float path.
  float_path_ = x.path() == Path::float32 || y_.set->path() == Path::float32 || x.depth() > 131072;
  unit_ = x.unit();
  if (!self_) {
    unit_ = std::min(unit_, y->unit());
    double largest = 0, sq = 0;
    const std::int64_t d = x.rows().d;
    for (const Part& p : x.parts()) {
      for (const Part& q : y->parts()) {
        for (std::int64_t i = 0; i < d; ++i) {
          largest = std::max(largest, std::fabs(p.centre[i] - q.centre[i]));
        }
      }
    }
    sq = largest * std::sqrt(static_cast<double>(d));
    if (sq > 0) {
      int exponent = 0;
      std::frexp(sq, &exponent);
      unit_ = std::min(unit_, std::ldexp(1.0, 40 - exponent));
    }
  }
  for (JoinSide* side : {&x_, &y_}) {
    if (side == &y_ && self_) break;
    side->allocate(*side->set, unit_);
  }
  block_columns_ = block_capacity(float_path_);
  add_segments(x, y);
  // No more workers than strips: each has scratch of its own.
  const double strips = total_pairs_ / (kStripRows * kMaxBlockColumns);
  threads_ = static_cast<int>(std::min<double>(threads_, std::max(1.0, std::ceil(strips))));
  allocate_workers();
}

int Join::block_capacity(bool float_path) const {
  const Kernels& k = kernels();
  const std::int64_t depth = x_.set->depth();
  const int panel = float_path ? k.float_panel : k.int8_panel;
  const std::int64_t bytes = float_path ? k.float_panel_bytes(depth) : k.int8_panel_bytes(depth);
  const std::int64_t panels =
      std::min<std::int64_t>(kMaxBlockColumns / panel, kPackedBytes / bytes);
  return static_cast<int>(std::max<std::int64_t>(1, panels)) * panel;
}

void Join::allocate_workers() {
  const Kernels& k = kernels();
  const std::int64_t depth = x_.set->depth(), d = x_.set->rows().d;
  const int panel = float_path_ ? k.float_panel : k.int8_panel;
  packed_columns_ = block_capacity(float_path_);
  workers_.clear();
  for (int i = 0; i < threads_; ++i) {
    auto worker = std::make_unique<Worker>();
    const std::int64_t panel_bytes =
        float_path_ ? k.float_panel_bytes(depth) : k.int8_panel_bytes(depth);
    worker->panels.reset(packed_columns_ / panel * panel_bytes +
                         4096);  // prefetches run past the end
    if (float_path_ || k.load_rows_int8) {
      worker->rows.reset(kStripRows * depth * (float_path_ ? 4 : k.int8_item));
    }
    worker->products.reset(kStripRows * kMaxBlockColumns);
    if (float_path_) worker->floats.reset(depth * panel);
    worker->doubles.reset(d);
    worker->point.reset(d);
    worker->row_threshold.reset(kStripRows);
    worker->row_weight.reset(kStripRows);
    worker->column_threshold.reset(kMaxBlockColumns);
    worker->hits.resize(static_cast<std::size_t>(kStripRows) * kMaxBlockColumns);
    workers_.push_back(std::move(worker));
  }
}

void Join::use_float_path() {
  float_path_ = true;
  allocate_workers();
  stage_ = Stage::terms;
  terms_started_ = false;
}

bool Join::int8_too_coarse(std::int64_t rechecked) const {
  // A look costs about 50 int8 products, a float32 product about 4; judged once a million pairs
  // are behind.
  const double pairs = static_cast<double>(pairs_.load());
  return !float_path_ && pairs > 1e6 && static_cast<double>(rechecked) > 0.06 * pairs;
}

void Join::add_segments(const Prepared& x, const Prepared* y) {
  if (self_) {
    // Own parts first: they hold most neighbours, and set the thresholds that the rest must meet.
    for (const Part& p : x.parts()) segments_.push_back({&p, &p, true});
    for (const Part& p : x.parts()) {
      for (const Part& q : x.parts()) {
        if (p.begin < q.begin) segments_.push_back({&p, &q, false});
      }
    }
  } else {
    for (const Part& p : x.parts()) {
      std::vector<std::pair<double, const Part*>> others;
      for (const Part& q : y->parts()) {
        double sq = 0;
        for (std::int64_t i = 0; i < x.rows().d; ++i) {
          const double t = (p.centre[i] - q.centre[i]) * unit_;
          sq += t * t;
        }
        others.emplace_back(q.outlying ? std::numeric_limits<double>::infinity() : sq, &q);
      }
      std::sort(others.begin(), others.end());
      for (const auto& other : others) segments_.push_back({&p, other.second, false});
    }
  }
  for (const Segment& s : segments_) {
    total_pairs_ += static_cast<double>(s.x->size()) * static_cast<double>(s.y->size()) *
                    (s.symmetric ? 0.5 : 1.0);
  }
}

double Join::fraction() const {
  if (done() || total_pairs_ == 0) return 1.0;
  const Segment& s = segment();
  const double pairs = static_cast<double>(s.x->size()) * static_cast<double>(s.y->size()) *
                       (s.symmetric ? 0.5 : 1.0);
  return (finished_pairs_ + (walk_started_ ? walk_tasks_.fraction() * pairs : 0.0)) / total_pairs_;
}

bool Join::prepare_segment(Deadline deadline) {
  if (done() || stage_ == Stage::walk) return true;
  const Segment& s = segment();
  if (!terms_started_) {
    terms_started_ = true;
    const std::int64_t d = x_.set->rows().d;
    offset_.assign(d, 0.0);
    sq_offset_ = 0;
    if (s.x != s.y) {
      for (std::int64_t i = 0; i < d; ++i) {
        offset_[i] = (s.x->centre[i] - s.y->centre[i]) * unit_;
        sq_offset_ += offset_[i] * offset_[i];
      }
    }
    rotated_offset_ = x_.set->rotation().apply(offset_);
    const std::int64_t x_tasks = blocks_of(s.x->size(), kTermsPerTask);
    const std::int64_t y_tasks = s.symmetric ? 0 : blocks_of(s.y->size(), kTermsPerTask);
    terms_tasks_.reset(s.exact() ? 0 : x_tasks + y_tasks);
  }
  const bool moved = sq_offset_ > 0;
  const std::int64_t x_tasks = blocks_of(s.x->size(), kTermsPerTask);
  const bool finished =
      run_tasks(terms_tasks_, threads_, deadline, [&](int index, std::int64_t task) {
        const bool first = task < x_tasks;
        JoinSide& side = first || self_ ? x_ : y_;
        const Part& part = first ? *s.x : *s.y;
        const std::int64_t begin = part.begin + (first ? task : task - x_tasks) * kTermsPerTask;
        const std::int64_t end = std::min(part.end, begin + kTermsPerTask);
        const Kernels& k = kernels();
        double* row = workers_[index]->doubles.data();
        for (std::int64_t slot = begin; slot < end; ++slot) {
          OffsetTerms offset;
          if (moved) {
            const Prepared& set = *side.set;
            k.to_double(set.row_of_slot(slot), set.rows().dtype, set.rows().d, row);
            const double sign = first ? 2.0 : -2.0;
            offset.norm = std::sqrt(sq_offset_);
            offset.added = first ? sq_offset_ : 0.0;
            offset.along =
                sign * unit_ * k.centred_dot(row, part.centre.data(), offset_.data(), set.rows().d);
            offset.quantised_along =
                sign * side.factor * set.scale(slot) *
                k.quantised_dot(set.quantised(slot), rotated_offset_.data(), set.depth());
          }
          set_terms(side, slot, offset, float_path_);
        }
      });
  if (finished) {
    stage_ = Stage::walk;
  }
  return finished;
}

void Join::load_float_row(const JoinSide& side, const Part& part, std::int64_t slot, double* row,
                          float* out) const {
  const Prepared& set = *side.set;
  const std::int64_t d = set.rows().d;
  kernels().to_double(set.row_of_slot(slot), set.rows().dtype, d, row);
  kernels().centre_to_float(row, part.centre.data(), unit_, d, out);
  std::fill(out + d, out + set.depth(), 0.0f);
}

void Join::pack(Worker& worker, const std::int64_t* slots, int count) const {
  const Kernels& k = kernels();
  const JoinSide& side = y();
  const std::int64_t depth = side.set->depth();
  const int panel = float_path_ ? k.float_panel : k.int8_panel;
  const std::int64_t panel_bytes =
      float_path_ ? k.float_panel_bytes(depth) : k.int8_panel_bytes(depth);
  const std::uint8_t* columns[kMaxBlockColumns];
  for (int begin = 0; begin < count; begin += panel) {
    const int columns_here = std::min(panel, count - begin);
    unsigned char* out = worker.panels.data() + begin / panel * panel_bytes;
    if (float_path_) {
      for (int c = 0; c < columns_here; ++c) {
        load_float_row(side, *segment().y, slots[begin + c], worker.doubles.data(),
                       worker.floats.data() + c * depth);
      }
      k.pack_float(worker.floats.data(), depth, columns_here, depth, out);
    } else {
      for (int c = 0; c < columns_here; ++c) columns[c] = side.set->quantised(slots[begin + c]);
      k.pack_int8(columns, columns_here, depth, out);
    }
  }
}

Strip Join::load_strip(Worker& worker, const StripRange& range, const Terms& column_terms) const {
  const Kernels& k = kernels();
  const std::int64_t depth = x_.set->depth();
  Strip strip{};
  strip.panels = worker.panels.data();
  strip.products = worker.products.data();
  strip.depth = depth;
  strip.row_count = range.rows;
  strip.column_count = range.columns;
  strip.diagonal = -(std::int64_t{1} << 40);
  strip.row_terms = x_.terms(range.row);
  strip.column_terms = column_terms;
  if (float_path_) {
    float* out = reinterpret_cast<float*>(worker.rows.data());
    for (int r = 0; r < range.rows; ++r) {
      load_float_row(x_, *segment().x, range.row + r, worker.doubles.data(), out + r * depth);
    }
    strip.rows = out;
    strip.row_stride = depth * 4;
  } else if (k.load_rows_int8) {
    k.load_rows_int8(x_.set->quantised(range.row), x_.set->stride(), range.rows, depth,
                     worker.rows.data());
    strip.rows = worker.rows.data();
    strip.row_stride = depth * k.int8_item;
  } else {
    strip.rows = x_.set->quantised(range.row);
    strip.row_stride = x_.set->stride();
  }
  return strip;
}

bool Join::advance(Deadline deadline, Consumer& consumer) {
  if (done()) return true;
  FASTGEN_CHECK(stage_ == Stage::walk);
  const Segment& s = segment();
  if (!walk_started_) {
    walk_started_ = true;
    blocks_ = blocks_of(s.y->size(), block_columns_);
    row_groups_ = blocks_of(s.x->size(), kRowsPerTask);
    for (auto& worker : workers_) worker->packed_first = -1;
    const std::int64_t larger = std::max(s.x->size(), s.y->size());
    walk_tasks_.reset(s.exact() ? blocks_of(larger, kExactPerTask) : blocks_ * row_groups_);
  }
  const bool finished =
      run_tasks(walk_tasks_, threads_, deadline, [&](int index, std::int64_t task) {
        if (s.exact()) {
          exact_task(index, task, consumer);
        } else {
          walk_task(index, task, consumer);
        }
      });
  if (finished) {
    finished_pairs_ += static_cast<double>(s.x->size()) * static_cast<double>(s.y->size()) *
                       (s.symmetric ? 0.5 : 1.0);
    ++current_;
    stage_ = Stage::terms;
    terms_started_ = walk_started_ = false;
  }
  return finished;
}

void Join::walk_task(int index, std::int64_t task, Consumer& consumer) {
  const Segment& s = segment();
  Worker& worker = *workers_[index];
  // Long columns first: in a symmetric walk the last blocks have the most rows.
  const std::int64_t block = blocks_ - 1 - task / row_groups_, group = task % row_groups_;
  const std::int64_t block_begin = s.y->begin + block * block_columns_;
  const std::int64_t block_end = std::min(s.y->end, block_begin + block_columns_);
  const std::int64_t first_row = s.x->begin + group * kRowsPerTask;
  for (std::int64_t column = block_begin; column < block_end; column += packed_columns_) {
    const int columns =
        static_cast<int>(std::min<std::int64_t>(packed_columns_, block_end - column));
    std::int64_t end_row = std::min(s.x->end, first_row + kRowsPerTask);
    if (s.symmetric) end_row = std::min(end_row, column + columns);
    if (first_row >= end_row) continue;
    if (worker.packed_first != column) {
      std::int64_t slots[kMaxBlockColumns];
      for (int c = 0; c < columns; ++c) slots[c] = column + c;
      pack(worker, slots, columns);
      worker.packed_first = column;
    }
    const Terms column_terms = y().terms(column);
    for (std::int64_t row = first_row; row < end_row; row += kStripRows) {
      const StripRange range{row, column,
                             static_cast<int>(std::min<std::int64_t>(kStripRows, end_row - row)),
                             columns};
      Strip strip = load_strip(worker, range, column_terms);
      if (s.symmetric) strip.diagonal = row - column;
      consumer.strip(*this, worker, index, strip, range);
      pairs_.fetch_add(static_cast<std::int64_t>(range.rows) * columns, std::memory_order_relaxed);
    }
  }
}

void Join::exact_task(int index, std::int64_t task, Consumer& consumer) {
  const Segment& s = segment();
  const bool by_x = s.x->size() >= s.y->size();
  const std::int64_t begin = task * kExactPerTask, end = begin + kExactPerTask;
  const std::int64_t x_begin = s.x->begin + (by_x ? begin : 0);
  const std::int64_t x_end = by_x ? std::min(s.x->end, s.x->begin + end) : s.x->end;
  const std::int64_t y_begin = s.y->begin + (by_x ? 0 : begin);
  const std::int64_t y_end = by_x ? s.y->end : std::min(s.y->end, s.y->begin + end);
  const RowView& x_rows = x_.set->rows();
  const RowView& y_rows = y_.set->rows();
  Worker& worker = *workers_[index];
  for (std::int64_t i = x_begin; i < x_end; ++i) {
    double* row = worker.doubles.data();
    kernels().to_double(x_.set->row_of_slot(i), x_rows.dtype, x_rows.d, row);
    for (std::int64_t j = s.symmetric ? std::max(y_begin, i + 1) : y_begin; j < y_end; ++j) {
      consumer.pair(*this, worker, i, j,
                    kernels().sq_distance(row, y_.set->row_of_slot(j), y_rows.dtype, y_rows.d));
      pairs_.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

}  // namespace fastgen::cpu
