// Rows beside rows, before anything is known about them: which are identical, how far a sample's rows
// lie apart, and which cluster each row belongs to.
#pragma once

#include <cstdint>
#include <vector>

#include "common/groups.hpp"
#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// Sets same[i] to whether the rows of suspects[i] are equal. One synchronisation.
void compare_suspects(const RowView& rows, const std::vector<Suspect>& suspects,
                      std::vector<char>& same, const Stream& stream);

// Listed rows as float64, [list, d], on the host. One synchronisation.
std::vector<double> gather_rows(const RowView& rows, const std::vector<std::int32_t>& list,
                                const Stream& stream);

// sq[s * list + t], t < s: canonical squared distances between listed rows; sq[s * list + s]: from
// `mean` (on the host). On the host. One synchronisation.
std::vector<double> sample_distances(const RowView& rows, const std::vector<std::int32_t>& list,
                                     const std::vector<double>& mean, const Stream& stream);

// For every listed row the nearest cluster within reach, -1: none (common/clusters.hpp); on the host.
// Distances are float32 in units of 1 / `unit`, about `mean`. One synchronisation.
std::vector<std::int8_t> assign_clusters(const RowView& rows, const std::vector<std::int32_t>& list,
                                         const std::vector<double>& mean,
                                         const std::vector<std::vector<double>>& centres,
                                         double unit, const Stream& stream);

}  // namespace fastgen::cuda
