// What lies between kernels and answers of the density engine, against long double: groups of
// bandwidths that share an exponential, sums counted from an anchor that falls, and totals of several
// blocks and parts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "common/bandwidths.hpp"
#include "cpu/log_sum_totals.hpp"
#include "tests/check.hpp"
#include "tests/log_sums.hpp"
#include "tests/rows.hpp"
#include "tests/tiles.hpp"

namespace fastgen::test {
namespace {

using cpu::LogSumTotals;

template <class Real>
std::string about(const cpu::Kernels& table) {
  return std::string(table.name) + " " + kRealName<Real>;
}

// Rates in order, each the double of the one before within a group, as many exponentials as asked for.
void check_groups(const char* name, const Values& rates, std::size_t groups) {
  const About about(name);
  const std::vector<RateGroup> got = group_rates(rates);
  CHECK_EQUAL(got.size(), groups);
  std::size_t b = 0;
  for (const RateGroup& group : got) {
    CHECK(1 <= group.count && group.count <= kChain);
    for (int k = 0; k < group.count && b < rates.size(); ++k, ++b) {
      CHECK(std::fabs(std::ldexp(group.rate, k) / rates[b] - 1) <= 0x1p-42);
    }
  }
  CHECK_EQUAL(b, rates.size());
}

// Bandwidths in descending order.
Values geometric(double ratio, int count, double largest) {
  Values bandwidths;
  for (int i = 0; i < count; ++i) bandwidths.push_back(largest * std::pow(ratio, -i));
  return bandwidths;
}

void groups() {
  constexpr std::size_t kFull = kChain;
  for (const double unit : {1.0, 1e-3, 1e6}) {
    for (const int count : {1, 2, 3, 4, 5, 8, 20}) {
      const About about("unit " + show(unit) + ", " + show(count) + " bandwidths");
      const std::size_t all = static_cast<std::size_t>(count);
      check_groups("ratio sqrt 2", rates_of(geometric(std::sqrt(2.0), count, 3.7), unit),
                   (all + kFull - 1) / kFull);
      check_groups("ratio 2", rates_of(geometric(2, count, 3.7), unit), all);
      check_groups("ratio 1.1", rates_of(geometric(1.1, count, 3.7), unit), all);
      check_groups("hardly sqrt 2",
                   rates_of(geometric(std::sqrt(2.0) * (1 + 1e-9), count, 3.7), unit), all);
      check_groups("equal", rates_of(Values(all, 0.8), unit), all);
    }
  }
  check_groups("twice each", {1, 1, 2, 2}, 3);
  check_groups("a gap", {1, 2, 8, 16, 33, 66}, 3);
}

// 2^(-rate |z|^2) of z = unit x is exp(-|x|^2 / 2 h^2).
void rates() {
  for (const double unit : {1.0, 0x1p-40, 0x1p30}) {
    const Values bandwidths = {1e5, 3, 0.2, 1e-7};
    const Values rates = rates_of(bandwidths, unit);
    for (std::size_t b = 0; b < bandwidths.size(); ++b) {
      const Long width = static_cast<Long>(bandwidths[b]) * unit;
      CHECK(std::fabs(rates[b] * kLn2 * 2 * width * width - 1) <= 0x1p-51L);
    }
  }
  // However narrow and wide: in order, above 0, and past the limit where they leave float64.
  const Values largest = {1e300, 1e200, 1, 1e-200, 1e-300};
  for (const double unit : {1.0, 0x1p-1000, 0x1p1000}) {
    const Values rates = rates_of(largest, unit);
    CHECK_EQUAL(rates.size(), largest.size());
    for (std::size_t b = 0; b < rates.size(); ++b) {
      CHECK(rates[b] > 0 && (b == 0 || rates[b] >= rates[b - 1]));
      const double width = largest[b] * unit;
      CHECK(width > 1e-140 ? rates[b] < kFastestRate : width > 1e-160 || rates[b] > kFastestRate);
    }
  }
}

// Blocks of squares one after the other, each with its own nearest: anchors fall, or stay where blocks
// are far. Entries that stand for no sample, and blocks of nothing else, add nothing.
template <class Real>
void accumulation() {
  const Long rounding = static_cast<Long>(kRounding<Real>);
  const std::vector<Values> grids = {
      {1}, {1, 2, 4, 8}, {1, 2, 4, 8, 16, 32}, {1, 1.3, 5, 10, 11, 1e4}, {2, 2, 2}};
  double share = 0;
  for (const bool weighted : {false, true}) {
    for (const Values& factors : grids) {
      Random random(factors.size() + weighted);
      Values rates;
      for (const double factor : factors) rates.push_back(0.37 * factor);
      const std::vector<RateGroup> groups = group_rates(rates);
      // Blocks: their sizes, all multiples of 16, and where they begin.
      const std::vector<int> sizes = {16, kSpan, 48, 384, 16, 256, 32};
      const Values begins = {900, 350, 60, 61, 1e6, 59.5, 60};
      std::vector<AlignedBuffer<double>> squares;
      std::vector<AlignedBuffer<Real>> weights;
      for (std::size_t s = 0; s < sizes.size(); ++s) {
        squares.emplace_back(sizes[s]);
        weights.emplace_back(sizes[s]);
        for (int c = 0; c < sizes[s]; ++c) {
          const bool none = s == 4 || random.below(5) == 0;
          squares[s][c] = none ? kNoSample : begins[s] + 40 * random.uniform();
          weights[s][c] = static_cast<Real>(weighted ? std::exp2(-20 * random.uniform()) : 1.0);
        }
      }
      for (const cpu::Kernels* table : all_kernels()) {
        const About name(about<Real>(*table) + (weighted ? " weighted, " : ", ") +
                         show(factors.size()) + " bandwidths");
        RowSums row(rates.size());
        const double reach = 120;
        double anchor = kInfinity;
        for (std::size_t s = 0; s < sizes.size(); ++s) {
          const cpu::Accumulation task{squares[s].data(),
                                       sizes[s],
                                       weighted ? weights[s].data() : nullptr,
                                       groups.data(),
                                       static_cast<int>(groups.size()),
                                       reach,
                                       &row.sums};
          log_sum_kernels<Real>(*table).accumulate(&task);
          for (int c = 0; c < sizes[s]; ++c) {
            if (squares[s][c] < kNoSample) anchor = std::min(anchor, squares[s][c]);
          }
          CHECK_EQUAL(row.sums.anchor, anchor);
        }
        int b = 0;
        for (const RateGroup& group : groups) {
          for (int k = 0; k < group.count; ++k, ++b) {
            Bounded sum;
            Long top = 0, top_error = 0;
            for (std::size_t s = 0; s < sizes.size(); ++s) {
              for (int c = 0; c < sizes[s]; ++c) {
                if (squares[s][c] == kNoSample) continue;
                const Long e = (static_cast<Long>(squares[s][c]) - anchor) * rates[b];
                const Long weight = static_cast<Long>(weights[s][c]);
                const Long term = weight * std::exp2(-e);
                // The term of the group's first rate, squared k times; the ratio of rates and the
                // product of the square and the first are rounded.
                const Long first = std::ldexp(e, -k);
                const Long relative = std::ldexp(product_error<Real>(*table, first) + rounding +
                                                     3 * kLn2 * first * rounding,
                                                 k) +
                                      rounding;
                sum.add(term, relative + 16 * rounding);
                sum.error += weight * std::exp2(-static_cast<Long>(reach));
                if (term > top) top_error = term * relative;
                top = std::max(top, term);
              }
            }
            const Long off = std::fabs(row.total(b) - sum.value);
            share = std::max(share, static_cast<double>(off / sum.error));
            CHECK(off <= sum.error);
            if (weighted) {
              CHECK(std::fabs(row.largest[b] - top) <= top_error);
            } else {
              CHECK_EQUAL(row.largest[b], 1.0);
            }
          }
        }
      }
    }
  }
  std::printf("  %s accumulated: %.3f of the bound\n", kRealName<Real>, share);
}

// Nothing but kNoSample leaves a row without an anchor, and its sums empty.
template <class Real>
void nothing() {
  const AlignedBuffer<double> squares = [] {
    AlignedBuffer<double> none(32);
    std::fill_n(none.data(), 32, kNoSample);
    return none;
  }();
  const RateGroup group{1, 2};
  for (const cpu::Kernels* table : all_kernels()) {
    const About name(about<Real>(*table));
    RowSums row(2);
    const cpu::Accumulation task{squares.data(), 32, nullptr, &group, 1, 64, &row.sums};
    log_sum_kernels<Real>(*table).accumulate(&task);
    CHECK_EQUAL(row.sums.anchor, kInfinity);
    CHECK_ARRAYS(row.partials, Values(2 * kPartials, 0.0));
    // Kernels put back the mode in which subnormal numbers are kept.
    volatile double small = 0x1p-1040;
    CHECK(small * 0.5 == 0x1p-1041);
  }
}

// Blocks made up for one row: an anchor, and for every bandwidth some partial sums and a largest term.
struct MadeUp {
  double anchor;
  Values partials, largest;
  cpu::AnchoredSums sums() { return {anchor, partials.data(), largest.data()}; }
};

MadeUp make_up(Random& random, std::size_t bandwidths, double far) {
  MadeUp block{far * (1 + random.uniform()), {}, {}};
  for (std::size_t b = 0; b < bandwidths; ++b) {
    double sum = 0;
    for (int l = 0; l < kPartials; ++l) {
      block.partials.push_back(random.uniform());
      sum += block.partials.back();
    }
    block.largest.push_back(random.uniform() * sum);
  }
  return block;
}

// What is known of a row, by definition.
void check_row(const LogSumTotals& totals, std::int64_t row, const Values& rates,
               const std::vector<const MadeUp*>& blocks, bool tracked) {
  double anchor = kInfinity;
  for (const MadeUp* block : blocks) anchor = std::min(anchor, block->anchor);
  CHECK_EQUAL(totals.anchor(row), anchor);
  Values logs(rates.size());
  totals.logs(row, logs.data());
  for (std::size_t b = 0; b < rates.size(); ++b) {
    const About about("row " + show(row) + " rate " + show(rates[b]));
    const int bandwidth = static_cast<int>(b);
    Long sum = 0, largest = 0;
    for (const MadeUp* block : blocks) {
      const Long power = std::exp2(-rates[b] * (static_cast<Long>(block->anchor) - anchor));
      sum += total_of(block->partials.data() + b * kPartials) * power;
      largest = std::max(largest, block->largest[b] * power);
    }
    if (!tracked) largest = 1;
    // A power is off by what its exponent is rounded by; far below 2^-50 of the sum that counts no more.
    CHECK(std::fabs(totals.sum(row, bandwidth) - sum) <= 0x1p-45L * sum);
    CHECK(std::fabs(totals.largest(row, bandwidth) - largest) <= 0x1p-45L * largest);
    const Long exponent = kLn2 * rates[b] * anchor;
    CHECK(std::fabs(logs[b] - (std::log(sum) - exponent)) <= 0x1p-45L + 0x1p-50L * exponent);
    CHECK_EQUAL(totals.dominated(row, bandwidth), largest > 0.5L * sum);
  }
}

// In as many parts as one likes, near and far, with and without largest terms.
void totals() {
  const std::int64_t rows = 7;
  const Values rates = {1e-3, 0.5, 1, 40};
  for (const int parts : {1, 2, 5}) {
    for (const bool tracked : {false, true}) {
      Random random(static_cast<std::uint64_t>(parts));
      const About about(show(parts) + " parts");
      LogSumTotals totals(rows, parts, tracked, rates);
      CHECK_EQUAL(totals.rows(), rows);
      CHECK_EQUAL(totals.parts(), parts);
      std::vector<std::vector<MadeUp>> blocks(rows);
      for (std::int64_t row = 0; row < rows; ++row) {
        for (int i = 0; i < 12; ++i) {
          blocks[row].push_back(make_up(random, rates.size(), row == 3 ? 1e8 : row == 4 ? 0 : 30));
        }
      }
      MadeUp none = make_up(random, rates.size(), 1);
      none.anchor = kInfinity;
      none.partials.assign(none.partials.size(), 0.0);
      const auto add = [&](std::int64_t row, int first, int part) {
        for (int i = first; i < 12; i += parts) {
          totals.add(part, row, blocks[row][i].sums());
          totals.add(part, row, none.sums());
        }
      };
      const auto some = [&](std::int64_t row, int first, int step) {
        std::vector<const MadeUp*> list;
        for (int i = first; i < 12; i += step) list.push_back(&blocks[row][i]);
        return list;
      };
      for (int part = 0; part < parts; ++part) {
        for (std::int64_t row = 0; row < rows; ++row) add(row, part, part);
      }
      totals.merge();
      for (std::int64_t row = 0; row < rows; ++row) {
        check_row(totals, row, rates, some(row, 0, 1), tracked);
      }
      // Rows that are done again, with blocks of the last part alone; the others stay.
      for (const std::int64_t row : {0, 3, 6}) {
        totals.clear(row);
        add(row, parts - 1, parts - 1);
      }
      totals.merge();
      for (std::int64_t row = 0; row < rows; ++row) {
        const bool again = row % 3 == 0;
        check_row(totals, row, rates, some(row, again ? parts - 1 : 0, again ? parts : 1), tracked);
      }
    }
  }
}

// Anchors far out: logarithms as long as numbers reach, and no NaN beyond.
void far_rows() {
  const Values rates = {0x1p-990, 1, 0x1p990};
  for (const double anchor : {0.0, 1e-300, 1.0, 1e9, 1e290}) {
    const About about("anchor " + show(anchor));
    Random random(5);
    LogSumTotals totals(2, 2, true, rates);
    MadeUp block = make_up(random, rates.size(), anchor);
    block.anchor = anchor;
    totals.add(1, 0, block.sums());
    totals.merge();
    Values logs(rates.size());
    totals.logs(0, logs.data());
    for (std::size_t b = 0; b < rates.size(); ++b) {
      const Long exponent = kLn2 * rates[b] * static_cast<Long>(anchor);
      const Long want = std::log(total_of(block.partials.data() + b * kPartials)) - exponent;
      if (exponent > std::numeric_limits<double>::max()) {
        CHECK_EQUAL(logs[b], -kInfinity);
      } else {
        CHECK(std::fabs(logs[b] - want) <= 0x1p-50L * (1 + exponent));
      }
    }
    // A row without any sample.
    totals.logs(1, logs.data());
    CHECK_ARRAYS(logs, Values(rates.size(), -kInfinity));
    CHECK(!totals.dominated(1, 0));
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"groups", groups},
                    {"rates", rates},
                    {"accumulation_float", accumulation<float>},
                    {"accumulation_double", accumulation<double>},
                    {"nothing_float", nothing<float>},
                    {"nothing_double", nothing<double>},
                    {"totals", totals},
                    {"far_rows", far_rows}},
                   argc, argv);
}
