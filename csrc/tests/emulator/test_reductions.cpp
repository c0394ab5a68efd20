// The canonical distance on a device, and what the reductions make of a join's hits, to the last bit.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/nearest_lists.hpp"
#include "cuda/pairs.hpp"
#include "cuda/runtime.hpp"
#include "tests/check.hpp"
#include "tests/emulator/device_rows.hpp"
#include "tests/rows.hpp"

namespace fastgen::test {
namespace {

using cuda::DeviceBuffer;
using cuda::Stream;

constexpr DType kTypes[] = {DType::float16, DType::float32, DType::float64};

void distances() {
  const Stream stream = Stream::make(0);
  Random random(1);
  std::vector<std::int64_t> widths;
  for (std::int64_t d = 1; d <= 70; d += d < 34 ? 1 : 4) widths.push_back(d);
  widths.push_back(2048);
  for (const std::int64_t d : widths) {
    for (const DType x_type : kTypes) {
      for (const DType y_type : kTypes) {
        const About about("d=" + std::to_string(d) + " " + name_of(x_type) + " " + name_of(y_type));
        const Matrix x = make_matrix(normals(random, 3 * d), d, x_type, Layout::padded);
        const Matrix y = make_matrix(normals(random, 5 * d), d, y_type, Layout::reversed);
        const DeviceMatrix on_x(x, stream), on_y(y, stream);
        std::vector<std::int64_t> i, j;
        std::vector<double> want;
        for (int p = 0; p < 11; ++p) {
          i.push_back(random.below(3));
          j.push_back(random.below(5));
          want.push_back(canonical(x.row(i.back()), y.row(j.back()), d));
        }
        std::vector<double> sq(want.size(), -1.0);
        cuda::pair_sq_distances(on_x.view, on_y.view, i.data(), j.data(), 11, sq.data(), stream);
        CHECK_ARRAYS(sq, want);
      }
    }
  }
  // Subnormal halves, zeros of both signs, and values whose squares under- and overflow float32.
  const std::vector<double> odd = {6e-8, -0.0, 65504.0, -3e-5, 0.0, 1e-30, 1e30, -1e-300, 1e140};
  for (const DType type : kTypes) {
    std::vector<double> capped = odd;
    if (type != DType::float64) {
      for (double& value : capped) value = std::min(value, type == DType::float16 ? 6e4 : 1e38);
    }
    const Matrix x = make_matrix(capped, 3, type), y = make_matrix({0, 0, 0, -0.0, 1, 2}, 3, type);
    const DeviceMatrix on_x(x, stream), on_y(y, stream);
    std::vector<std::int64_t> i, j;
    std::vector<double> want;
    for (std::int64_t p = 0; p < 6; ++p) {
      i.push_back(p / 2);
      j.push_back(p % 2);
      want.push_back(canonical(x.row(p / 2), y.row(p % 2), 3));
    }
    std::vector<double> sq(want.size(), -1.0);
    cuda::pair_sq_distances(on_x.view, on_y.view, i.data(), j.data(), 6, sq.data(), stream);
    CHECK_ARRAYS(sq, want);
  }
  cuda::pair_sq_distances(DeviceMatrix(make_matrix({1.0}, 1, DType::float32), stream).view,
                          DeviceMatrix(make_matrix({1.0}, 1, DType::float32), stream).view, nullptr,
                          nullptr, 0, nullptr, stream);
}

// A set as the lists see it: slots in an order of their own, with padding between them.
struct SlotSet {
  SlotSet(const Matrix& matrix, Random& random, const Stream& stream)
      : rows(matrix, stream), first_row(256, -1), copies(256, 0) {
    std::vector<std::int32_t> firsts;
    std::vector<std::int32_t> counts;
    for (std::int64_t i = 0; i < matrix.n; ++i) {
      std::size_t g = 0;
      while (g < firsts.size() &&
             !std::equal(matrix.row(i), matrix.row(i) + matrix.d, matrix.row(firsts[g]))) {
        ++g;
      }
      if (g == firsts.size()) {
        firsts.push_back(static_cast<std::int32_t>(i));
        counts.push_back(0);
      }
      ++counts[g];
    }
    distinct = static_cast<std::int64_t>(firsts.size()) == matrix.n;
    for (std::size_t g = 0; g < firsts.size(); ++g) {
      std::size_t slot = 0;
      do {
        slot = static_cast<std::size_t>(random.below(256));
      } while (first_row[slot] >= 0);
      first_row[slot] = firsts[g];
      copies[slot] = counts[g];
      slots.push_back(static_cast<std::int32_t>(slot));
    }
    on_first_row = cuda::uploaded(first_row, stream, "slots");
    on_copies = cuda::uploaded(copies, stream, "slots");
    view.rows = rows.view;
    view.first_row = on_first_row.data();
    view.copies = on_copies.data();
    view.slots = 256;
  }
  DeviceMatrix rows;
  std::vector<std::int32_t> first_row, copies, slots;
  DeviceBuffer<std::int32_t> on_first_row, on_copies;
  cuda::PreparedView view{};
  bool distinct = true;
};

struct Entry {
  double key;
  std::int32_t row, slot;
  bool operator<(const Entry& other) const {
    return key != other.key ? key < other.key : row < other.row;
  }
};

// The exact list of every owner after hits in random order and batches: its first k copies are the
// nearest, whatever the order and however small the pending lists. `error`: of the bounds, as distances;
// none: every pair has to be looked at.
void check_lists(const Matrix& x, const Matrix* y, std::int64_t k, std::int64_t capacity,
                 double error, std::uint64_t seed) {
  const About about("n=" + std::to_string(x.n) + " k=" + std::to_string(k) +
                    " capacity=" + std::to_string(capacity) + (y ? " cross" : " self"));
  const Stream stream = Stream::make(0);
  Random random(seed);
  const SlotSet on_x(x, random, stream);
  std::unique_ptr<SlotSet> other;
  if (y) other = std::make_unique<SlotSet>(*y, random, stream);
  const SlotSet& on_y = y ? *other : on_x;
  const Matrix& candidates = y ? *y : x;
  cuda::JoinView join{};
  join.x.set = on_x.view;
  join.y.set = on_y.view;
  join.self = !y;
  join.exact = error < 0;
  join.product = cuda::Product::direct;
  join.sq_unit = 0.25;
  std::vector<float> errors(256);
  for (float& e : errors) e = static_cast<float>(error * random.uniform());
  const auto on_errors = cuda::uploaded(errors, stream, "errors");
  join.x.error = join.y.error = on_errors.data();
  std::vector<cuda::Hit> hits;
  for (const std::int32_t a : on_x.slots) {
    for (const std::int32_t b : on_y.slots) {
      const float sq = static_cast<float>(
          0.25 * canonical(x.row(on_x.first_row[a]), candidates.row(on_y.first_row[b]), x.d));
      std::int32_t bits;
      std::memcpy(&bits, &sq, 4);
      if (y || a < b) hits.push_back({a, b, bits});
    }
  }
  for (std::size_t h = hits.size(); h > 1; --h) {
    std::swap(hits[h - 1],
              hits[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(h)))]);
  }
  cuda::NearestLists lists(on_x.view, on_y.view, on_y.distinct, k, !y, {join.sq_unit, nullptr},
                           stream, capacity);
  lists.begin(!y, true);
  const auto on_hits = cuda::uploaded(hits, stream, "hits");
  const std::int64_t count = static_cast<std::int64_t>(hits.size());
  for (std::int64_t begin = 0; begin < count;) {
    const std::int64_t here = std::min(count - begin, 1 + random.below(count));
    lists.take(join, on_hits.data() + begin, here,
               cuda::NearestLists::kOwnersX | (y ? 0u : cuda::NearestLists::kOwnersY));
    begin += here;
  }
  lists.settle(0, 100);
  lists.settle(100, 256);
  lists.read_counters();
  CHECK(lists.looked() <= count * (y ? 1 : 2));
  if (capacity == 256 && error == 1e-3 && on_y.distinct) {
    // Where bounds are tight and lists never full, a batch per owner and those at its edge.
    CHECK(lists.looked() <= x.n * std::max<std::int64_t>(8, k + 8));
  }

