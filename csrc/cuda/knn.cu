// k nearest neighbours on a device: drives the join and the lists, and writes the wanted ranks.
#include "cuda/knn.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "common/check.hpp"
#include "cuda/nearest_lists.cuh"
#include "cuda/slots.hpp"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kResultBytes = std::int64_t{128}
                                      << 20;  // of results on the device at a time

// One thread an owner: the keys of its wanted ranks, and where candidates are distinct also their rows.
__global__ __launch_bounds__(kThreads) void write_ranks(ListsView lists, std::int64_t begin,
                                                        std::int64_t end, const std::int64_t* ranks,
                                                        std::int64_t count, double* sq,
                                                        std::int64_t* indices) {
  const std::int64_t owner = begin + std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (owner >= end) return;
  const double* key = lists.exact_key + owner * (lists.k + 1);
  const std::int32_t* slot = lists.exact_slot + owner * (lists.k + 1);
  const std::int64_t entries = lists.exact_count[owner];
  double* out = sq + (owner - begin) * count;
  std::int64_t rank = 0;
  if (lists.distinct) {
    for (; rank < count && ranks[rank] <= entries; ++rank) {
      out[rank] = key[ranks[rank] - 1];
      if (indices) {
        indices[(owner - begin) * count + rank] = lists.candidate_first[slot[ranks[rank] - 1]];
      }
    }
  } else {
    std::int64_t covered = 0;
    for (std::int64_t e = 0; e < entries && rank < count; ++e) {
      covered += copies_for(lists, owner, slot[e]);
      for (; rank < count && ranks[rank] <= covered; ++rank) out[rank] = key[e];
    }
  }
  for (; rank < count; ++rank) {
    out[rank] = static_cast<double>(infinite());
    if (indices) indices[(owner - begin) * count + rank] = -1;
  }
}

// One block a part: the largest reach of its owners. `slots`: where parts begin and end.
__global__ __launch_bounds__(kThreads) void largest_reaches(const float* reach,
                                                            const std::int64_t* slots,
                                                            float* largest) {
  float* const of_warp = reinterpret_cast<float*>(shared_memory());
  float most = -infinite();
  for (std::int64_t slot = slots[2 * blockIdx.x] + threadIdx.x; slot < slots[2 * blockIdx.x + 1];
       slot += kThreads) {
    most = fmaxf(most, reach[slot]);
  }
  most = warp_max(most);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / 32; ++warp) most = fmaxf(most, of_warp[warp]);
  largest[blockIdx.x] = most;
}

}  // namespace

class Knn::Emit final : public Consumer {
 public:
  explicit Emit(Knn& knn) : knn_(knn) {}

  // Reaches shrink with every batch, by about the share of columns that it adds.
  std::int64_t most_bands(const Behind& behind) const override {
    const std::int64_t before = knn_.self_ ? std::min(behind.by_x, behind.by_y) : behind.by_x;
    return std::max<std::int64_t>(1, behind.here + before);
  }
  double most_reach(const Join&, const Segment& segment) override {
    return knn_.most_reach(segment);
  }
  void tiles(Join& join, const Batch& batch) override {
    const float* reach = knn_.lists_.reach();
    join.emit(batch, {reach, nullptr, knn_.self_ ? reach : knn_.never_.data()});
  }
  void hits(Join& join, const Hit* hits, std::int64_t count) override {
    knn_.hits_ += count;
    knn_.part_reach_.clear();
    knn_.lists_.take(join.view(), hits, count,
                     NearestLists::kOwnersX | (knn_.self_ ? NearestLists::kOwnersY : 0u));
  }

 private:
  Knn& knn_;
};

