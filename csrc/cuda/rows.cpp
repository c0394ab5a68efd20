// Rows on a device: whose memory they are in, and what is made of them.
#include "cuda/rows.hpp"

#include <cstddef>
#include <utility>

#include "common/check.hpp"
#include "cuda/convert.hpp"
#include "cuda/events.hpp"

namespace fastgen::cuda {
namespace {

constexpr std::int64_t kCopyBytes = std::int64_t{64} << 20;  // rows gathered for the host at a time

bool readable(const Matrix& matrix) {
  const bool element = matrix.element <= Element::float64;
  return element && (matrix.d == 1 || matrix.column_stride == element_size(matrix.element));
}

RowView side_by_side(void* data, std::int64_t n, std::int64_t d, DType dtype) {
  return {static_cast<const unsigned char*>(data), dtype, n, d, d * item_size(dtype)};
}

std::shared_ptr<DeviceMemory> memory_for(std::int64_t n, std::int64_t d, DType dtype,
                                         const Stream& stream) {
  return std::make_shared<DeviceMemory>(n * d * item_size(dtype), stream, "a copy of the rows");
}

}  // namespace

Rows::Rows(const RowView& view, const Stream& stream, std::shared_ptr<DeviceMemory> memory)
    : view_(view), stream_(stream), memory_(std::move(memory)) {}

Rows::Rows(std::int64_t n, std::int64_t d, DType dtype, const Stream& stream)
    : view_{}, stream_(stream), memory_(memory_for(n, d, dtype, stream)) {
  view_ = cuda::side_by_side(memory_->data(), n, d, dtype);
}

Rows::Rows(const Matrix& matrix, const Stream& stream) : view_{}, stream_(stream) {
  if (readable(matrix)) {
    view_ = {matrix.data, dtype_of(matrix.element), matrix.n, matrix.d, matrix.row_stride};
    return;
  }
  const DType dtype = dtype_of(matrix.element);
  memory_ = memory_for(matrix.n, matrix.d, dtype, stream);
  view_ = cuda::side_by_side(memory_->data(), matrix.n, matrix.d, dtype);
  convert(matrix, nullptr, matrix.n, memory_->data(), dtype, stream);
}

Matrix Rows::matrix() const {
  return {view_.data, element_of(view_.dtype), view_.n,
          view_.d,    view_.row_stride,        item_size(view_.dtype)};
}

bool Rows::side_by_side() const { return view_.row_stride == view_.row_bytes(); }

Rows Rows::part(std::int64_t begin, std::int64_t end) const {
  FASTGEN_CHECK(0 <= begin && begin <= end && end <= view_.n);
  RowView view = view_;
  view.data += begin * view.row_stride;
  view.n = end - begin;
  return Rows(view, stream_, memory_);
}

Rows Rows::picked(const std::int64_t* indices, std::int64_t count) const {
  for (std::int64_t i = 0; i < count; ++i) FASTGEN_CHECK(0 <= indices[i] && indices[i] < view_.n);
  const DeviceBuffer<std::int64_t> places(count, stream_, "indices of rows");
  upload(places.data(), indices, places.bytes(), stream_);
  Rows rows(count, view_.d, view_.dtype, stream_);
  convert(matrix(), places.data(), count, rows.data(), view_.dtype, stream_);
  return rows;
}

Rows Rows::widened(DType dtype) const {
  FASTGEN_CHECK(item_size(dtype) >= item_size(view_.dtype));
  if (dtype == view_.dtype) return *this;
  Rows rows(view_.n, view_.d, dtype, stream_);
  convert(matrix(), nullptr, view_.n, rows.data(), dtype, stream_);
  return rows;
}

Rows Rows::on(const Stream& stream) const {
  FASTGEN_CHECK(stream.device() == stream_.device());
  wait_for(stream, stream_);
  return Rows(view_, stream, memory_);
}

Rows Rows::copied(const Stream& stream) const {
  Rows source = *this;
  if (!side_by_side()) {
    source = Rows(view_.n, view_.d, view_.dtype, stream_);
    convert(matrix(), nullptr, view_.n, source.data(), view_.dtype, stream_);
  }
  Rows rows(view_.n, view_.d, view_.dtype, stream);
  wait_for(stream, stream_);
  {
    const CurrentDevice current(stream.device());
    check(cudaMemcpyPeerAsync(rows.data(), stream.device(), source.view().data, stream_.device(),
                              static_cast<std::size_t>(rows.memory_->bytes()), stream.handle()),
          "cudaMemcpyPeerAsync");
  }
  wait_for(stream_, stream);  // before `source`, or the caller's array, may be freed
  return rows;
}

BadRows Rows::first_bad(double limit) const {
  const DeviceBuffer<unsigned long long> first(2, stream_, "the first bad rows");
  fill_bytes(first.data(), 0xff, first.bytes(), stream_);
  find_bad_rows(view_, limit, first.data(), stream_);
  unsigned long long found[2];
  download(found, first.data(), first.bytes(), stream_);
  BadRows bad;
  if (found[0] < static_cast<unsigned long long>(view_.n)) {
    bad.not_finite = static_cast<std::int64_t>(found[0]);
  }
  if (found[1] < static_cast<unsigned long long>(view_.n)) {
    bad.too_large = static_cast<std::int64_t>(found[1]);
  }
  return bad;
}

void Rows::to_host(std::int64_t begin, std::int64_t end, void* host) const {
  FASTGEN_CHECK(0 <= begin && begin <= end && end <= view_.n);
  const std::int64_t row = view_.row_bytes();
  unsigned char* to = static_cast<unsigned char*>(host);
  if (side_by_side()) {
    download(to, view_.data + begin * view_.row_stride, (end - begin) * row, stream_);
    return;
  }
  const std::int64_t step = row < kCopyBytes ? kCopyBytes / row : 1;
  for (std::int64_t start = begin; start < end; start += step) {
    const std::int64_t count = start + step < end ? step : end - start;
    const Rows some(count, view_.d, view_.dtype, stream_);
    convert(part(start, start + count).matrix(), nullptr, count, some.data(), view_.dtype, stream_);
    download(to + (start - begin) * row, some.data(), count * row, stream_);
  }
}

int device_of(const void* pointer) {
  // Asked of a device that is in use: device memory belongs to a context that is there.
  int used = current_device(), count = 0;
  if (!has_context(used)) {
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    for (used = 0; used < count && !has_context(used);) ++used;
    if (used == count) return -1;
  }
  const CurrentDevice current(used);
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, pointer), "cudaPointerGetAttributes");
  const bool device =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return device ? attributes.device : -1;
}

std::string why_no_device() {
  if (!devices().empty()) return "";
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) return "the NVIDIA driver is missing or too old";
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    return "the NVIDIA driver shows no GPU";
  }
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return "no GPU here has compute capability 8.0 or newer";
}

}  // namespace fastgen::cuda
