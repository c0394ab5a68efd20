// Balls counted in tiles, hits that do not fit into their buffer, and upper bounds from samples.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/emulator/joins.hpp"

namespace fastgen::test {
namespace {

// Counts balls: what the kernel proves plus what it leaves open is the truth.
class Count final : public cuda::Consumer {
 public:
  Count(const Way& way, const Set& x, const Set& y, const std::vector<double>& x_sq,
        const std::vector<double>& y_sq, int radii, double unit, bool loose, const Stream& stream)
      : way_(way), stream_(stream) {
    const auto fill = [&](const Set& set, const std::vector<double>& sq, DeviceBuffer<float>& in,
                          DeviceBuffer<float>& out) {
      const std::int64_t slots = set.prepared.slots();
      std::vector<float> inside(static_cast<std::size_t>(radii * slots), -kInfinity),
          outside = inside;
      for (std::int64_t k = 0; !sq.empty() && k < radii; ++k) {
        for (std::int64_t slot = 0; slot < slots; ++slot) {
          if (set.padding(slot)) continue;
          const double scaled = sq[k * set.matrix.n + set.row_of(slot)] * unit;
          inside[k * slots + slot] = loose ? -kInfinity : round_down(scaled);
          outside[k * slots + slot] = loose ? kInfinity : round_up(scaled);
        }
      }
      in = cuda::uploaded(inside, stream, "radii");
      out = cuda::uploaded(outside, stream, "radii");
    };
    fill(x, x_sq, x_inside_, x_outside_);
    fill(y, y_sq, y_inside_, y_outside_);
    const auto zeros = [&](const Set& set) {
      return cuda::uploaded(std::vector<unsigned long long>(
                                static_cast<std::size_t>(radii * set.prepared.slots()), 0),
                            stream, "counts");
    };
    y_in_x = zeros(x);
    y_balls_of_x = zeros(x);
    x_balls_of_y = zeros(y);
    x_in_y = zeros(y);
    thresholds_ = {radii,
                   x.prepared.slots(),
                   y.prepared.slots(),
                   x_inside_.data(),
                   x_outside_.data(),
                   y_inside_.data(),
                   y_outside_.data(),
                   y_in_x.data(),
                   x_balls_of_y.data(),
                   x_in_y.data(),
                   y_balls_of_x.data(),
                   !x_sq.empty(),
                   !y_sq.empty()};
  }
  std::int64_t most_bands(const cuda::Behind&) const override { return way_.bands; }
  void tiles(Join& join, const cuda::Batch& batch) override { join.count(batch, thresholds_); }
  void hits(Join&, const Hit* hits, std::int64_t count) override {
    std::vector<Hit> here(static_cast<std::size_t>(count));
    cuda::download(here.data(), hits, count * static_cast<std::int64_t>(sizeof(Hit)), stream_);
    open.insert(open.end(), here.begin(), here.end());
  }

  DeviceBuffer<unsigned long long> y_in_x, x_balls_of_y, x_in_y, y_balls_of_x;
  std::vector<Hit> open;

