#include "cuda/row_source.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.hpp"
#include "cuda/upload.hpp"

namespace fastgen::cuda {
namespace {

Rows finished(Upload& upload) {
  upload.advance(std::numeric_limits<double>::infinity());
  return upload.rows();
}

}  // namespace

RowSource::RowSource(const RowView& rows, bool on_host, const Stream& stream)
    : rows_(rows), stream_(on_host ? std::make_shared<Stream>(stream) : nullptr) {}

std::int64_t RowSource::part_rows(std::int64_t bytes, std::int64_t step) const {
  if (!on_host()) return rows_.n;
  return std::min(rows_.n, std::max<std::int64_t>(1, bytes / rows_.row_bytes() / step) * step);
}

RowView RowSource::part(std::int64_t begin, std::int64_t end) {
  FASTGEN_CHECK(0 <= begin && begin < end && end <= rows_.n);
  RowView view = rows_;
  view.data += begin * rows_.row_stride;
  view.n = end - begin;
  if (!on_host()) return view;
  drop();  // before the next one is allocated
  Upload upload(view, *stream_, *stream_);
  part_ = std::make_shared<Rows>(finished(upload));
  return part_->view();
}

Rows RowSource::picked(std::vector<std::int32_t> rows) const {
  FASTGEN_CHECK(on_host() && !rows.empty());
  Upload upload(rows_, std::move(rows), *stream_, *stream_);
  return finished(upload);
}

}  // namespace fastgen::cuda
