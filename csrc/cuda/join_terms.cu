#include "cuda/join_terms.hpp"

#include <algorithm>

#include "cuda/ptx.cuh"
#include "cuda/row_items.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = std::int64_t{1} << 30;

__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }

// (row - centre) . delta by one warp, in every lane.
template <class Item>
__device__ __forceinline__ double centred_dot(const RowView& rows, std::int64_t row,
                                              const OffsetView& offset) {
  const Item* const items = items_of<Item>(rows, row);
  double sum = 0;
  for (std::int64_t i = static_cast<int>(threadIdx.x) % 32; i < rows.d; i += 32) {
    sum += (static_cast<double>(number(items[i])) - offset.centre[i]) * offset.delta[i];
  }
  return warp_sum(sum);
}

// q . R delta, or (h + l / 254) . R delta, by one warp.
__device__ __forceinline__ double quantised_dot(const PreparedView& set, std::int64_t slot,
                                                bool fine, const double* rotated) {
  const std::int8_t* const high = set.high + slot * set.depth;
  double sum = 0, low_sum = 0;
  for (std::int64_t i = static_cast<int>(threadIdx.x) % 32; i < set.depth; i += 32) {
    sum += high[i] * rotated[i];
  }
  if (fine) {
    const std::int8_t* const low = set.low + slot * set.depth;
    for (std::int64_t i = static_cast<int>(threadIdx.x) % 32; i < set.depth; i += 32) {
      low_sum += low[i] * rotated[i];
    }
  }
  return warp_sum(sum + low_sum / 254.0);
}

// One warp a slot.
template <class Item>
__global__ void __launch_bounds__(kThreads)
    part_terms(const PreparedView set, const PartSlots part, std::int64_t padded_end, bool fine,
               double factor, double unit, const OffsetView offset, const SideTerms terms) {
  const std::int64_t warps = std::int64_t{gridDim.x} * (kThreads / 32);
  for (std::int64_t slot = part.begin + std::int64_t{blockIdx.x} * (kThreads / 32) +
                           static_cast<int>(threadIdx.x) / 32;
       slot < padded_end; slot += warps) {
    const bool own = slot < part.end;
    double along = 0, quantised_along = 0;
    if (own && offset.sign != 0) {
      along = centred_dot<Item>(set.rows, set.first_row[slot], offset);
      quantised_along = quantised_dot(set, slot, fine, offset.rotated);
    }
    if (threadIdx.x % 32 != 0) continue;
    RowTerms values{};
    values.low = values.high = not_a_number();
    if (own) {
      QuantisedRow row;
      row.sq_norm = set.square[slot] * factor * factor;
      row.scale = set.scale[slot] * factor;
      row.magnitude = (fine ? set.fine_magnitude : set.magnitude)[slot] * factor;
      row.error = (fine ? set.fine_error : set.error)[slot] * factor;
      OffsetTerms moved;
      moved.norm = offset.norm;
      moved.added = offset.added;
      moved.along = offset.sign * unit * along;
      moved.quantised_along = offset.sign * row.scale * quantised_along;
      if (fine) row.left_out = fine_left_out(row.scale, set.fine_low[slot] * factor);
      const double norm = sqrt(row.sq_norm);
      if (too_small(norm, row.magnitude)) {
        row.scale = row.magnitude = moved.quantised_along = 0.0;
        row.error = norm * (1 + 0x1p-20);
      }
      values = row_terms(row, moved, set.depth);
    }
    terms.scale[slot] = values.scale;
    terms.magnitude[slot] = values.magnitude;
    terms.error[slot] = values.error;
    terms.low[slot] = values.low;
    terms.high[slot] = values.high;
    terms.square[slot] = values.square;
    terms.quantised_square[slot] = values.quantised_square;
    terms.slack[slot] = values.slack;
  }
}

// One thread a slot. Padding has a NaN for its error.
template <class Item>
__global__ void __launch_bounds__(kThreads)
    direct_rows(const PreparedView set, const PartSlots part, std::int64_t padded_end, double unit,
                const double* centre, const SideTerms terms) {
  const std::int64_t slot = part.begin + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (slot >= padded_end) return;
  float* const out = terms.direct + slot * kDirectFeatures;
  const bool own = slot < part.end;
  const Item* const items = own ? items_of<Item>(set.rows, set.first_row[slot]) : nullptr;
  double sq_error = 0, sq_norm = 0;
  for (int i = 0; i < static_cast<int>(kDirectFeatures); ++i) {
    float z = 0;
    if (own && i < set.rows.d) {
      const double exact = (static_cast<double>(number(items[i])) - centre[i]) * unit;
      z = static_cast<float>(exact);
      const double left = exact - z;
      sq_error += left * left;
      sq_norm += exact * exact;
    }
    out[i] = z;
  }
  // The centred value itself is rounded once, and the sums a few times.
  const double error = sqrt(sq_error) * (1 + 0x1p-40) + sqrt(sq_norm) * 0x1p-50;
  terms.error[slot] = own ? round_up(error + kDirectLeastError) : not_a_number();
}

std::int64_t padded(std::int64_t end) { return blocks_for(end, kTileRows) * kTileRows; }

}  // namespace

void launch_terms(const PreparedView& set, const PartSlots& part, Product product, double factor,
                  double unit, const OffsetView& offset, const SideTerms& terms,
                  const Stream& stream) {
  const std::int64_t end = padded(part.end);
  const std::int64_t blocks = std::min(blocks_for(end - part.begin, kThreads / 32), kMostBlocks);
  with_item(set.rows.dtype, [&](const auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("terms of a part", part_terms<Item>, blocks, kThreads, 0, stream, set, part, end,
           product == Product::fine, factor, unit, offset, terms);
  });
}

void launch_direct_rows(const PreparedView& set, const PartSlots& part, double unit,
                        const double* centre, const SideTerms& terms, const Stream& stream) {
  const std::int64_t end = padded(part.end);
  with_item(set.rows.dtype, [&](const auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("rows as float32", direct_rows<Item>, blocks_for(end - part.begin, kThreads), kThreads,
           0, stream, set, part, end, unit, centre, terms);
  });
}

}  // namespace fastgen::cuda
