// Windows of the sum engine on a device: how large they are, and what they have of rows of the host.
#include <algorithm>

#include "common/check.hpp"
#include "cuda/kernel_sums.hpp"

namespace fastgen::cuda {

namespace {

// A window's packed rows, and its blocks: more would make long lists of tiles, and cost no less.
constexpr std::int64_t kWindowBytes = std::int64_t{1} << 30;
constexpr std::int64_t kWindowBlocks = 1024;
// Squares and forms of a kernel have one total each, to which every warp adds twice a tile. Their low limbs, up to
// 2^36 a time, are carried after every two windows: 2^60, however many rows there are.
static_assert(kWindowBlocks * kWindowBlocks * 16 <= std::int64_t{1} << 26);

}  // namespace

// Divides slots into blocks and windows, as large ones as memory allows.
void KernelSums::divide() {
  const std::int64_t features = float64_ ? kSliceFeatures<double> : kSliceFeatures<float>;
  const std::int64_t row_bytes = blocks_for(rows_.rows(0).d, features) * kSumSliceBytes;
  const std::int64_t budget = options_.memory > 0
                                  ? options_.memory / 2
                                  : std::min(kWindowBytes, free_memory(stream_.device()) / 4);
  // A window's rows of the host: of both windows if they stay, else of one at a time.
  std::int64_t host_bytes = 0;
  for (int s = 0; s < rows_.sets(); ++s) {
    if (rows_.source(s).on_host()) host_bytes = std::max(host_bytes, rows_.rows(s).row_bytes());
  }
  const std::int64_t copies = looks() ? 2 : 1;
  std::int64_t window = std::min(
      kWindowBlocks,
      std::max<std::int64_t>(1, 2 * budget / (kSumTile * (2 * row_bytes + copies * host_bytes))));
  for (;; window /= 2) {
    walk_.divide(kSumTile, window);
    const std::int64_t bytes = (walk_.window() + 1) * kSumTile * row_bytes;
    try {
      packed_[0] = DeviceBuffer<unsigned char>(bytes, stream_, "packed rows");
      if (walk_.windows_meet()) {
        packed_[1] = DeviceBuffer<unsigned char>(bytes, stream_, "packed rows");
      }
      // Uploads come later; here it shows whether there is room.
      const std::int64_t room = copies * walk_.window() * kSumTile * host_bytes;
      if (room > 0) DeviceBuffer<unsigned char>(room, stream_, "rows of the host");
      break;
    } catch (const OutOfMemory&) {
      for (DeviceBuffer<unsigned char>& packed : packed_) packed = DeviceBuffer<unsigned char>();
      if (window == 1) throw;
    }
  }
  std::vector<SumBlock> blocks;
  for (const SumWalk::Block& block : walk_.blocks()) {
    blocks.push_back(
        {block.begin, block.count, block.set, static_cast<std::int32_t>(block.subset)});
  }
  blocks_ = uploaded(blocks, stream_, "blocks of rows");
  if (streamed()) find_places();
}

// Finds where the rows of slots are among those that load() gives.
void KernelSums::find_places() {
  std::vector<std::int32_t> places(static_cast<std::size_t>(stride_), -1);
  std::int32_t next[2] = {0, 0};
  for (std::size_t b = 0; b < walk_.blocks().size(); ++b) {
    const SumWalk::Block& block = walk_.blocks()[b];
    if (static_cast<std::int64_t>(b) % walk_.window() == 0) next[0] = next[1] = 0;
    const bool there = !rows_.source(block.set).on_host();
    for (std::int64_t slot = block.begin; slot < block.begin + block.count; ++slot) {
      places[static_cast<std::size_t>(slot)] =
          there ? static_cast<std::int32_t>(row_in(block, slot)) : next[block.set]++;
    }
  }
  place_ = uploaded(places, stream_, "places of rows");
}

std::int64_t KernelSums::row_in(const SumWalk::Block& block, std::int64_t slot) const {
  return walk_.row(block.subset, block.set, slot - walk_.part_begin(block.subset, block.set));
}

bool KernelSums::looks() const {
  return std::any_of(device_kernels_.begin(), device_kernels_.end(),
                     [](const SumKernel& kernel) { return kernel.distances && kernel.look; });
}

// Uploads the rows of a window that are on the host, slot by slot.
void KernelSums::load(int place, std::int64_t first_block, std::int64_t end_block) {
  for (int s = 0; s < rows_.sets(); ++s) {
    loaded_[place][s].reset();
    if (!rows_.source(s).on_host()) continue;
    std::vector<std::int32_t> rows;
    for (std::int64_t b = first_block; b < end_block; ++b) {
      const SumWalk::Block& block = walk_.blocks()[static_cast<std::size_t>(b)];
      for (std::int64_t slot = block.begin; block.set == s && slot < block.begin + block.count;
           ++slot) {
        rows.push_back(static_cast<std::int32_t>(row_in(block, slot)));
      }
    }
    if (rows.empty()) continue;
    loaded_[place][s] = std::make_unique<Rows>(rows_.source(s).picked(std::move(rows)));
  }
}

RowView KernelSums::loaded(int place, int set) const {
  RowView view = rows_.rows(set);
  if (!rows_.source(set).on_host()) return view;
  if (loaded_[place][set]) return loaded_[place][set]->view();
  view.data = nullptr;
  view.n = 0;
  return view;
}

}  // namespace fastgen::cuda
