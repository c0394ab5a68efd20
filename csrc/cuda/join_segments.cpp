// Pairs of parts: their order, what their rows have for terms, and which of them lie too far apart to matter.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "cuda/join.hpp"
#include "cuda/join_terms.hpp"

namespace fastgen::cuda {

namespace {

// More than all roundings of sums of 131,072 squares, and of their roots, relative.
constexpr double kRounding = 1e-9;

}  // namespace

// An exact power of two that brings all |z| to at most 2^40, and all offsets between centres to 2^41.
void Join::choose_unit() {
  unit_ = x_.unit();
  if (self_) return;
  unit_ = std::min(unit_, y_.unit());
  const std::int64_t d = x_.rows().d;
  double largest = 0;
  for (const Part& p : x_.parts()) {
    for (const Part& q : y_.parts()) {
      for (std::int64_t i = 0; i < d; ++i) {
        largest = std::max(largest, std::fabs(p.centre[i] - q.centre[i]));
      }
    }
  }
  largest *= std::sqrt(static_cast<double>(d));
  if (largest > 0) {
    int exponent = 0;
    std::frexp(largest, &exponent);
    unit_ = std::min(unit_, std::ldexp(1.0, 40 - exponent));
  }
}

void Join::add_segments() {
  if (self_) {
    // Own parts first: they hold most neighbours, and set the thresholds that the rest must meet.
    for (const Part& p : x_.parts()) segments_.push_back({&p, &p, true});
    for (const Part& p : x_.parts()) {
      for (const Part& q : x_.parts()) {
        if (p.begin < q.begin) segments_.push_back({&p, &q, false});
      }
    }
  } else {
    for (const Part& p : x_.parts()) {
      std::vector<std::pair<double, const Part*>> others;
      for (const Part& q : y_.parts()) {
        double sq = 0;
        for (std::int64_t i = 0; i < x_.rows().d; ++i) {
          const double t = (p.centre[i] - q.centre[i]) * unit_;
          sq += t * t;
        }
        others.emplace_back(q.outlying ? std::numeric_limits<double>::infinity() : sq, &q);
      }
      // The order of the parts decides between equal distances: addresses are in that order.
      std::sort(others.begin(), others.end());
      for (const auto& other : others) segments_.push_back({&p, other.second, false});
    }
  }
  for (const Segment& s : segments_) total_pairs_ += segment_pairs(s);
}

// Of sets with parts, from the norms around their centres.
void Join::find_radii(Side& side, const Prepared& set) {
  side.met.assign(set.parts().size(), 0);
  if (all_exact_ || product_ == Product::direct || segments_.size() == 1) return;
  std::vector<double> square(static_cast<std::size_t>(set.slots()));
  download(square.data(), set.view().square, set.slots() * 8, stream_);
  for (const Part& part : set.parts()) {
    const double most = *std::max_element(square.begin() + part.begin, square.begin() + part.end);
    side.radius.push_back(part.outlying ? std::numeric_limits<double>::infinity()
                                        : std::sqrt(most) * (unit_ / set.unit()) * (1 + kRounding) +
                                              0x1p-400);
  }
}

// Whether all pairs of the segment are farther apart than `reach`, a squared distance.
bool Join::beyond(const Segment& s, double reach) const {
  const Side& y_side = self_ ? x_side_ : y_side_;
  if (s.x == s.y || x_side_.radius.empty() || y_side.radius.empty()) return false;
  double sq = 0;
  for (std::int64_t i = 0; i < x_.rows().d; ++i) {
    const double t = (s.x->centre[i] - s.y->centre[i]) * unit_;
    sq += t * t;
  }
  const double gap = std::sqrt(sq) * (1 - kRounding) - x_side_.radius[s.x - x_.parts().data()] -
                     y_side.radius[s.y - y_.parts().data()];
  return gap > 0x1p-400 && gap * gap * (1 - kRounding) > reach;
}

void Join::set_terms() {
  const Segment& s = segment();
  const auto terms = [&](const Side& side) {
    return SideTerms{side.scale.data(),
                     side.magnitude.data(),
                     side.error.data(),
                     side.low.data(),
                     side.high.data(),
                     side.square.data(),
                     side.quantised_square.data(),
                     side.slack.data(),
                     side.direct.data()};
  };
  const PartSlots x_slots{s.x->begin, s.x->end}, y_slots{s.y->begin, s.y->end};
  const Side& y_side = self_ ? x_side_ : y_side_;
  const char* const purpose = "centres of a join";
  if (product_ == Product::direct) {
    const DeviceBuffer<double> x_centre = uploaded(s.x->centre, stream_, purpose);
    // One centre for both: that of x's part, near which most pairs that matter lie.
    launch_direct_rows(x_.view(), x_slots, unit_, x_centre.data(), terms(x_side_), stream_);
    if (!s.symmetric) {
      launch_direct_rows(y_.view(), y_slots, unit_, x_centre.data(), terms(y_side), stream_);
    }
    return;
  }
  const std::size_t d = s.x->centre.size();
  std::vector<double> delta(d, 0.0);
  double sq_delta = 0;
  if (s.x != s.y) {
    for (std::size_t i = 0; i < d; ++i) {
      delta[i] = (s.x->centre[i] - s.y->centre[i]) * unit_;
      sq_delta += delta[i] * delta[i];
    }
  }
  OffsetView x_offset{}, y_offset{};
  DeviceBuffer<double> there;  // delta, then rotated
  if (sq_delta > 0) {
    std::vector<double> rotated = x_.rotation().apply(delta);
    rotated.resize(static_cast<std::size_t>(x_.depth()), 0.0);
    delta.insert(delta.end(), rotated.begin(), rotated.end());
    there = uploaded(delta, stream_, purpose);
    const double* const rotated_there = there.data() + d;
    const double norm = std::sqrt(sq_delta);
    x_offset = {norm, sq_delta, 2.0, there.data(), rotated_there, x_.centre_there(*s.x)};
    y_offset = {norm, 0.0, -2.0, there.data(), rotated_there, y_.centre_there(*s.y)};
  }
  launch_terms(x_.view(), x_slots, product_, unit_ / x_.unit(), unit_, x_offset, terms(x_side_),
               stream_);
  if (!s.symmetric) {
    launch_terms(y_.view(), y_slots, product_, unit_ / y_.unit(), unit_, y_offset, terms(y_side),
                 stream_);
  }
}

}  // namespace fastgen::cuda