  const cuda::ListsView view = lists.view();
  std::vector<std::int32_t> counts(256), slots(static_cast<std::size_t>(256 * (k + 1)));
  std::vector<double> keys(slots.size());
  cuda::download(counts.data(), view.exact_count, 256 * 4, stream);
  cuda::download(slots.data(), view.exact_slot, static_cast<std::int64_t>(slots.size()) * 4,
                 stream);
  cuda::download(keys.data(), view.exact_key, static_cast<std::int64_t>(keys.size()) * 8, stream);
  for (const std::int32_t owner : on_x.slots) {
    std::vector<Entry> want;
    for (const std::int32_t slot : on_y.slots) {
      if (!y && slot == owner && on_y.copies[slot] == 1) continue;
      const std::int32_t row = on_y.first_row[slot];
      want.push_back(
          {canonical(x.row(on_x.first_row[owner]), candidates.row(row), x.d), row, slot});
    }
    std::sort(want.begin(), want.end());
    std::int64_t covered = 0;
    std::vector<double> got_keys, want_keys;
    std::vector<std::int32_t> got_slots, want_slots;
    for (std::size_t e = 0; e < want.size() && covered < k; ++e) {
      covered += on_y.copies[want[e].slot] - (!y && want[e].slot == owner ? 1 : 0);
      want_keys.push_back(want[e].key);
      want_slots.push_back(want[e].slot);
      if (static_cast<std::int64_t>(e) >= counts[owner]) continue;
      got_keys.push_back(keys[static_cast<std::size_t>(owner * (k + 1)) + e]);
      got_slots.push_back(slots[static_cast<std::size_t>(owner * (k + 1)) + e]);
    }
    CHECK_ARRAYS(got_keys, want_keys);
    CHECK_ARRAYS(got_slots, want_slots);
  }
}

void lists() {
  Random random(2);
  int turn = 0;
  for (const std::int64_t k : {1, 3, 8, 31, 32, 33, 57}) {
    for (const std::int64_t capacity : {1, 3, 32, 256}) {
      for (const double error : {-1.0, 1e-3, 0.5}) {
        const std::uint64_t seed = static_cast<std::uint64_t>(++turn);
        const int kind = (turn + turn / 3) % 3;
        if (kind == 0) {
          check_lists(make_matrix(normals(random, 60 * 5), 5, DType::float32), nullptr, k, capacity,
                      error, seed);
          continue;
        }
        // Few values: many ties, and copies.
        std::vector<double> values = normals(random, 70 * 2);
        for (double& value : values) value = std::nearbyint(value);
        const Matrix ties = make_matrix(values, 2, DType::float64, Layout::reversed);
        const Matrix other = make_matrix(normals(random, 40 * 2), 2, DType::float16);
        check_lists(kind == 1 ? ties : other, kind == 1 ? nullptr : &ties, k, capacity, error,
                    seed);
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  return run_tests({{"distances", distances}, {"lists", lists}}, argc, argv);
}
