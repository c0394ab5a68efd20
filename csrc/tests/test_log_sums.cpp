// The density kernels of every instruction set against long double: the exponential within its stated
// error over its whole range, sums within the roundings of their terms, rows alone the same to the last
// bit as among others, and anchors that fall.
//
// Largest relative errors of 2^-e seen on 3 10^6 arguments, e exact: float32 2^-22.54 with AVX-512's
// table and 2^-23.39 without, float64 2^-38.50 and 2^-52.23.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "tests/check.hpp"
#include "tests/log_sums.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {
namespace {

template <class Real>
std::string about(const cpu::Kernels& table) {
  return std::string(table.name) + " " + kRealName<Real>;
}

// Weighted terms of one square beside an anchor of square 0 and no weight, for all rates of a group.
template <class Real>
class Terms {
 public:
  Terms(const cpu::Kernels& table, const std::vector<RateGroup>& groups)
      : table_(table), groups_(groups), squares_(16), weights_(16) {
    for (const RateGroup& group : groups) bandwidths_ += group.count;
  }

  std::vector<double> of(double square) {
    RowSums row(bandwidths_);
    for (int c = 0; c < 16; ++c) squares_[c] = kNoSample;
    squares_[0] = 0;
    squares_[5] = square;
    weights_[5] = 1;
    const cpu::Accumulation task{squares_.data(),
                                 16,
                                 weights_.data(),
                                 groups_.data(),
                                 static_cast<int>(groups_.size()),
                                 1e300,
                                 &row.sums};
    log_sum_kernels<Real>(table_).accumulate(&task);
    std::vector<double> terms;
    for (std::size_t b = 0; b < bandwidths_; ++b) {
      terms.push_back(static_cast<double>(row.total(static_cast<int>(b))));
    }
    return terms;
  }

