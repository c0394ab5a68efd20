// Which rows belong together: identical ones, tight clusters, outliers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cuda/compare_rows.hpp"
#include "tests/check.hpp"
#include "tests/emulator/prepared_sets.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

void outliers() {
  Random random(9);
  for (const std::int64_t d : {2, 70}) {
    for (const double size : {0x1p38, 0x1p45, 0x1p80, 0x1p499}) {
      const About about("d=" + std::to_string(d) + " size " + show(size));
      const std::int64_t n = 300;
      std::vector<double> x = normals(random, n * d);
      for (const std::int64_t row : {7, 120, 121, 299}) {
        for (std::int64_t j = 0; j < d; ++j) x[row * d + j] *= j == 0 ? size : 1.0;
      }
      std::copy_n(x.begin() + 7 * d, d, x.begin() + 200 * d);  // a copy of one of them
      const Matrix matrix = make_matrix(x, d, DType::float64);
      check_set(matrix);
      const DeviceMatrix device(matrix, stream());
      for (const Path path : {Path::automatic, Path::int8, Path::exact}) {
        Prepared set(device.view, path, stream());
        set.advance(1e9);
        const Part& last = set.parts().back();
        const bool expected = size > 0x1p42 && path != Path::exact;
        CHECK_EQUAL(last.outlying, expected);
        if (expected) {
          CHECK_EQUAL(set.parts().size(), std::size_t{2});
          std::vector<std::int32_t> rows;
          for (std::int64_t slot = last.begin; slot < last.end; ++slot) {
            rows.push_back(set.groups().first[set.group_of_slot()[slot]]);
          }
          CHECK_ARRAYS(rows, (std::vector<std::int32_t>{7, 120, 121, 299}));
        }
        check_slots(set);
        check_centre(matrix, set);
      }
    }
  }
}

// Three tight clusters, one of them of rows that are all over the place otherwise, and loose rows.
void clusters() {
  Random random(10);
  const std::int64_t d = 40, n = 700;
  for (const DType dtype : {DType::float32, DType::float64}) {
    const std::vector<double> centres = normals(random, 3 * d, 3.0);
    std::vector<double> x = normals(random, n * d);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t cluster = i % 5;
      for (std::int64_t j = 0; j < d && cluster < 3; ++j) {
        x[i * d + j] = 50 + centres[cluster * d + j] + 0.2 * x[i * d + j];
      }
      for (std::int64_t j = 0; j < d && cluster >= 3; ++j) x[i * d + j] = 50 + 3 * x[i * d + j];
    }
    std::copy_n(x.begin(), d, x.begin() + 400 * d);
    const Matrix matrix = make_matrix(x, d, dtype);
    const About about(name_of(dtype));
    check_set(matrix);
    const DeviceMatrix device(matrix, stream());
    Prepared set(device.view, Path::automatic, stream());
    make_ready(set);
    CHECK(set.path() == Path::automatic);
    CHECK_EQUAL(set.parts().size(), std::size_t{4});
    check_planes(matrix, set);
    check_centre(matrix, set);
    // By the definition, with the centres that were found.
    const std::vector<double>& mean = set.parts()[0].centre;
    for (std::size_t p = 0; p < set.parts().size(); ++p) {
      for (std::int64_t slot = set.parts()[p].begin; slot < set.parts()[p].end; ++slot) {
        const double* row = matrix.row(set.groups().first[set.group_of_slot()[slot]]);
        double best = 0.45 * 0.45 * canonical(row, mean.data(), d);
        std::size_t nearest = 0;
        for (std::size_t c = 1; c < set.parts().size(); ++c) {
          const double sq = canonical(row, set.parts()[c].centre.data(), d);
          if (sq < best) {
            best = sq;
            nearest = c;
          }
        }
        CHECK_EQUAL(p, nearest);
      }
    }
    check_plain(matrix, Path::exact, Path::exact);
  }
}

// Groups from hashes that collide, by the definition; the batches that are asked for.
void colliding_hashes() {
  Random random(11);
  for (const int values : {1, 2, 7, 60}) {
    for (const int hashes : {1, 3, 1000}) {
      const About about(std::to_string(values) + " values, " + std::to_string(hashes) + " hashes");
      const std::int32_t n = 200;
      std::vector<int> value(n);
      std::vector<std::uint64_t> hash(n);
      std::vector<std::int32_t> first, copies, group_of(n);
      std::map<int, std::int32_t> groups_by_value;
      for (std::int32_t i = 0; i < n; ++i) {
        value[i] = static_cast<int>(random.below(values));
        hash[i] = static_cast<std::uint64_t>(value[i] % hashes) * 0x123456789abcdefull;
        const auto [found, is_new] = groups_by_value.emplace(value[i], first.size());
        if (is_new) {
          first.push_back(i);
          copies.push_back(0);
        }
        group_of[i] = found->second;
        ++copies[group_of[i]];
      }
      int rounds = 0;
      const Groups groups =
          group_identical(n, equal_hashes(hash),
                          [&](const std::vector<Suspect>& suspects, std::vector<char>& same) {
                            ++rounds;
                            for (std::size_t i = 0; i < suspects.size(); ++i) {
                              CHECK(suspects[i].leader < suspects[i].row);
                              same[i] = value[suspects[i].leader] == value[suspects[i].row];
                            }
                          });
      CHECK_ARRAYS(groups.first, first);
      CHECK_ARRAYS(groups.copies, copies);
      CHECK_ARRAYS(groups.group_of, group_of);
      CHECK(rounds <= (values + hashes - 1) / hashes);
    }
  }
  const Groups none = group_identical(3, {}, [](const auto&, auto&) { CHECK(false); });
  CHECK(none.distinct() && none.size() == 3);
}

// The kernel that compares suspects tells rows apart that differ in one place, wherever it is.
void suspects_compared() {
  Random random(12);
  for (const DType dtype : {DType::float16, DType::float32, DType::float64}) {
    for (const std::int64_t d : {1, 31, 33, 100}) {
      const About about(std::string(name_of(dtype)) + " d=" + std::to_string(d));
      std::vector<double> x(static_cast<std::size_t>((d + 2) * d), 0.0);
      std::vector<Suspect> suspects;
      std::vector<char> want, same;
      for (std::int64_t i = 0; i < d; ++i) {
        x[(i + 1) * d + i] = 1;
        suspects.push_back({0, static_cast<std::int32_t>(i + 1)});
        want.push_back(0);
      }
      for (std::int64_t j = 0; j < d; ++j) x[(d + 1) * d + j] = -0.0;
      suspects.push_back({0, static_cast<std::int32_t>(d + 1)});
      want.push_back(1);
      const DeviceMatrix device(make_matrix(x, d, dtype), stream());
      cuda::compare_suspects(device.view, suspects, same, stream());
      CHECK_ARRAYS(same, want);
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"colliding_hashes", colliding_hashes},
                    {"suspects_compared", suspects_compared},
                    {"outliers", outliers},
                    {"clusters", clusters}},
                   argc, argv);
}
