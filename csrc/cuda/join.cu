#include "cuda/join.hpp"

#include <algorithm>
#include <chrono>

#include "common/check.hpp"
#include "cuda/events.hpp"
#include "cuda/join_sample.hpp"

namespace fastgen::cuda {

namespace {

// Of a launch: the redo list has room for them.
constexpr std::int64_t kMostTiles = std::int64_t{1} << 17;
// Of a batch, in products of int8: 25 ms at 40 % of an H100's peak, so that a step can end in time.
constexpr double kBatchProducts = 1e13;
// Every pair of an exact segment is looked at in float64: features of these pairs.
constexpr double kBatchExactFeatures = 1e11;
// int32 holds that many products of 127^2, and twice as many halves of it.
constexpr std::int64_t kMostDepth = 131072, kMostFineDepth = 66048;
// Row tiles that go to one share at a time; fewer where there are few.
constexpr std::int64_t kShareTiles = 16;

}  // namespace

Join::Join(const Prepared& x, const Prepared* y, Share share, const Stream& stream,
           const JoinLimits& limits)
    : x_(x), y_(y ? *y : x), self_(y == nullptr), share_(share), stream_(stream) {
  FASTGEN_CHECK(x_.ready() && y_.ready() && x_.rows().d == y_.rows().d);
  FASTGEN_CHECK(0 <= share.index && share.index < share.count);
  FASTGEN_CHECK(x_.stream().device() == stream.device() && y_.stream().device() == stream.device());
  // The sets were made, and free their memory, in the order of their own streams.
  for (const Prepared* set : {&x_, &y_}) wait_for(stream_, set->stream());
  choose_product();
  choose_unit();
  allocate(x_side_, x_);
  if (!self_) allocate(y_side_, y_);
  add_segments();
  find_radii(x_side_, x_);
  if (!self_) find_radii(y_side_, y_);
  const std::int64_t shared =
      limits.shared > 0 ? limits.shared
                        : attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device());
  wide_ = shared >= wide_tile_bytes();
  // A tile always fits, so that every launch gets something done.
  const double most = std::min(total_pairs_, static_cast<double>(limits.hits));
  hits_ = DeviceBuffer<Hit>(std::max(static_cast<std::int64_t>(most), kMostTileHits), stream_,
                            "pairs that need a look");
  counters_ = DeviceBuffer<TileCounters>(1, stream_, "counters");
  for (auto& redo : redo_)
    redo = DeviceBuffer<std::int32_t>(kMostTiles, stream_, "a list of tiles");
}

Join::~Join() {
  try {
    for (const Prepared* set : {&x_, &y_}) wait_for(set->stream(), stream_);
  } catch (...) {  // a device that has failed: whoever waits for it is told
  }
}

void Join::choose_product() {
  const Path x = x_.path(), y = y_.path();
  if (x == Path::exact || y == Path::exact) {
    all_exact_ = true;
  } else if (x == Path::direct || y == Path::direct) {
    FASTGEN_CHECK(x_.rows().d <= kDirectFeatures);
    product_ = Product::direct;
  } else {
    FASTGEN_CHECK(x_.depth() == y_.depth() && x_.depth() <= kMostDepth);
    if (x == Path::fine || y == Path::fine) use_fine();
  }
}

void Join::use_fine() {
  if (all_exact_ || product_ != Product::int8 || x_.depth() > kMostFineDepth) return;
  for (const Prepared* set : {&x_, &y_}) {
    set->refine();
    wait_for(stream_, set->stream());
  }
  product_ = Product::fine;
  terms_ready_ = false;
}

void Join::allocate(Side& side, const Prepared& set) {
  if (all_exact_) return;
  const char* const purpose = "terms of a join";
  const std::int64_t slots = set.slots();
  side.error = DeviceBuffer<float>(slots, stream_, purpose);
  if (product_ == Product::direct) {
    side.direct = DeviceBuffer<float>(slots * kDirectFeatures, stream_, purpose);
    return;
  }
  for (auto* terms : {&side.scale, &side.magnitude, &side.low, &side.high}) {
    *terms = DeviceBuffer<float>(slots, stream_, purpose);
  }
  for (auto* terms : {&side.square, &side.quantised_square, &side.slack}) {
    *terms = DeviceBuffer<double>(slots, stream_, purpose);
  }
}

Behind Join::behind() const {
  const Segment& s = segment();
  const Side& y_side = self_ ? x_side_ : y_side_;
  return {band_, blocks_for(x_side_.met[s.x - x_.parts().data()], block_rows()),
          blocks_for(y_side.met[s.y - y_.parts().data()], block_rows())};
}

void Join::finish_segment() {
  const Segment& s = segment();
  finished_pairs_ += segment_pairs(s);
  x_side_.met[s.x - x_.parts().data()] += s.y->size();
  if (!s.symmetric) (self_ ? x_side_ : y_side_).met[s.y - y_.parts().data()] += s.x->size();
  ++current_;
  band_ = 0;
  terms_ready_ = false;
}

