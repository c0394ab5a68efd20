#include "cpu/parts.hpp"

#include <algorithm>
#include <numeric>

namespace fastgen::cpu {

namespace {

// Rows closer than 0.3 of their norm are linked. Clusters of 2000 normal rows at distance 0.16 of the norm
// cost 1,400 rechecks a row around the common mean and 13 around their own.
constexpr double kSqLink = 0.3 * 0.3;
constexpr double kSqReach = 0.45 * 0.45;
constexpr std::size_t kMaxClusters = 63;

int find_root(std::vector<int>& parent, int i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

}  // namespace

std::vector<std::vector<double>> tight_cluster_centres(const RowView& view, const Kernels& kernels,
                                                       const std::vector<std::int32_t>& rows,
                                                       const std::vector<double>& centre) {
  const std::int64_t n = static_cast<std::int64_t>(rows.size()), d = view.d;
  std::vector<std::vector<double>> centres;
  // Below 16 sampled rows nothing can be told; of a cluster of 4 % 128 hold 5 on average.
  const std::int64_t samples = std::min<std::int64_t>(n / 16, 128);
  if (samples < 16) return centres;

  std::vector<std::vector<double>> sample(samples, std::vector<double>(d));
  std::vector<double> sq_norm(samples);
  for (std::int64_t s = 0; s < samples; ++s) {
    kernels.to_double(view.row(rows[s * n / samples]), view.dtype, d, sample[s].data());
    sq_norm[s] = kernels.sq_distance(sample[s].data(), centre.data(), DType::float64, d);
  }
  std::vector<int> parent(samples);
  std::iota(parent.begin(), parent.end(), 0);
  for (std::int64_t s = 0; s < samples; ++s) {
    for (std::int64_t t = s + 1; t < samples; ++t) {
      const double reach = kSqLink * std::min(sq_norm[s], sq_norm[t]);
      if (find_root(parent, s) == find_root(parent, t)) continue;
      const double sq = kernels.sq_distance(sample[s].data(), sample[t].data(), DType::float64, d);
      if (sq < reach) parent[find_root(parent, t)] = find_root(parent, s);
    }
  }
  std::vector<std::vector<int>> cluster(samples);
  for (int s = 0; s < samples; ++s) cluster[find_root(parent, s)].push_back(s);
  std::sort(cluster.begin(), cluster.end(),
            [](const auto& a, const auto& b) { return a.size() > b.size(); });
  const std::size_t smallest = std::max<std::size_t>(3, samples / 50);
  for (const std::vector<int>& members : cluster) {
    if (members.size() < smallest || centres.size() == kMaxClusters) break;
    std::vector<double> mean(d, 0.0);
    for (const int s : members) {
      for (std::int64_t i = 0; i < d; ++i)
        mean[i] += sample[s][i] / static_cast<double>(members.size());
    }
    centres.push_back(std::move(mean));
  }
  return centres;
}

int nearest_cluster(const Kernels& kernels, const double* row, std::int64_t d,
                    const std::vector<std::vector<double>>& clusters,
                    const std::vector<double>& centre) {
  double best = kSqReach * kernels.sq_distance(row, centre.data(), DType::float64, d);
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
