#include "cpu/far_field.hpp"

#include <algorithm>
#include <cmath>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// A group's samples should lie within about this many bandwidths of its centre; float64 asks for smaller
// errors.
constexpr double kReachFloat = 0.7, kReachDouble = 0.4;
constexpr std::int64_t kSmallestGroup = kSpan / 8;
// Half the diagonal of most spans, in bandwidths, from which few groups are small enough.
constexpr double kMostReach = 4;
// Beyond so many bandwidths nothing is a polynomial: powers would overflow.
constexpr double kFarthest = 64;
// Operations of a pair of rows, and of a point besides its coefficients: 14 and 20 of AVX-512's.
constexpr double kPairWork = 14, kPointWork = 20;

int terms_of(int d, int degree) { return d == 1 ? degree + 1 : (degree + 1) * (degree + 2) / 2; }

double scale_of(double rate) { return std::sqrt(2 * kLn2 * rate); }

double half_diagonal_square(const Boxes& boxes, std::int64_t box) {
  double square = 0;
  for (int f = 0; f < boxes.d; ++f) {
    const std::int64_t place = f * boxes.count + box;
    const double half = 0.5 * (boxes.high[place] - boxes.low[place]);
    square += half * half;
  }
  return square;
}

struct Logs {
  double factorial[kMostDegree + 3];  // log n!
  Logs() {
    factorial[0] = 0;
    for (int n = 1; n < kMostDegree + 3; ++n) factorial[n] = factorial[n - 1] + std::log(n);
  }
};

}  // namespace

bool FarField::pays(const Boxes& samples, double rate) {
  std::vector<double> squares(samples.count, 0.0);
  for (std::int64_t span = 0; span < samples.count; ++span) {
    squares[span] = half_diagonal_square(samples, span);
  }
  const auto middle = squares.begin() + samples.count / 2;
  std::nth_element(squares.begin(), middle, squares.end());
  return std::sqrt(*middle) * scale_of(rate) < kMostReach;
}

FarField::FarField(const DirectRows& rows, double rate)
    : d_(rows.sample_boxes().d),
      scale_(scale_of(rate)),
      spans_(rows.sample_boxes().count),
      terms_(d_ == 1 ? kMostDegree + 1 : far_term(kMostDegree, 0) + 1),
      rows_(rows),
      samples_(rows.samples()) {
  FASTGEN_CHECK(d_ <= kMostFeatures);
  const Boxes& boxes = rows.sample_boxes();
  const double most = rows.narrow() ? kReachFloat : kReachDouble;
  first_.push_back(0);
  for (std::int64_t span = 0; span < spans_; ++span) {
    double reach = std::sqrt(half_diagonal_square(boxes, span)) * scale_;
    std::int64_t groups = 1;
    for (; reach > most && groups * kSmallestGroup < kSpan; groups *= 2) {
      reach *= d_ == 1 ? 0.5 : 0.70710678118654752;
    }
    first_.push_back(first_.back() + groups);
  }
  centre_.assign(first_.back() * d_, 0.0);
  reach_.assign(first_.back(), 0.0);
  weight_.assign(first_.back(), 0.0);
  coefficients_.reset(first_.back() * terms_ * rows.item());
}

void FarField::prepare(std::int64_t span) {
  const std::int64_t size = kSpan / (first_[span + 1] - first_[span]);
  std::vector<double> sums(terms_);
  for (std::int64_t group = first_[span]; group < first_[span + 1]; ++group) {
    const std::int64_t begin = span * kSpan + (group - first_[span]) * size,
                       end = std::min(samples_, begin + size);
    double x[2] = {}, low[2] = {}, high[2] = {};
    for (std::int64_t i = begin; i < end; ++i) {
      for (int f = 0; f < d_; ++f) {
        x[f] = rows_.feature(i, f);
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
      const double weight = rows_.weight(i);
      weight_[group] += weight;
      double square = 0;
      for (int f = 0; f < d_; ++f) {
        x[f] = (rows_.feature(i, f) - centre[f]) * scale_;
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
      rows_.put(coefficients_.data(), group * terms_ + t, sums[t]);
    }
  }
}

void FarField::distances(const Boxes& points, std::int64_t box, std::int64_t group, double& least,
                         double& most) const {
  double nearest = 0, farthest = 0;
  for (int f = 0; f < d_; ++f) {
    const double low = points.low[f * points.count + box] - centre_[group * d_ + f];
    const double high = points.high[f * points.count + box] - centre_[group * d_ + f];
    const double gap = std::max(std::max(low, -high), 0.0), reach = std::max(-low, high);
    nearest += gap * gap;
    farthest += reach * reach;
  }
  least = std::sqrt(nearest) * scale_ * (1 - 0x1p-40);
  most = std::sqrt(farthest) * scale_ * (1 + 0x1p-40);
}

double FarField::lower_bound(const Boxes& points, std::int64_t box,
                             const std::vector<std::int64_t>& spans) const {
  double sum = 0;
  for (const std::int64_t span : spans) {
    for (std::int64_t group = first_[span]; group < first_[span + 1]; ++group) {
      double least, most;
      distances(points, box, group, least, most);
      const double farthest = most + reach_[group];
      if (farthest < 8) sum += weight_[group] * std::exp(-0.5 * farthest * farthest);
    }
  }
  return sum * (1 - 0x1p-20);
}

double FarField::magnitude(const Boxes& points, std::int64_t box, std::int64_t span) const {
  double sum = 0;
  for (std::int64_t group = first_[span]; group < first_[span + 1]; ++group) {
    double least, most;
    distances(points, box, group, least, most);
    // exp(-(|u|^2 + |v|^2) / 2 + |u| |v|) for every sample.
    const double gap = std::max(least - reach_[group], 0.0);
    sum += weight_[group] * std::exp(-0.5 * gap * gap);
  }
  return sum;
}

bool FarField::degrees(const Boxes& points, std::int64_t box, std::int64_t span, double log_share,
                       std::vector<FarGroup>& groups) const {
  static const Logs logs;
  const std::size_t before = groups.size();
  double work = 0;
  const std::int64_t size = kSpan / (first_[span + 1] - first_[span]);
  for (std::int64_t group = first_[span]; group < first_[span + 1]; ++group) {
    if (span * kSpan + (group - first_[span]) * size >= samples_) break;
    FarGroup found{{}, coefficients_.data() + group * terms_ * rows_.item(), 0};
    for (int f = 0; f < d_; ++f) found.centre[f] = centre_[group * d_ + f];
    double least, most;
    distances(points, box, group, least, most);
    const double z = most * reach_[group];
    if (!(most < kFarthest && 2 * z < kMostDegree + 2)) {
      groups.resize(before);
      return false;
    }
    bool fits = false;
    // From p = 2 z - 2 on, the last factor of the remainder is at most 2.
    for (int p = std::max(2, static_cast<int>(std::ceil(2 * z)) - 2); p <= kMostDegree; ++p) {
      // Largest on [least, most] where |u|^2 = p + 1 or at an end.
      const double u = std::min(std::max(std::sqrt(p + 1.0), least), most);
      const double error =
          (p + 1) * std::log(u * reach_[group]) - 0.5 * u * u - logs.factorial[p + 1] + kLn2;
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
