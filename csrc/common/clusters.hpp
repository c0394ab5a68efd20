// Finds tight clusters among a sample of rows. Rows of one cluster are prepared around a centre of their
// own: int8 then resolves the cluster's spread, not its distance from the rest (the ladder's middle rung).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace fastgen {

constexpr int kMaxClusters = 63;
// A row belongs to the nearest centre that is closer than this share of its squared distance from the
// mean of all rows.
constexpr double kSqClusterReach = 0.45 * 0.45;

// Rows to look at among `n` distinct ones: row s n / samples for every s below it. 0: too few to tell.
std::int64_t cluster_samples(std::int64_t n);

// Samples that belong together, largest cluster first; none where no cluster is worth a part of its
// own. `sq_norm` are squared distances from the mean of all rows, `sq_distance(s, t)`, s < t, those
// between samples.
std::vector<std::vector<int>> tight_clusters(const std::vector<double>& sq_norm,
                                             const std::function<double(int, int)>& sq_distance);

// Mean of the samples of one cluster; `sample(s)` has d values.
std::vector<double> cluster_centre(const std::vector<int>& members, std::int64_t d,
                                   const std::function<const double*(int)>& sample);

}  // namespace fastgen