 private:
  Way way_;
  Stream stream_;
  DeviceBuffer<float> x_inside_, x_outside_, y_inside_, y_outside_;
  cuda::BallThresholds thresholds_{};
};

// loose: the bounds of the radii decide nothing. Returns how many pairs were left open.
std::size_t check_count(const Set& x, const Set& y, const Way& way, int radii, double size,
                        bool has_x, bool has_y, bool loose, const Stream& stream) {
  Random random(static_cast<std::uint64_t>(radii) + 7);
  std::vector<double> x_sq, y_sq;
  const double typical = true_distance(x.matrix, 0, y.matrix, 1);
  const auto draw = [&](std::int64_t n, std::vector<double>& sq) {
    for (std::int64_t i = 0; i < radii * n; ++i) sq.push_back(typical * size * random.uniform());
  };
  if (has_x) draw(x.matrix.n, x_sq);
  if (has_y) draw(y.matrix.n, y_sq);
  const std::int64_t x_slots = x.prepared.slots(), y_slots = y.prepared.slots();
  std::vector<unsigned long long> got[4], want[4];
  for (int c = 0; c < 4; ++c) {
    got[c].assign(static_cast<std::size_t>(radii * (c < 2 ? x_slots : y_slots)), 0);
    want[c] = got[c];
  }
  // y_in_x, y_balls_of_x, x_balls_of_y, x_in_y.
  const auto add = [&](std::vector<unsigned long long>* to, std::int64_t i, std::int64_t j) {
    const std::int64_t a = x.row_of(i), b = y.row_of(j);
    const double sq = canonical(x.matrix.row(a), y.matrix.row(b), x.matrix.d);
    for (std::int64_t k = 0; k < radii; ++k) {
      if (has_x && sq < x_sq[k * x.matrix.n + a]) {
        to[0][k * x_slots + i] += static_cast<unsigned long long>(y.copies_of(j));
        to[2][k * y_slots + j] += static_cast<unsigned long long>(x.copies_of(i));
      }
      if (has_y && sq < y_sq[k * y.matrix.n + b]) {
        to[3][k * y_slots + j] += static_cast<unsigned long long>(x.copies_of(i));
        to[1][k * x_slots + i] += static_cast<unsigned long long>(y.copies_of(j));
      }
    }
  };
  std::size_t open = 0;
  for (int index = 0; index < way.share.count; ++index) {
    Join join(x.prepared, &y.prepared, {index, way.share.count}, stream, way.limits);
    Count count(way, x, y, x_sq, y_sq, radii, join.sq_unit(), loose, stream);
    walk(join, count, way);
    const DeviceBuffer<unsigned long long>* counts[] = {&count.y_in_x, &count.y_balls_of_x,
                                                        &count.x_balls_of_y, &count.x_in_y};
    for (int c = 0; c < 4; ++c) {
      const auto here = cuda::downloaded(*counts[c], stream);
      for (std::size_t i = 0; i < here.size(); ++i) got[c][i] += here[i];
    }
    for (const Hit& hit : count.open) add(got, hit.x, hit.y);
    open += count.open.size();
  }
  for (std::int64_t i = 0; i < x_slots; ++i) {
    for (std::int64_t j = 0; j < y_slots; ++j) {
      if (!x.padding(i) && !y.padding(j)) add(want, i, j);
    }
  }
  for (int c = 0; c < 4; ++c) CHECK_ARRAYS(got[c], want[c]);
  return open;
}

void counts() {
  const Stream stream = Stream::make(0);
  Random random(5);
  int turn = 0;
  for (const Case& what : {kCases[0], kCases[3], kCases[5], kCases[9], kCases[10]}) {
    const Matrix x_rows = rows_of(what, 260, -1.0, random),
                 y_rows = rows_of(what, 300, 1.0, random);
    for (const Path path : {Path::int8, Path::fine, Path::direct, Path::exact}) {
      if (path == Path::direct && what.d > cuda::kDirectFeatures) continue;
      if (path == Path::exact && what.name != "copies") continue;
      const Set x(x_rows, path, stream), y(y_rows, path, stream);
      // Few pairs inside, and most: lists that overflow, sums in shared memory.
      for (const double size : {1.0, 6.0}) {
        const JoinLimits limits{turn % 3 == 2 ? 1 : 1 << 22, turn % 2};
        const Way way{path, limits, {0, turn % 4 == 3 ? 2 : 1}, turn % 3 ? 1000 : 1, false};
        const int radii = turn % 3 + 1;
        const About about(what.name + " size " + show(size) + " radii " + show(radii) + " " +
                          describe(way));
        const std::size_t open =
            check_count(x, y, way, radii, size, turn % 5 != 1, turn % 5 != 2, false, stream);
        if (what.name == "normal" && path == Path::fine) {
          CHECK(static_cast<double>(open) < 0.02 * 260 * 300 * radii);
        }
        ++turn;
      }
    }
  }
}

// Many more hits than the buffer has room for: tiles are done again until it has, nothing twice.
void full_buffers() {
  const Stream stream = Stream::make(0);
  Random random(8);
  const Case what{"", 6, DType::float32, kCases[10].change};
  const Matrix x_rows = rows_of(what, 400, -1.0, random), y_rows = rows_of(what, 700, 1.0, random);
  for (const Path path : {Path::int8, Path::fine, Path::direct}) {
    const Set x(x_rows, path, stream), y(y_rows, path, stream);
    for (const std::int64_t shared : {0, 1}) {
      const Way way{path, {1, shared}, {0, shared ? 1 : 2}, 1000, false};
      const About about(describe(way));
      all_pairs(y, nullptr, way, stream);
      all_pairs(x, &y, way, stream);
      const std::size_t pairs = x.prepared.groups().first.size() * y.prepared.groups().first.size();
      CHECK_EQUAL(check_count(x, y, way, 2, 1.0, true, true, true, stream), pairs);
    }
  }
}

// The reach after a sample is an upper bound on the sample's k-th smallest distance, and about that.
void samples() {
  const Stream stream = Stream::make(0);
  Random random(6);
  for (const Case& what : {kCases[0], kCases[3], kCases[5]}) {
    const Matrix x_rows = rows_of(what, 300, -1.0, random),
                 y_rows = rows_of(what, 700, 1.0, random);
    for (const Path path : {Path::int8, Path::fine, Path::direct}) {
      if (path == Path::direct && what.d > cuda::kDirectFeatures) continue;
      const Set x(x_rows, path, stream), y(y_rows, path, stream);
      for (const bool self : {false, true}) {
        for (const std::int64_t k : {1, 5, 40}) {
          const About about(what.name + " " + name_of(path) + (self ? " self" : "") +
                            " k=" + show(k));
          const Set &rows = self ? y : x, &columns = y;
          Join join(rows.prepared, self ? nullptr : &columns.prepared, {}, stream);
          const std::int64_t slots = rows.prepared.slots();
          // A row of which something better is known, and the others.
          std::vector<float> before(static_cast<std::size_t>(slots), kInfinity);
          before[3] = 0.0f;
          const DeviceBuffer<float> reach = cuda::uploaded(before, stream, "reach");
          join.sample_reach(k, reach.data());
          const auto got = cuda::downloaded(reach, stream);
          const cuda::Segment& segment = join.segment();
          const std::int64_t most = segment.y->size();
          const std::int64_t size =
              std::max<std::int64_t>(std::min<std::int64_t>(most / 16, 256), 4 * k);
          if (size > most / 4) {
            CHECK_ARRAYS(got, before);
            continue;
          }
          int below = 0, loose = 0;
          for (std::int64_t slot = 0; slot < slots; ++slot) {
            if (rows.padding(slot) || slot == 3) continue;
            if (slot < segment.x->begin || slot >= segment.x->end) {
              below += got[slot] < kInfinity;
              continue;
            }
            std::vector<double> sampled;
            for (std::int64_t s = 0; s < size; ++s) {
              const std::int64_t other = segment.y->begin + s * most / size;
              if (self && other == slot) continue;
              sampled.push_back(true_distance(rows.matrix, rows.row_of(slot), columns.matrix,
                                              columns.row_of(other)) *
                                join.sq_unit());
            }
            std::nth_element(sampled.begin(), sampled.begin() + (k - 1), sampled.end());
            below += got[slot] < sampled[k - 1];
            loose += what.name == "normal" && got[slot] > sampled[k - 1] * 1.3;
          }
          CHECK_EQUAL(below, 0);
          CHECK_EQUAL(loose, 0);
          CHECK_EQUAL(got[3], 0.0f);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::test

int main(int argc, char** argv) {
  using namespace fastgen::test;
  fastgen::emulator::set_shared_limit(227 * 1024);
  return run_tests({{"counts", counts}, {"full_buffers", full_buffers}, {"samples", samples}}, argc,
                   argv);
}
