// A set of rows as an engine on a device asks for it: the rows are there, or they stay on the host and parts of
// them are uploaded when they are asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/rows.hpp"
#include "cuda/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

class RowSource {
 public:
  RowSource() = default;
  // Rows in the memory of the stream's device, or (`on_host`) in the host's; they must outlive this object.
  RowSource(const RowView& rows, bool on_host, const Stream& stream);

  const RowView& view() const { return rows_; }
  bool on_host() const { return stream_ != nullptr; }
  // How many rows to ask for at a time: a multiple of `step` within `bytes`, but at least `step`; all of
  // them where they are on the device.
  std::int64_t part_rows(std::int64_t bytes, std::int64_t step) const;

  // Rows [begin, end) on the device, for work on the stream; valid until the next call of this or drop().
  RowView part(std::int64_t begin, std::int64_t end);
  void drop() { part_.reset(); }
  // Rows of the host in any order, into memory of their own.
  Rows picked(std::vector<std::int32_t> rows) const;

 private:
  RowView rows_{};
  std::shared_ptr<Stream> stream_;  // null: the rows are there
  std::shared_ptr<Rows> part_;
};

}  // namespace fastgen::cuda