double Join::segment_pairs(const Segment& s) const {
  const double n = static_cast<double>(s.x->size()), m = static_cast<double>(s.y->size());
  return (s.symmetric ? 0.5 * n * (n - 1) : n * m) / share_.count;
}

bool Join::exact() const {
  return all_exact_ || (!done() && (segment().x->outlying || segment().y->outlying));
}

// The same on every device, whatever the width of its tiles.
int Join::block_rows() const {
  return exact() || product_ == Product::direct ? kTileRows : kProductBlock;
}

// Of the segment: see the head of join.hpp.
std::int64_t Join::bands() const {
  const std::int64_t blocks = blocks_for(segment().y->size(), block_rows());
  return segment().symmetric ? blocks / 2 + 1 : blocks;
}

SideView Join::side_view(const Side& side, const Prepared& set) const {
  return {set.view(),        side.scale.data(), side.magnitude.data(), side.error.data(),
          side.low.data(),   side.high.data(),  side.square.data(),    side.quantised_square.data(),
          side.slack.data(), side.direct.data()};
}

JoinView Join::view() const {
  return {side_view(x_side_, x_),
          side_view(self_ ? x_side_ : y_side_, y_),
          self_,
          exact(),
          product_,
          sq_unit()};
}

void Join::begin_segment() {
  if (done() || terms_ready_) return;
  if (!exact()) set_terms();
  terms_ready_ = true;
}

double Join::fraction() const {
  if (done() || total_pairs_ == 0) return 1.0;
  const double part = static_cast<double>(band_) / static_cast<double>(bands());
  return (finished_pairs_ + part * segment_pairs(segment())) / total_pairs_;
}

std::int64_t Join::pairs() const {
  double pairs = finished_pairs_;
  if (!done()) {
    pairs += segment_pairs(segment()) * static_cast<double>(band_) / static_cast<double>(bands());
  }
  return static_cast<std::int64_t>(pairs);
}

// Bands of the next batch; does not depend on time, so neither do thresholds nor what is emitted.
std::int64_t Join::next_batch(const Consumer& consumer) const {
  const Segment& s = segment();
  const double pairs = static_cast<double>(s.x->size()) / share_.count * block_rows();  // of a band
  double most =
      kBatchExactFeatures / (pairs * static_cast<double>(std::max<std::int64_t>(1, x_.rows().d)));
  if (!exact()) {
    // Few features: two instructions each at a fifteenth of the rate, and the comparisons.
    const double depth = product_ == Product::direct ? 15.0 * static_cast<double>(x_.rows().d) + 200
                         : product_ == Product::fine ? 3.0 * static_cast<double>(x_.depth())
                                                     : static_cast<double>(x_.depth());
    most = kBatchProducts / (pairs * std::max(depth, 256.0));
  }
  most = std::min(most, static_cast<double>(kMostTiles));
  const std::int64_t bands_left = bands() - band_;
  return std::min({bands_left, std::max<std::int64_t>(1, consumer.most_bands(behind())),
                   std::max<std::int64_t>(1, static_cast<std::int64_t>(most))});
}