Knn::Knn(const Prepared& x, const Prepared* y, std::vector<std::int64_t> ranks, bool indices,
         Share share, std::int64_t capacity)
    : x_(x),
      y_(y ? *y : x),
      self_(y == nullptr),
      indices_(indices),
      share_(share),
      ranks_(std::move(ranks)),
      k_(ranks_.empty() ? 0 : ranks_.back()),
      stream_(x.stream()),
      join_(x, y, share, stream_),
      lists_(x_.view(), y_.view(), y_.groups().distinct(), k_, self_,
             Nearness{join_.sq_unit(), nullptr}, stream_, capacity),
      choice_(join_) {
  FASTGEN_CHECK(k_ >= 1 && ranks_.front() >= 1 && std::is_sorted(ranks_.begin(), ranks_.end()));
  FASTGEN_CHECK(k_ <= y_.rows().n - (self_ ? 1 : 0));
  FASTGEN_CHECK(0 <= share.index && share.index < share.count);
  device_ranks_ = uploaded(ranks_, stream_, "ranks");
  if (!self_) {
    never_ = uploaded(std::vector<float>(static_cast<std::size_t>(y_.slots()),
                                         -std::numeric_limits<float>::infinity()),
                      stream_, "thresholds");
  }
  // Every pair of an owner and its copies belongs to the first share.
  lists_.begin(self_ && share_.index == 0, indices_);
  emit_ = std::make_unique<Emit>(*this);
  sampled_.assign(x_.parts().size(), false);
}

Knn::~Knn() = default;

