// Tight clusters of rows on the CPU (common/clusters.hpp says what they are for).
#pragma once

#include <cstdint>
#include <vector>

#include "common/rows.hpp"
#include "cpu/kernels.hpp"

namespace fastgen::cpu {

// Centres [clusters][d] of tight clusters, none when the rows have none worth a part of their own.
// `rows` are the distinct rows to look at; `centre` their mean.
std::vector<std::vector<double>> tight_cluster_centres(const RowView& view, const Kernels& kernels,
                                                       const std::vector<std::int32_t>& rows,
                                                       const std::vector<double>& centre);

// The nearest centre within reach of a row, as an index, or -1. `centre` is the mean of all rows.
int nearest_cluster(const Kernels& kernels, const double* row, std::int64_t d,
                    const std::vector<std::vector<double>>& clusters,
                    const std::vector<double>& centre);

}  // namespace fastgen::cpu
