// When finer products pay: a walk's int8 bounds leave pairs open that take an exact look each.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/join.hpp"

namespace fastgen::cuda {

struct ProductChoice {
  bool open = false;  // whether the join may change its products at all
  std::int64_t least_pairs = std::int64_t{1} << 20;  // before this many, nothing is known
  double share = 1.0;  // looks per pair from which on fine products are cheaper

  ProductChoice() = default;
  explicit ProductChoice(const Join& join)
      : open(join.x().path() == Path::automatic && join.y().path() == Path::automatic &&
             join.product() == Product::int8),
        share(break_even(join)) {}

  // A look reads d features of one more row, from memory at 3 TB/s on an H100, or widens and subtracts
  // them, 0.5 ps each. A pair costs 2 depth operations with one plane and three times that with two, at
  // 0.9 POP/s. At d = 2048 in float32: one look for 300 pairs. Other devices are taken to be faster or
  // slower by their multiprocessors and clock, and in float64 where it is rarer than half of float32 (a
  // 64th on many): estimates, on which only time depends.
  static double break_even(const Join& join) {
    const int device = join.stream().device();
    const double clock = std::max(1e3 * attribute(cudaDevAttrClockRate, device), 1e8);
    const double speed = multiprocessors(device) * clock / (132 * 1.98e9);
    const double rarity = attribute(cudaDevAttrSingleToDoublePrecisionPerfRatio, device) / 2.0;
    const double item = static_cast<double>(
        std::max(item_size(join.x().rows().dtype), item_size(join.y().rows().dtype)));
    const double look =
        static_cast<double>(join.x().rows().d) * std::max(item / 3e12, 0.5e-12 * rarity / speed);
    return 4 * static_cast<double>(join.x().depth()) / (0.9e15 * speed) / look;
  }

  // `looks` of all pairs are expected to be needed at the end of a walk that has come this far.
  bool fine(const Join& join, double looks) const {
    return open && !join.done() && join.product() == Product::int8 && join.pairs() >= least_pairs &&
           looks * join.fraction() > share * static_cast<double>(join.pairs());
  }
};

}  // namespace fastgen::cuda
