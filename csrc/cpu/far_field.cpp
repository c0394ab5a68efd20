#include "cpu/far_field.hpp"

#include <algorithm>
#include <cmath>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// A group's samples should lie within about this many bandwidths of its centre.
constexpr double kReach = 0.6;
constexpr std::int64_t kSmallestGroup = 128;
// Beyond so many bandwidths nothing is a polynomial: powers would overflow.
constexpr double kFarthest = 64;
// Operations of a pair of rows, and of a point besides its coefficients: 14 and 20 of AVX-512's.
constexpr double kPairWork = 14, kPointWork = 20;

int terms_of(int d, int degree) { return d == 1 ? degree + 1 : (degree + 1) * (degree + 2) / 2; }

struct Logs {
  double factorial[kMostDegree + 3];  // log n!
  Logs() {
    factorial[0] = 0;
    for (int n = 1; n < kMostDegree + 3; ++n) factorial[n] = factorial[n - 1] + std::log(n);
  }
};

}  // namespace

FarField::FarField(const DirectRows& rows, int d, double rate, std::int64_t samples)
    : d_(d),
      scale_(std::sqrt(2 * 0.69314718055994531 * rate)),
      spans_(rows.sample_boxes().count),
      terms_(d == 1 ? kMostDegree + 1 : far_term(kMostDegree, 0) + 1),
      rows_(rows),
      samples_(samples) {
  FASTGEN_CHECK(d <= kMostFeatures);
  // The size of groups that suits most spans.
  const Boxes& boxes = rows.sample_boxes();
  std::vector<double> reach(spans_, 0.0);
  for (std::int64_t span = 0; span < spans_; ++span) {
    for (int f = 0; f < d; ++f) {
      const double half = 0.5 * (boxes.high[f * spans_ + span] - boxes.low[f * spans_ + span]);
      reach[span] += half * half;
    }
  }
  std::nth_element(reach.begin(), reach.begin() + spans_ / 2, reach.end());
  double typical = std::sqrt(reach[spans_ / 2]) * scale_;
  for (groups_ = 1; typical > kReach && groups_ * kSmallestGroup < kSpan; groups_ *= 2) {
    typical *= d == 1 ? 0.5 : 0.70710678118654752;
  }
  centre_.assign(spans_ * groups_ * d, 0.0);
  reach_.assign(spans_ * groups_, 0.0);
  coefficients_.reset(spans_ * groups_ * terms_ * rows.item());
}

void FarField::prepare(std::int64_t span) {
  const std::int64_t size = kSpan / groups_;
  std::vector<double> sums(terms_);
  for (std::int64_t g = 0; g < groups_; ++g) {
    const std::int64_t group = span * groups_ + g;
    const std::int64_t begin = span * kSpan + g * size, end = std::min(samples_, begin + size);
    double x[2] = {}, low[2] = {}, high[2] = {};
    for (std::int64_t i = begin; i < end; ++i) {
      rows_.load_sample(i, x);
      for (int f = 0; f < d_; ++f) {
        low[f] = i == begin ? x[f] : std::min(low[f], x[f]);
        high[f] = i == begin ? x[f] : std::max(high[f], x[f]);
      }
    }
    double* centre = centre_.data() + group * d_;
    for (int f = 0; f < d_; ++f) {
      centre[f] = 0.5 * low[f] + 0.5 * high[f];
      // What the kernel will take it for.
      if (rows_.narrow()) centre[f] = static_cast<double>(static_cast<float>(centre[f]));
    }
    std::fill(sums.begin(), sums.end(), 0.0);
    double reach = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const double weight = rows_.load_sample(i, x);
      double square = 0;
      for (int f = 0; f < d_; ++f) {
        x[f] = (x[f] - centre[f]) * scale_;
        square += x[f] * x[f];
      }
      reach = std::max(reach, square);
      // (u . v)^k / k! = sum over i + j = k of u1^i v1^i / i! u2^j v2^j / j!
      double outer = weight * std::exp(-0.5 * square);
      for (int a = 0; a <= (d_ == 2 ? kMostDegree : 0); ++a) {
        double value = outer;
        double* row = sums.data() + far_term(a, 0);
        for (int b = 0; b <= kMostDegree - a; ++b) {
          row[b] += value;
          value *= x[d_ - 1] / (b + 1);
        }
        outer *= x[0] / (a + 1);
      }
    }
    reach_[group] = std::sqrt(reach) * (1 + 0x1p-40);
    for (std::int64_t t = 0; t < terms_; ++t) {
      if (rows_.narrow()) {
        reinterpret_cast<float*>(coefficients_.data())[group * terms_ + t] =
            static_cast<float>(sums[t]);
      } else {
        reinterpret_cast<double*>(coefficients_.data())[group * terms_ + t] = sums[t];
      }
    }
  }
}

bool FarField::degrees(const Boxes& points, std::int64_t box, std::int64_t span, double log_share,
                       std::vector<FarGroup>& groups) const {
  static const Logs logs;
  const std::size_t before = groups.size();
  double work = 0;
  for (std::int64_t g = 0; g < groups_; ++g) {
    const std::int64_t group = span * groups_ + g;
    if (span * kSpan + g * (kSpan / groups_) >= samples_) break;
    double nearest = 0, farthest = 0;
    FarGroup found{{}, coefficients_.data() + group * terms_ * rows_.item(), 0};
    for (int f = 0; f < d_; ++f) {
      const double c = centre_[group * d_ + f];
      const double low = points.low[f * points.count + box] - c;
      const double high = points.high[f * points.count + box] - c;
      const double gap = std::max(std::max(low, -high), 0.0), reach = std::max(-low, high);
      nearest += gap * gap;
      farthest += reach * reach;
      found.centre[f] = c;
    }
    const double least = std::sqrt(nearest) * scale_ * (1 - 0x1p-40);
    const double most = std::sqrt(farthest) * scale_ * (1 + 0x1p-40);
    const double z = most * reach_[group];
    bool fits = false;
    for (int p = std::max(2, static_cast<int>(2 * z)); p <= kMostDegree && most < kFarthest; ++p) {
      // Largest on [least, most] where |u|^2 = p + 1 or at an end; the last factor is at most 2.
      if (z > 0.5 * (p + 2)) continue;
      const double u = std::min(std::max(std::sqrt(p + 1.0), least), most);
      const double error = (p + 1) * std::log(u * reach_[group]) - 0.5 * u * u -
                           logs.factorial[p + 1] + 0.69314718055994531;
      // All samples at the centre: nothing is cut off.
      fits = error <= log_share || z == 0;
      if (fits) {
        found.degree = p;
        break;
      }
    }
    work += terms_of(d_, found.degree) + kPointWork;
    if (!fits || work > kPairWork * kSpan) {
      groups.resize(before);
      return false;
    }
    groups.push_back(found);
  }
  return true;
}

}  // namespace fastgen::cpu