bool Join::advance(double seconds, Consumer& consumer) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  if (done()) return true;
  if (band_ == 0 && segments_.size() > 1 &&
      beyond(segment(), consumer.most_reach(*this, segment()))) {
    finish_segment();
    return true;
  }
  do {
    begin_segment();
    const Batch batch{band_, band_ + next_batch(consumer)};
    consumer_ = &consumer;
    consumer.tiles(*this, batch);
    consumer_ = nullptr;
    band_ = batch.band_end;
    if (band_ == bands()) {
      finish_segment();
      return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

TileJob Join::job(const Batch& batch) const {
  const Segment& s = segment();
  const std::int64_t tiles = s.x->tiles();
  const std::int64_t group =
      std::max<std::int64_t>(1, std::min(kShareTiles, tiles / (4 * std::int64_t{share_.count})));
  const std::int64_t round = group * share_.count, own = group * share_.index;
  TileJob job{};
  TileGrid& grid = job.grid;
  grid.x_begin = static_cast<std::int32_t>(s.x->begin);
  grid.x_end = static_cast<std::int32_t>(s.x->end);
  grid.y_begin = static_cast<std::int32_t>(s.y->begin);
  grid.y_end = static_cast<std::int32_t>(s.y->end);
  grid.row_tiles = static_cast<std::int32_t>(
      tiles / round * group + std::max<std::int64_t>(0, std::min(group, tiles % round - own)));
  grid.column_blocks = static_cast<std::int32_t>(blocks_for(s.y->size(), block_rows()));
  grid.band_begin = static_cast<std::int32_t>(batch.band_begin);
  grid.bands = static_cast<std::int32_t>(batch.band_end - batch.band_begin);
  grid.share_index = share_.index;
  grid.share_count = share_.count;
  grid.share_tiles = static_cast<std::int32_t>(group);
  grid.symmetric = s.symmetric;
  const JoinView join = view();
  job.x = join.x;
  job.y = join.y;
  job.product = product_;
  job.hits = hits_.data();
  job.capacity = static_cast<unsigned long long>(hits_.size());
  job.counters = counters_.data();
  return job;
}

void Join::emit(const Batch& batch, const EmitThresholds& thresholds) {
  TileJob first = job(batch);
  first.emit = thresholds;
  if (exact()) {
    walk(first, [&](const TileJob& job) { launch_all_pairs(job, stream_); });
  } else if (product_ == Product::direct) {
    walk(first, [&](const TileJob& job) { launch_direct_tiles(job, false, stream_); });
  } else {
    walk(first, [&](const TileJob& job) { launch_product_tiles(job, wide_, false, stream_); });
  }
}

void Join::count(const Batch& batch, const BallThresholds& thresholds) {
  FASTGEN_CHECK(!self_);
  TileJob first = job(batch);
  if (exact()) {
    walk(first, [&](const TileJob& job) { launch_all_pairs(job, stream_); });
    return;
  }
  // The largest balls, which say whether a pair needs a closer look.
  const auto largest = [&](Side& side, const Prepared& set, const Part& part, bool has,
                           const float* outside, std::int64_t stride) {
    if (side.reach.size() == 0) {
      side.reach = DeviceBuffer<float>(set.slots(), stream_, "thresholds");
    }
    const std::int64_t end = part.begin + part.tiles() * kTileRows;
    launch_largest(outside, stride, has ? thresholds.radii : 0, part.begin, end, side.reach.data(),
                   stream_);
    return side.reach.data();
  };
  const Segment& s = segment();
  first.emit.x_threshold =
      largest(x_side_, x_, *s.x, thresholds.has_x, thresholds.x_outside, thresholds.x_stride);
  first.emit.y_threshold =
      largest(y_side_, y_, *s.y, thresholds.has_y, thresholds.y_outside, thresholds.y_stride);
  first.balls = thresholds;
  if (product_ == Product::direct) {
    walk(first, [&](const TileJob& job) { launch_direct_tiles(job, true, stream_); });
  } else {
    walk(first, [&](const TileJob& job) { launch_product_tiles(job, wide_, true, stream_); });
  }
}

// Launches all tiles of a batch, those that found no room for their hits again until all have.
void Join::walk(TileJob job, const std::function<void(const TileJob&)>& launch_tiles) {
  FASTGEN_CHECK(consumer_ != nullptr);
  const std::int64_t abreast = wide_ ? 1 : block_rows() / kTileRows;  // narrow tiles of a block
  const std::int64_t tiles = abreast * job.grid.row_tiles * job.grid.bands;
  // Where every pair is a hit, no more tiles than fit.
  const std::int64_t at_once =
      exact() ? std::max<std::int64_t>(
                    1, static_cast<std::int64_t>(job.capacity) / (kTileRows * kTileRows))
              : kMostTiles;
  for (std::int64_t first = 0; first < tiles; first += at_once) {
    job.first = static_cast<std::int32_t>(first);
    job.tiles = static_cast<std::int32_t>(std::min(at_once, tiles - first));
    job.list = nullptr;
    int list = 0;
    while (job.tiles > 0) {
      job.redo = redo_[list].data();
      fill_bytes(counters_.data(), 0, counters_.bytes(), stream_);
      launch_tiles(job);
      TileCounters counters;
      download(&counters, counters_.data(), sizeof(counters), stream_);
      const unsigned long long written = counters.shortfall == 0
                                             ? counters.reserved
                                             : std::min(counters.reserved, ~counters.shortfall);
      FASTGEN_CHECK(written <= job.capacity);
      FASTGEN_CHECK(static_cast<std::int64_t>(counters.redo) < job.tiles || written > 0);
      if (written > 0) {
        consumer_->hits(*this, hits_.data(), static_cast<std::int64_t>(written));
      }
      job.list = job.redo;
      job.tiles = static_cast<std::int32_t>(counters.redo);
      list = 1 - list;
    }
  }
}

void Join::sample_reach(std::int64_t k, float* reach) {
  if (done() || exact()) return;
  begin_segment();
  const Segment& s = segment();
  const std::int64_t columns = s.y->size();
  const std::int64_t size = std::min(
      kMostSample, std::max<std::int64_t>(std::min<std::int64_t>(columns / 16, 256), 4 * k));
  // A sample of most columns would cost what it saves.
  if (k > kMostSampleRank || size > columns / 4 || size <= k) return;
  const JoinView join = view();
  cuda::sample_reach(
      {join.x, join.y, product_, s.symmetric, s.x->begin, s.x->end, s.y->begin, columns, size, k},
      reach, stream_);
}

}  // namespace fastgen::cuda
