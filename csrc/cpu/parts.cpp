#include "cpu/parts.hpp"

#include "common/clusters.hpp"

namespace fastgen::cpu {

std::vector<std::vector<double>> tight_cluster_centres(const RowView& view, const Kernels& kernels,
                                                       const std::vector<std::int32_t>& rows,
                                                       const std::vector<double>& centre) {
  const std::int64_t n = static_cast<std::int64_t>(rows.size()), d = view.d;
  const std::int64_t samples = cluster_samples(n);
  std::vector<std::vector<double>> centres;
  if (samples == 0) return centres;

  std::vector<std::vector<double>> sample(samples, std::vector<double>(d));
  std::vector<double> sq_norm(samples);
  for (std::int64_t s = 0; s < samples; ++s) {
    kernels.to_double(view.row(rows[s * n / samples]), view.dtype, d, sample[s].data());
    sq_norm[s] = kernels.sq_distance(sample[s].data(), centre.data(), DType::float64, d);
  }
  const auto clusters = tight_clusters(sq_norm, [&](int s, int t) {
    return kernels.sq_distance(sample[s].data(), sample[t].data(), DType::float64, d);
  });
  for (const std::vector<int>& members : clusters) {
    centres.push_back(cluster_centre(members, d, [&](int s) { return sample[s].data(); }));
  }
  return centres;
}

int nearest_cluster(const Kernels& kernels, const double* row, std::int64_t d,
                    const std::vector<std::vector<double>>& clusters,
                    const std::vector<double>& centre) {
  double best = kSqClusterReach * kernels.sq_distance(row, centre.data(), DType::float64, d);
  int nearest = -1;
  for (std::size_t c = 0; c < clusters.size(); ++c) {
    const double sq = kernels.sq_distance(row, clusters[c].data(), DType::float64, d);
    if (sq < best) {
      best = sq;
      nearest = static_cast<int>(c);
    }
  }
  return nearest;
}

}  // namespace fastgen::cpu