double Knn::advance(double seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  do {
    switch (stage_) {
      case Stage::sample:
        if (join_.done()) {
          stage_ = Stage::settle;
          break;
        }
        stage_ = Stage::walk;
        {
          // A part's own rows hold most neighbours of its rows, or else the nearest part's do: the
          // first segment of each part.
          const Segment& segment = join_.segment();
          const std::size_t part = static_cast<std::size_t>(segment.x - x_.parts().data());
          if (sampled_[part] || segment.x->outlying || segment.y->outlying) break;
          if (self_ && !segment.symmetric) break;
          sampled_[part] = true;
          part_reach_.clear();
          join_.begin_segment();
          if (!join_.view().exact) join_.sample_reach(k_, lists_.reach());
        }
        break;
      case Stage::walk:
        // One batch: then products may change.
        if (join_.advance(0.0, *emit_)) {
          stage_ = Stage::sample;
        } else if (choice_.fine(join_, static_cast<double>(lists_.waiting() + lists_.looked()))) {
          join_.use_fine();
        }
        break;
      case Stage::settle:
        if (lists_.settle_more()) stage_ = Stage::done;
        break;
      case Stage::done:
        return 1.0;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  if (stage_ == Stage::done) return 1.0;
  if (stage_ != Stage::settle) return 0.95 * join_.fraction();
  return 0.95 +
         0.049 * static_cast<double>(lists_.settled()) / static_cast<double>(lists_.owners());
}

// Asked again only where something may have lowered a reach: most segments of many parts are left out.
double Knn::most_reach(const Segment& segment) {
  const std::vector<Part>& parts = x_.parts();
  if (part_slots_.size() == 0) {
    std::vector<std::int64_t> slots;
    for (const Part& part : parts) slots.insert(slots.end(), {part.begin, part.end});
    part_slots_ = uploaded(slots, stream_, "parts of the rows");
    part_reach_there_ =
        DeviceBuffer<float>(static_cast<std::int64_t>(parts.size()), stream_, "largest reaches");
  }
  if (part_reach_.empty()) {
    launch("largest_reaches", largest_reaches, part_reach_there_.size(), kThreads,
           kThreads / 32 * sizeof(float), stream_, lists_.reach(), part_slots_.data(),
           part_reach_there_.data());
    part_reach_ = downloaded(part_reach_there_, stream_);
  }
  const float reach = part_reach_[segment.x - parts.data()];
  return self_ ? std::max(reach, part_reach_[segment.y - parts.data()]) : reach;
}

void Knn::finish(double* sq, std::int64_t* indices) {
  FASTGEN_CHECK(done() && (indices != nullptr) == indices_);
  const std::int64_t ranks = static_cast<std::int64_t>(ranks_.size());
  const bool expand = indices_ && !y_.groups().distinct();
  const std::int64_t bytes = expand ? (k_ + 1) * 12 + 4 : ranks * (indices_ ? 16 : 8);
  const std::int64_t at_once = std::max<std::int64_t>(1, kResultBytes / bytes);
  for (std::int64_t begin = 0; begin < x_.slots(); begin += at_once) {
    const std::int64_t end = std::min(x_.slots(), begin + at_once);
    expand ? expand_copies(begin, end, sq, indices) : copy_ranks(begin, end, sq, indices);
  }
}

// The ranks of owners [begin, end) as the device finds them; copies of an owner get the same.
void Knn::copy_ranks(std::int64_t begin, std::int64_t end, double* sq, std::int64_t* indices) {
  const std::size_t ranks = ranks_.size();
  const std::size_t size = static_cast<std::size_t>(end - begin) * ranks;
  DeviceBuffer<double> keys(static_cast<std::int64_t>(size), stream_, "squared distances");
  DeviceBuffer<std::int64_t> rows;
  if (indices) rows = DeviceBuffer<std::int64_t>(keys.size(), stream_, "indices");
  launch("write_ranks", write_ranks, blocks_for(end - begin, kThreads), kThreads, 0, stream_,
         lists_.view(), begin, end, device_ranks_.data(), static_cast<std::int64_t>(ranks),
         keys.data(), rows.data());
  const std::vector<double> found = downloaded(keys, stream_);
  const std::vector<std::int64_t> found_rows = downloaded(rows, stream_);
  const std::vector<std::int32_t>& group_of_slot = x_.group_of_slot();
  bool complete = true;
  for (std::int64_t slot = begin; slot < end; ++slot) {
    if (group_of_slot[slot] < 0) continue;
    const std::size_t from = static_cast<std::size_t>(slot - begin) * ranks;
    complete = complete && found[from + ranks - 1] < std::numeric_limits<double>::infinity();
    each_row(x_.groups(), group_of_slot[slot], [&](std::int64_t row) {
      const std::size_t to = static_cast<std::size_t>(row) * ranks;
      std::memcpy(sq + to, found.data() + from, ranks * sizeof(double));
      if (indices) {
        std::memcpy(indices + to, found_rows.data() + from, ranks * sizeof(std::int64_t));
      }
    });
  }
  FASTGEN_CHECK(complete || share_.count > 1);
}

// The same where candidates have copies, whose indices interleave and differ between copies of an owner.
void Knn::expand_copies(std::int64_t begin, std::int64_t end, double* sq, std::int64_t* indices) {
  const std::int64_t most = k_ + 1, ranks = static_cast<std::int64_t>(ranks_.size());
  const ListsView lists = lists_.view();
  const std::size_t owners = static_cast<std::size_t>(end - begin);
  std::vector<std::int32_t> counts(owners), slots(owners * static_cast<std::size_t>(most));
  std::vector<double> keys(slots.size());
  download(counts.data(), lists.exact_count + begin, (end - begin) * 4, stream_);
  download(slots.data(), lists.exact_slot + begin * most, (end - begin) * most * 4, stream_);
  download(keys.data(), lists.exact_key + begin * most, (end - begin) * most * 8, stream_);
  const Groups& groups = y_.groups();
  std::vector<std::pair<double, std::int64_t>> neighbours;
  for (std::int64_t slot = begin; slot < end; ++slot) {
    const std::int32_t own_group = x_.group_of_slot()[slot];
    if (own_group < 0) continue;
    each_row(x_.groups(), own_group, [&](std::int64_t row) {
      neighbours.clear();
      for (std::int64_t e = (slot - begin) * most; e < (slot - begin) * most + counts[slot - begin];
           ++e) {
        // Groups beyond the k-th neighbour's distance add nothing; those at it may hold smaller indices.
        if (static_cast<std::int64_t>(neighbours.size()) >= k_ &&
            keys[e] > neighbours.back().first) {
          break;
        }
        const std::int32_t group = y_.group_of_slot()[slots[e]];
        std::int64_t taken = 0;
        for (std::int64_t m = groups.start[group]; m < groups.start[group + 1] && taken < k_; ++m) {
          const std::int64_t member = groups.members[m];
          if (self_ && member == row) continue;
          neighbours.emplace_back(keys[e], member);
          ++taken;
        }
      }
      std::sort(neighbours.begin(), neighbours.end());
      FASTGEN_CHECK(share_.count > 1 || static_cast<std::int64_t>(neighbours.size()) >= k_);
      for (std::int64_t r = 0; r < ranks; ++r) {
        const bool found = ranks_[r] <= static_cast<std::int64_t>(neighbours.size());
        sq[row * ranks + r] =
            found ? neighbours[ranks_[r] - 1].first : std::numeric_limits<double>::infinity();
        indices[row * ranks + r] = found ? neighbours[ranks_[r] - 1].second : -1;
      }
    });
  }
}

}  // namespace fastgen::cuda
