// Polynomials of far_field.hpp at many points. Included once per target_*.cpp, inside its own namespace,
// after log_sums-inl.hpp.

template <class Real, int kFeatures>
void far_sums_of(const FarSums& task) {
  using V = Vector<Real>;
  constexpr int kCount = Vectors<Real>::kCount, kWide = 4;  // vectors at once hide latencies
  const Real* points = static_cast<const Real*>(task.points);
  const Decay<Real> decay(kHalfLog2E);  // exp(-|u|^2 / 2) as a power of two
  const V scale = V{} + static_cast<Real>(task.scale);
  for (int g = 0; g < task.group_count; ++g) {
    const FarGroup& group = task.groups[g];
    const Real* coefficients = static_cast<const Real*>(group.coefficients);
    const V c = V{} + static_cast<Real>(group.centre[0]);
    const V e = V{} + static_cast<Real>(group.centre[1]);
    for (int first = 0; first < task.count; first += kWide * kCount) {
      V u[kWide], v[kWide], value[kWide], factor[kWide];
#pragma GCC unroll 4
      for (int k = 0; k < kWide; ++k) {
        load_lanes(points + (kFeatures - 1) * kPoints + first + k * kCount, v[k]);
        v[k] = (v[k] - (kFeatures == 2 ? e : c)) * scale;
        V square = v[k] * v[k];
        if constexpr (kFeatures == 2) {
          load_lanes(points + first + k * kCount, u[k]);
          u[k] = (u[k] - c) * scale;
          fuse(u[k], u[k], square, square);
        }
        decay(square, factor[k]);
        value[k] = V{};
      }
      for (int i = kFeatures == 2 ? group.degree : 0; i >= 0; --i) {
        // The polynomial in v that belongs to u^i.
        const Real* row = coefficients + far_term(i, 0);
        V inner[kWide];
#pragma GCC unroll 4
        for (int k = 0; k < kWide; ++k) repeat(row[group.degree - i], inner[k]);
        for (int j = group.degree - i - 1; j >= 0; --j) {
          V term;
          repeat(row[j], term);
#pragma GCC unroll 4
          for (int k = 0; k < kWide; ++k) fuse(inner[k], v[k], term, inner[k]);
        }
#pragma GCC unroll 4
        for (int k = 0; k < kWide; ++k) {
          if constexpr (kFeatures == 2) {
            fuse(value[k], u[k], inner[k], value[k]);
          } else {
            value[k] = inner[k];
          }
        }
      }
      alignas(64) Real results[kWide * kCount];
#pragma GCC unroll 4
      for (int k = 0; k < kWide; ++k) store_lanes(results + k * kCount, V(value[k] * factor[k]));
      for (int k = 0; k < kWide * kCount; ++k) {
        task.sums[first + k] += static_cast<double>(results[k]);
      }
    }
  }
}

template <class Real>
void far_sums(const FarSums* task) {
  return task->d == 1 ? far_sums_of<Real, 1>(*task) : far_sums_of<Real, 2>(*task);
}
