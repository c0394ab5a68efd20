// The fixed orthogonal map R of DESIGN: random signs, an interleaving, and a normalised Walsh-Hadamard
// transform, which spreads outlier features evenly so that int8 serves every row well.
#pragma once

#include <cstdint>
#include <vector>

namespace fastgen {

class Rotation {
 public:
  explicit Rotation(std::int64_t d);

  std::int64_t d() const { return d_; }
  std::int64_t depth() const { return depth_; }  // d padded to a multiple of 64
  std::int64_t block() const { return block_; }  // largest power of two that divides depth
  const float* signs() const { return signs_.data(); }
  // Feature read by each place of the transform's input, -1 for padding; null when it is the identity.
  const std::int32_t* source() const { return source_.empty() ? nullptr : source_.data(); }

  // R v in float64; v has d values, the result depth.
  std::vector<double> apply(const std::vector<double>& v) const;

 private:
  std::int64_t d_, depth_, block_;
  std::vector<float> signs_;
  std::vector<std::int32_t> source_;
};

}  // namespace fastgen
