// The phases of preparing a set (prepared.hpp): what the host decides between the kernels.
#include "cuda/prepared.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "common/check.hpp"
#include "common/clusters.hpp"
#include "cuda/compare_rows.hpp"
#include "cuda/quantise.hpp"
#include "cuda/scan_rows.hpp"

namespace fastgen::cuda {

namespace {

// With one scale for all, rows 2^60 times smaller than the largest cannot be told apart. Few rows that
// are more than 2^40 times larger than the median, by exponents, are set aside.
constexpr int kOutlyingExponents = 41;
constexpr std::int64_t kMaxOutliers = 64;
// Below this spread the squares of float64 differences may underflow, and no bound holds.
constexpr double kSmallestSpread = 0x1p-450;

struct Outliers {
  std::int64_t count = 0;
  MagnitudeBits limit = 0;
};

// `bins` count rows by the exponents of their peaks, rows of zeros left out.
Outliers find_outliers(const unsigned* bins) {
  const std::int64_t all = std::accumulate(bins, bins + kExponents, std::int64_t{0});
  if (all == 0) return {};
  int median = 0;
  for (std::int64_t below = bins[0]; below <= all / 2; below += bins[median]) ++median;
  const int limit = median + kOutlyingExponents;
  if (limit >= kExponents) return {};
  const std::int64_t count = std::accumulate(bins + limit, bins + kExponents, std::int64_t{0});
  if (count == 0 || count > kMaxOutliers) return {};
  return {count, static_cast<MagnitudeBits>(limit) << 52};
}

}  // namespace

Prepared::Prepared(const RowView& rows, Path path, const Stream& stream)
    : rows_(rows),
      stream_(stream),
      path_(path),
      rotation_(rows.d),
      depth_(quantised_depth(rows.d)) {
  FASTGEN_CHECK(rows.n >= 1 && rows.d >= 1);
  FASTGEN_CHECK(rows.n <= std::numeric_limits<std::int32_t>::max());
  FASTGEN_CHECK(path != Path::direct || rows.d <= kDirectFeatures);
  if (path == Path::automatic && rows.d <= kDirectFeatures) path_ = Path::direct;
  if (rows.d > kMaxQuantisedFeatures) path_ = Path::exact;
}

Prepared::~Prepared() = default;

double Prepared::advance(double seconds) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(std::max(seconds, 0.0));
  // Fractions are those of 50,000 rows of 2048 features, roughly.
  do {
    switch (phase_) {
      case Phase::scan:
        scan();
        phase_ = Phase::group;
        break;
      case Phase::group:
        group();
        phase_ = Phase::cluster;
        break;
      case Phase::cluster:
        find_clusters();
        phase_ = Phase::arrange;
        break;
      case Phase::arrange:
        arrange();
        phase_ = Phase::quantise;
        break;
      case Phase::quantise:
        quantise();
        phase_ = Phase::done;
        break;
      case Phase::done:
        return 1.0;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready() ? 1.0 : 0.2 * static_cast<double>(phase_);
}

void Prepared::scan() {
  const std::int64_t d = rows_.d;
  scan_ = std::make_unique<Scan>(allocate_scan(rows_, stream_));
  // All that the host has to know, in one download: columns, bins of exponents, repeated hashes.
  DeviceBuffer<double> report(3 * d + kExponents / 2 + 1, stream_, "sums of columns");
  unsigned* bins = reinterpret_cast<unsigned*>(report.data() + 3 * d);
  fill_bytes(bins, 0, report.bytes() - 3 * d * std::int64_t{sizeof(double)}, stream_);
  scan_rows(rows_, *scan_, report.data(), stream_);
  if (path_ != Path::exact) count_exponents(*scan_, bins, stream_);
  find_leaders(*scan_, bins + kExponents, stream_);
  std::vector<double> columns = downloaded(report, stream_);
  std::vector<unsigned> counts(kExponents + 1);
  std::memcpy(counts.data(), columns.data() + 3 * d, counts.size() * sizeof(unsigned));
  repeated_ = counts[kExponents];

  const Outliers outliers = find_outliers(counts.data());
  outliers_.clear();
  if (outliers.count > 0) {
    DeviceBuffer<std::int32_t> list(outliers.count + 1, stream_, "outlying rows");
    fill_bytes(list.data(), 0, list.bytes(), stream_);
    list_peaks(*scan_, outliers.limit, list.data() + 1, static_cast<unsigned>(outliers.count),
               reinterpret_cast<unsigned*>(list.data()), stream_);
    scan_columns(rows_, *scan_, outliers.limit, report.data(), stream_);
    columns = downloaded(report, stream_);
    outliers_ = downloaded(list, stream_);
    FASTGEN_CHECK(outliers_[0] == outliers.count);
    outliers_.erase(outliers_.begin());
    std::sort(outliers_.begin(), outliers_.end());
  }
  read_columns(columns, rows_.n - outliers.count);
}

void Prepared::read_columns(const std::vector<double>& columns, std::int64_t counted) {
  const std::int64_t d = rows_.d;
  const double *sum = columns.data(), *low = sum + d, *high = low + d;
  mean_.resize(static_cast<std::size_t>(d));
  double largest = 0, sq_spread = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    // Every part's centre lies between a column's extremes, so |x - c| <= high - low.
    mean_[i] = std::min(std::max(sum[i] / static_cast<double>(counted), low[i]), high[i]);
    largest = std::max(largest, high[i] - low[i]);
  }
  for (std::int64_t i = 0; largest > 0 && i < d; ++i) {
    const double relative = (high[i] - low[i]) / largest;
    sq_spread += relative * relative;
  }
  int exponent = 0;
  std::frexp(largest * std::sqrt(sq_spread), &exponent);  // spread < 2^exponent
  // At most 2^490 where anything is quantised; beyond, infinity is to be avoided.
  unit_ = largest > 0 ? std::ldexp(1.0, std::min(40 - exponent, 1000)) : 1.0;
  if (largest > 0 && largest < kSmallestSpread) path_ = Path::exact;
}

void Prepared::group() {
  std::vector<Suspect> suspects;
  if (repeated_ > 0) {
    const std::vector<std::int32_t> leaders = downloaded(scan_->leaders, stream_);
    suspects.reserve(repeated_);
    for (std::int32_t row = 0; row < static_cast<std::int32_t>(rows_.n); ++row) {
      if (leaders[row] != row) suspects.push_back({leaders[row], row});
    }
  }
  groups_ = group_identical(rows_.n, std::move(suspects),
                            [&](const std::vector<Suspect>& pairs, std::vector<char>& same) {
                              compare_suspects(rows_, pairs, same, stream_);
                            });
  scan_.reset();
}

void Prepared::find_clusters() {
  const std::int64_t n = groups_.size(), samples = cluster_samples(n);
  if (!quantised() || samples == 0) return;
  std::vector<std::int32_t> list(static_cast<std::size_t>(samples));
  for (std::int64_t s = 0; s < samples; ++s) list[s] = groups_.first[s * n / samples];
  const std::vector<double> sq = sample_distances(rows_, list, mean_, stream_);
  std::vector<double> sq_norm(static_cast<std::size_t>(samples));
  for (std::int64_t s = 0; s < samples; ++s) sq_norm[s] = sq[s * samples + s];
  const auto clusters = tight_clusters(sq_norm, [&](int s, int t) { return sq[t * samples + s]; });
  if (clusters.empty()) return;
  const std::vector<double> sample = gather_rows(rows_, list, stream_);
  clusters_.clear();
  for (const std::vector<int>& members : clusters) {
    clusters_.push_back(
        cluster_centre(members, rows_.d, [&](int s) { return sample.data() + s * rows_.d; }));
  }
  cluster_of_ = assign_clusters(rows_, groups_.first, mean_, clusters_, unit_, stream_);
}

void Prepared::arrange() {
  const std::int64_t groups = groups_.size();
  // Parts in order: rows of no cluster, the clusters, outliers.
  const int outlying = static_cast<int>(clusters_.size()) + 1;
  std::vector<std::uint8_t> kind(static_cast<std::size_t>(groups), std::uint8_t{0});
  for (std::size_t group = 0; group < cluster_of_.size(); ++group) {
    kind[group] = static_cast<std::uint8_t>(cluster_of_[group] + 1);
  }
  if (path_ != Path::exact) {
    for (const std::int32_t row : outliers_) {
      kind[groups_.distinct() ? row : groups_.group_of[row]] = static_cast<std::uint8_t>(outlying);
    }
  }
  std::vector<std::int64_t> size(static_cast<std::size_t>(outlying) + 1, 0), next(size.size());
  for (const std::uint8_t one : kind) ++size[one];

  parts_.clear();
  std::vector<std::int32_t> centre_of_tile;
  std::vector<double> centres;
  std::int64_t slots = 0;
  for (int one = 0; one <= outlying; ++one) {
    if (size[one] == 0) continue;
    Part part;
    part.begin = next[one] = slots;
    part.end = slots + size[one];
    part.outlying = one == outlying;
    part.centre = one == 0 || part.outlying || size[one] == groups ? mean_ : clusters_[one - 1];
    slots += part.tiles() * kTileRows;
    centre_of_tile.resize(static_cast<std::size_t>(slots / kTileRows),
                          part.outlying ? -1 : static_cast<std::int32_t>(parts_.size()));
    centres.insert(centres.end(), part.centre.begin(), part.centre.end());
    parts_.push_back(std::move(part));
  }

  group_of_slot_.assign(static_cast<std::size_t>(slots), -1);
  slot_of_group_.resize(static_cast<std::size_t>(groups));
  std::vector<std::int32_t> first_row(group_of_slot_.size(), -1), copies(group_of_slot_.size(), 0);
  for (std::int32_t group = 0; group < static_cast<std::int32_t>(groups); ++group) {
    const std::int64_t slot = next[kind[group]]++;
    group_of_slot_[slot] = group;
    slot_of_group_[group] = static_cast<std::int32_t>(slot);
    first_row[slot] = groups_.first[group];
    copies[slot] = groups_.copies[group];
  }
  first_row_ = uploaded(first_row, stream_, "numbers of rows");
  copies_ = uploaded(copies, stream_, "numbers of rows");
  if (quantised()) {
    centre_of_tile_ = uploaded(centre_of_tile, stream_, "parts of the rows");
    centres_ = uploaded(centres, stream_, "centres of the rows");
    flips_ = uploaded(rotation_flips(rotation_), stream_, "rotating rows");
  }
  clusters_ = {};
  cluster_of_ = {};
  outliers_ = {};
}

QuantiseTask Prepared::task() const {
  QuantiseTask task{};
  task.rows = rows_;
  task.first_row = first_row_.data();
  task.centre_of_tile = centre_of_tile_.data();
  task.centres = centres_.data();
  task.flips = flips_.data();
  task.unit = unit_;
  task.slots = slots();
  return task;
}

namespace {

// Memory for planes and bounds, and where the kernel writes them.
struct Plane {
  DeviceBuffer<std::int8_t> levels;
  DeviceBuffer<double> bounds;
};

Plane allocate_plane(std::int64_t slots, std::int64_t depth, int bounds, const Stream& stream) {
  return {DeviceBuffer<std::int8_t>(slots * depth, stream, "rows as 8-bit integers"),
          DeviceBuffer<double>(slots * bounds, stream, "bounds of rows")};
}

void write_fine(QuantiseTask& task, const Plane& plane) {
  task.low = plane.levels.data();
  task.fine_magnitude = plane.bounds.data();
  task.fine_error = plane.bounds.data() + task.slots;
  task.fine_low = plane.bounds.data() + 2 * task.slots;
}

}  // namespace

void Prepared::quantise() {
  if (!quantised()) return;
  QuantiseTask wanted = task();
  Plane high = allocate_plane(slots(), depth_, 4, stream_), low;
  wanted.high = high.levels.data();
  wanted.scale = high.bounds.data();
  wanted.magnitude = high.bounds.data() + slots();
  wanted.error = high.bounds.data() + 2 * slots();
  wanted.square = high.bounds.data() + 3 * slots();
  if (path_ == Path::fine) {
    low = allocate_plane(slots(), depth_, 3, stream_);
    write_fine(wanted, low);
  }
  quantise_rows(wanted, rotation_, stream_);
  high_ = std::move(high.levels);
  bounds_ = std::move(high.bounds);
  low_ = std::move(low.levels);
  fine_bounds_ = std::move(low.bounds);
}

void Prepared::refine() const {
  FASTGEN_CHECK(ready());
  if (!quantised() || low_.data() != nullptr) return;
  Plane low = allocate_plane(slots(), depth_, 3, stream_);
  QuantiseTask wanted = task();
  write_fine(wanted, low);
  quantise_rows(wanted, rotation_, stream_);
  low_ = std::move(low.levels);
  fine_bounds_ = std::move(low.bounds);
}

PreparedView Prepared::view() const {
  FASTGEN_CHECK(ready());
  PreparedView view{};
  view.rows = rows_;
  view.first_row = first_row_.data();
  view.copies = copies_.data();
  view.slots = slots();
  view.depth = depth_;
  if (quantised()) {
    view.high = high_.data();
    view.scale = bounds_.data();
    view.magnitude = bounds_.data() + slots();
    view.error = bounds_.data() + 2 * slots();
    view.square = bounds_.data() + 3 * slots();
  }
  if (low_.data() != nullptr) {
    view.low = low_.data();
    view.fine_magnitude = fine_bounds_.data();
    view.fine_error = fine_bounds_.data() + slots();
    view.fine_low = fine_bounds_.data() + 2 * slots();
  }
  return view;
}

const double* Prepared::centre_there(const Part& part) const {
  return centres_.data() ? centres_.data() + (&part - parts_.data()) * rows_.d : nullptr;
}

std::int64_t Prepared::nbytes() const {
  return first_row_.bytes() + copies_.bytes() + centre_of_tile_.bytes() + centres_.bytes() +
         flips_.bytes() + high_.bytes() + bounds_.bytes() + low_.bytes() + fine_bounds_.bytes();
}

}  // namespace fastgen::cuda
