// Finds tight clusters in a sample of rows. Rows of one cluster are prepared around a centre of their
// own: int8 then resolves the cluster's spread, not its distance from the rest (the ladder's middle rung).
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

// The centre within reach of a row, as an index, or -1: closer than 0.45 of the row's own distance
// from `centre`.
int nearest_cluster(const Kernels& kernels, const double* row, std::int64_t d,
                    const std::vector<std::vector<double>>& clusters,
                    const std::vector<double>& centre);

}  // namespace fastgen::cpu