 private:
  const cpu::Kernels& table_;
  std::vector<RateGroup> groups_;
  std::size_t bandwidths_ = 0;
  AlignedBuffer<double> squares_;
  AlignedBuffer<Real> weights_;
};

// Exponents that the type holds, all over [0, most] and near the places where the exponential goes from
// one entry of its table, or power of two, to the next.
template <class Real>
std::vector<double> exponents(Random& random, double most) {
  std::vector<double> values = {0, most, 0x1p-149, 0x1p-30, 0.5, 1, 1.5, 2};
  const int count = kEmulated ? 300 : 8000;
  for (int i = 0; i < count; ++i) {
    values.push_back(most * random.uniform());
    values.push_back(2 * random.uniform());
    values.push_back(most * std::exp2(-60 * random.uniform()));
    const double edge = std::floor(std::min(most, 128.0) * 32 * random.uniform()) / 32;
    values.push_back(edge * (1 + (random.uniform() - 0.5) * (i % 2 ? 1e-6 : 1e-12)));
    values.push_back((edge + 1.0 / 64) * (1 + (random.uniform() - 0.5) * 1e-6));
  }
  for (double& value : values) value = static_cast<double>(static_cast<Real>(value));
  return values;
}

// 2^-e within the stated error wherever it is a normal number, and its squares within theirs.
template <class Real>
void exponential() {
  constexpr double kMost = std::is_same_v<Real, float> ? 125 : 1020;
  for (const cpu::Kernels* table : all_kernels()) {
    const About name(about<Real>(*table));
    Random random(1);
    Terms<Real> terms(*table, {{1, kChain}});
    double worst = 0, share = 0;
    for (const double e : exponents<Real>(random, kMost)) {
      const std::vector<double> got = terms.of(e);
      Long relative = product_error<Real>(*table, e);
      for (int k = 0; k < kChain; ++k) {
        const Long exponent = std::ldexp(static_cast<Long>(e), k);
        if (exponent > kMost) break;
        const Long want = std::exp2(-exponent);
        const Long off = std::fabs(got[k] / want - 1);
        share = std::max(share, static_cast<double>(off / relative));
        if (k == 0 && e < 1) worst = std::max(worst, static_cast<double>(off));
        relative = 2.001L * relative + static_cast<Long>(kRounding<Real>);
      }
      if (e == 0) CHECK_ARRAYS(got, std::vector<double>(kChain, 1.0));
    }
    CHECK_AT_MOST(share, 1.0);
    std::printf("  %s: 2^%.2f, %.3f of the bound\n", about<Real>(*table).c_str(), std::log2(worst),
                share);
  }
}

// Ratios of bandwidths at which a product is rounded.
template <class Real>
void ratios() {
  for (const cpu::Kernels* table : all_kernels()) {
    const About name(about<Real>(*table));
    for (const double ratio : {1.7, 3.0, 1e3, 1e9}) {
      Random random(2);
      Terms<Real> terms(*table, {{0.3, 1}, {0.3 * ratio, 1}});
      double share = 0;
      for (int i = 0; i < (kEmulated ? 50 : 1000); ++i) {
        const double e = 120 * random.uniform(), square = e / ratio / 0.3;
        const Long want = std::exp2(-static_cast<Long>(square) * (0.3 * ratio));
        // The square, the ratio and their product are rounded.
        const Long relative =
            product_error<Real>(*table, e) + 3 * kLn2 * e * static_cast<Long>(kRounding<Real>);
        const Long off = std::fabs(terms.of(square)[1] / want - 1);
        share = std::max(share, static_cast<double>(off / relative));
      }
      const About ratio_about("ratio " + show(ratio));
      CHECK_AT_MOST(share, 1.0);
    }
  }
}

// Beyond every number of the type: nothing, or next to it. Never NaN, infinite or negative.
template <class Real>
void far_out() {
  const double most = std::is_same_v<Real, float> ? 1e-37 : 1e-300;
  Random random(3);
  for (const cpu::Kernels* table : all_kernels()) {
    const About name(about<Real>(*table));
    bool fine = true;
    const auto look = [&](double got, double limit) { fine = fine && got >= 0 && got <= limit; };
    AlignedBuffer<Real> columns(kSpan), weights(kSpan);
    std::vector<double> partials(kPartials);
    const Real row = 0;
    for (int power = std::is_same_v<Real, float> ? 7 : 10; power < 80; ++power) {
      for (const int rate : {0, -40, 40, 69}) {
        // Squares s with 2^power <= rate s < 2^(power + 1).
        for (int c = 0; c < kSpan; ++c) {
          const double s = std::ldexp(1 + 0.999 * random.uniform(), power - rate);
          columns[c] = static_cast<Real>(std::sqrt(s));
          weights[c] = 1;
        }
        std::fill(partials.begin(), partials.end(), 0.0);
        double largest = 0;
        const cpu::SampleBlock block{columns.data(), weights.data()};
        const cpu::DirectSums task{&row,    1, 1, &block, 1, std::ldexp(1.0, rate), partials.data(),
                                   &largest};
        log_sum_kernels<Real>(*table).direct(&task);
        for (const double part : partials) look(part, kSpan * most);
        look(largest, most);
      }
      Terms<Real> terms(*table, {{1, kChain}, {1e3, 1}, {1e6, 1}, {1e15, 1}});
      for (const double term : terms.of(std::ldexp(1 + random.uniform(), power))) look(term, most);
    }
    CHECK(fine);
    fine = true;
    // Float64 has bandwidths within 2^100 of each other, float32 within 2^25.
    const double ratio = std::is_same_v<Real, float> ? 0x1p50 : 0x1p200;
    Terms<Real> terms(*table, {{0x1p-900, 1}, {0x1p-900 * ratio, 1}});
    for (int i = 0; i < 300; ++i) {
      const double s = 0x1p900 * std::exp2(30 * random.uniform()) * (i % 7 == 0 ? 1e80 : 1);
      const std::vector<double> got = terms.of(s);
      look(got[0], 1);
      look(got[1], most);
    }
    CHECK(fine);
  }
}

// Sums of 2^(-rate |x - y|^2) over some blocks by definition; what a row adds to does not depend on the
// rows beside it.
template <class Real>
void direct() {
  const Long rounding = static_cast<Long>(kRounding<Real>);
  double share = 0;
  for (int d = 1; d <= cpu::kDirectFeatures; ++d) {
    for (const int last : {kSpan, 1, 37, 300}) {
      if (kEmulated && (d + last) % 3) continue;
      Random random(static_cast<std::uint64_t>(100 * d + last));
      const int rows = 1 + (d + last) % 9, count = 1 + d % 3;
      std::vector<Block<Real>> blocks;
      std::vector<cpu::SampleBlock> list;
      for (int b = 0; b < count; ++b) {
        blocks.emplace_back(random, d, b + 1 < count ? kSpan : last, 1.0);
        list.push_back({blocks[b].columns.data(), blocks[b].weights.data()});
      }
      const std::vector<Real> x = random_rows<Real>(random, std::int64_t{rows} * d, 1.5);
      const double rate = 2.0 * random.uniform() / d;
      // Exponents and weights of all samples, row by row.
      std::vector<std::vector<std::pair<Long, Long>>> samples(rows);
      for (int r = 0; r < rows; ++r) {
        for (const Block<Real>& block : blocks) {
          for (int c = 0; c < block.count; ++c) {
            samples[r].push_back(
                {block.square(x.data() + r * d, c) * rate, static_cast<Long>(block.weights[c])});
          }
        }
      }
      for (const cpu::Kernels* table : all_kernels()) {
        const About name(about<Real>(*table) + " d=" + show(d) + " samples " + show(last));
        const cpu::LogSumKernels& kernels = log_sum_kernels<Real>(*table);
        const bool tracked = kernels.tracks_largest(d);
        Values partials(rows * kPartials, 0.0), largest(rows, tracked ? 0.0 : -5.0);
        cpu::DirectSums task{x.data(),        rows,          d, list.data(), count, rate,
                             partials.data(), largest.data()};
        kernels.direct(&task);
        for (int r = 0; r < rows; ++r) {
          Bounded sum;
          Long top = 0, top_error = 0;
          for (const auto& [e, weight] : samples[r]) {
            const Long term = weight * std::exp2(-e);
            // Differences, squares, their sum and the rate are rounded.
            const Long relative =
                product_error<Real>(*table, e) + kLn2 * e * (d + 4) * rounding + rounding;
            sum.add(term, relative + 16 * rounding);
            if (term > top) top_error = term * relative;
            top = std::max(top, term);
          }
          const Long got = total_of(partials.data() + r * kPartials);
          share = std::max(share, static_cast<double>(std::fabs(got - sum.value) / sum.error));
          CHECK(std::fabs(got - sum.value) <= sum.error);
          if (tracked) {
            CHECK(std::fabs(largest[r] - top) <= top_error);
          } else {
            CHECK_EQUAL(largest[r], -5.0);
          }
          Values alone(kPartials, 0.0), own_largest(1, tracked ? 0.0 : -5.0);
          task.rows = x.data() + r * d;
          task.row_count = 1;
          task.partials = alone.data();
          task.largest = own_largest.data();
          kernels.direct(&task);
          CHECK_ARRAYS(alone, Values(partials.begin() + r * kPartials,
                                     partials.begin() + (r + 1) * kPartials));
          CHECK_EQUAL(own_largest[0], largest[r]);
        }
        // Sums are added to and largest terms only raised; no block adds nothing.
        Values twice(partials.begin(), partials.begin() + kPartials), raised(1, 2.0);
        task.rows = x.data();
        task.partials = twice.data();
        task.largest = raised.data();
        kernels.direct(&task);
        CHECK(std::fabs(total_of(twice.data()) / 2 / total_of(partials.data()) - 1) <= 0x1p-50L);
        CHECK_EQUAL(raised[0], 2.0);
        const Values before = twice;
        task.block_count = 0;
        kernels.direct(&task);
        CHECK_ARRAYS(twice, before);
      }
    }
  }
  std::printf("  %s sums: %.3f of the bound\n", kRealName<Real>, share);
}

// A row at a sample has a term of exactly 1, in however many dimensions.
template <class Real>
void at_a_sample() {
  for (int d = 1; d <= cpu::kDirectFeatures; ++d) {
    Random random(static_cast<std::uint64_t>(d));
    Block<Real> block(random, d, kSpan, 1e3);
    std::fill_n(block.weights.data(), kSpan, Real(0));
    block.weights[7] = 1;
    std::vector<Real> x;
    for (int f = 0; f < d; ++f) x.push_back(block.columns[f * kSpan + 7]);
    for (const cpu::Kernels* table : all_kernels()) {
      const About name(about<Real>(*table) + " d=" + show(d));
      std::vector<double> partials(kPartials, 0.0);
      double largest = 0;
      const cpu::SampleBlock one{block.columns.data(), block.weights.data()};
      const cpu::DirectSums task{x.data(), 1, d, &one, 1, 1e9, partials.data(), &largest};
      log_sum_kernels<Real>(*table).direct(&task);
      CHECK_EQUAL(static_cast<double>(total_of(partials.data())), 1.0);
      if (log_sum_kernels<Real>(*table).tracks_largest(d)) CHECK_EQUAL(largest, 1.0);
    }
  }
}

// Polynomials with random coefficients around some centres, times exp(-|u|^2 / 2).
template <class Real>
void far() {
  const Long rounding = static_cast<Long>(kRounding<Real>);
  const int terms = cpu::far_term(cpu::kMostDegree, 0) + 1;
  double share = 0;
  for (const int d : {1, 2}) {
    for (const int count : {1, 31, cpu::kPoints}) {
      Random random(static_cast<std::uint64_t>(count));
      const std::vector<Real> points = random_rows<Real>(random, d * cpu::kPoints, 2);
      const std::vector<Real> coefficients = random_rows<Real>(random, 4 * terms, 1);
      std::vector<cpu::FarGroup> groups;
      for (const int degree : {cpu::kMostDegree, 2, 7, 0}) {
        cpu::FarGroup group{{}, coefficients.data() + groups.size() * terms, degree};
        for (double& c : group.centre) c = static_cast<double>(static_cast<float>(random.normal()));
        groups.push_back(group);
      }
      const double scale = 0.25;
      for (const cpu::Kernels* table : all_kernels()) {
        const About name(about<Real>(*table) + " d=" + show(d) + " count " + show(count));
        Values sums(cpu::kPoints, 0.5);
        const cpu::FarSums task{points.data(), count,         d,
                                scale,         groups.data(), static_cast<int>(groups.size()),
                                sums.data()};
        log_sum_kernels<Real>(*table).far(&task);
        for (int r = 0; r < count; ++r) {
          Bounded sum{0.5L, 4 * 0x1p-53L};
          for (const cpu::FarGroup& group : groups) {
            Long u[2] = {0, 0};  // of one feature, its powers are those of the second
            for (int f = 0; f < d; ++f) {
              u[f + 2 - d] =
                  scale * (static_cast<Long>(points[f * cpu::kPoints + r]) - group.centre[f]);
            }
            const Long e = (u[0] * u[0] + u[1] * u[1]) / 2 / kLn2, factor = std::exp2(-e);
            const Long relative = product_error<Real>(*table, e) + 6 * kLn2 * e * rounding +
                                  (4 * group.degree + 8) * rounding;
            for (int i = 0; i <= (d == 2 ? group.degree : 0); ++i) {
              for (int j = 0; j <= group.degree - i; ++j) {
                const Real c = static_cast<const Real*>(group.coefficients)[cpu::far_term(i, j)];
                const Long term = c * factor * std::pow(u[0], i) * std::pow(u[1], j);
                sum.value += term;
                sum.error += std::fabs(term) * relative;
              }
            }
          }
          const Long off = std::fabs(sums[r] - sum.value);
          share = std::max(share, static_cast<double>(off / sum.error));
          CHECK(off <= sum.error);
        }
      }
    }
  }
  std::printf("  %s polynomials: %.3f of the bound\n", kRealName<Real>, share);
}

// Squared distances in float64, of rows in full precision.
template <class Real>
void differences() {
  for (int d = 1; d <= cpu::kDirectFeatures; ++d) {
    Random random(static_cast<std::uint64_t>(d));
    const Block<Real> block(random, d, kSpan, 1.0);
    const Values x = random_rows<double>(random, cpu::kRowsAtOnce * d, 1.0);
    for (const cpu::Kernels* table : all_kernels()) {
      for (int rows = 1; rows <= cpu::kRowsAtOnce; ++rows) {
        const About name(about<Real>(*table) + " d=" + show(d) + " rows " + show(rows));
        AlignedBuffer<double> squares = nan_buffer<double>(cpu::kRowsAtOnce * kSpan);
        const Values some(x.begin(),
                          x.begin() + rows * d);  // the sanitizer sees reads past its end
        const cpu::Differences task{some.data(), rows, d, block.columns.data(), squares.data()};
        log_sum_kernels<Real>(*table).differences(&task);
        Long worst = 0;
        for (int i = 0; i < rows * kSpan; ++i) {
          const Long want = block.square(x.data() + i / kSpan * d, i % kSpan);
          const Long off = std::fabs(squares[i] - want) / want;
          worst = !(off <= worst) ? off : worst;
        }
        CHECK(worst <= (d + 3) * 0x1p-53L);
      }
    }
  }
}

// |x|^2 + |y|^2 - 2 x . y of a row of products, and nothing beyond its end.
template <class Real>
void expansion() {
  Random random(4);
  for (const cpu::Kernels* table : all_kernels()) {
    for (const int count : {1, 7, 16, 33, cpu::kTile}) {
      const About name(about<Real>(*table) + " count " + show(count));
      const std::vector<Real> products = random_rows<Real>(random, count, 1);
      const Values columns = normals(random, count, 2);
      Values squares(count + 1, -5.0);
      const cpu::Expansion task{products.data(), count, 3.25, columns.data(), squares.data()};
      sum_kernels<Real>(*table).expand(&task);
      Long worst = 0;
      for (int c = 0; c < count; ++c) {
        const Long product = 2 * static_cast<Long>(products[c]);
        const Long size = 3.25L + std::fabs(columns[c]) + std::fabs(product);
        worst = std::max(worst, std::fabs(squares[c] - (3.25L + columns[c] - product)) / size);
      }
      CHECK(worst <= 0x1p-52L);
      CHECK_EQUAL(squares[count], -5.0);
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"exponential_float", exponential<float>},
                    {"exponential_double", exponential<double>},
                    {"ratios_float", ratios<float>},
                    {"ratios_double", ratios<double>},
                    {"far_out_float", far_out<float>},
                    {"far_out_double", far_out<double>},
                    {"at_a_sample_float", at_a_sample<float>},
                    {"at_a_sample_double", at_a_sample<double>},
                    {"direct_float", direct<float>},
                    {"direct_double", direct<double>},
                    {"far_float", far<float>},
                    {"far_double", far<double>},
                    {"differences_float", differences<float>},
                    {"differences_double", differences<double>},
                    {"expansion_float", expansion<float>},
                    {"expansion_double", expansion<double>}},
                   argc, argv);
}
