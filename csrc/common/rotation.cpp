#include "common/rotation.hpp"

#include <cmath>

namespace fastgen {

Rotation::Rotation(std::int64_t d) : d_(d), depth_((d + 63) / 64 * 64), block_(64) {
  while (depth_ % (2 * block_) == 0) block_ *= 2;
  signs_.resize(depth_);
  const float size = static_cast<float>(1.0 / std::sqrt(static_cast<double>(block_)));
  std::uint64_t state = 0x9e3779b97f4a7c15ull;
  for (float& sign : signs_) {
    // xorshift64: any fixed sequence will do, the same on every machine.
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    sign = (state >> 40 & 1u) ? size : -size;
  }
  const std::int64_t blocks = depth_ / block_;
  if (blocks > 1) {
    // Neighbouring features go to different blocks, so that a run of large ones is shared out.
    source_.resize(depth_);
    for (std::int64_t j = 0; j < depth_; ++j) {
      const std::int64_t feature = j % block_ * blocks + j / block_;
      source_[j] = feature < d_ ? static_cast<std::int32_t>(feature) : -1;
    }
  }
}

std::vector<double> Rotation::apply(const std::vector<double>& v) const {
  std::vector<double> z(depth_, 0.0);
  const double size = 1.0 / std::sqrt(static_cast<double>(block_));
  for (std::int64_t j = 0; j < depth_; ++j) {
    const std::int64_t from = source_.empty() ? (j < d_ ? j : -1) : source_[j];
    if (from >= 0) {
      z[j] = v[from] * (signs_[j] > 0 ? size : -size);
    }
  }
  for (std::int64_t start = 0; start < depth_; start += block_) {
    double* block = z.data() + start;
    for (std::int64_t width = 1; width < block_; width *= 2) {
      for (std::int64_t first = 0; first < block_; first += 2 * width) {
        for (std::int64_t i = first; i < first + width; ++i) {
          const double a = block[i], b = block[i + width];
          block[i] = a + b;
          block[i + width] = a - b;
        }
      }
    }
  }
  return z;
}

}  // namespace fastgen
