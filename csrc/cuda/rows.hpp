// Feature rows in the memory of a device, in a layout that the kernels read: from the caller's memory
// in place, or converted, picked or uploaded into memory of our own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// What the elements of a caller's matrix may be. The first three are read in place; bfloat16 becomes
// float32, integers become float64 (as NumPy does it, rounded to nearest).
enum class Element : int {
  float16,
  float32,
  float64,
  bfloat16,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64
};

constexpr std::int64_t element_size(Element element) {
  switch (element) {
    case Element::int8:
    case Element::uint8:
      return 1;
    case Element::float16:
    case Element::bfloat16:
    case Element::int16:
    case Element::uint16:
      return 2;
    case Element::float32:
    case Element::int32:
    case Element::uint32:
      return 4;
    default:
      return 8;
  }
}

constexpr DType dtype_of(Element element) {
  return element == Element::float16                                   ? DType::float16
         : element == Element::float32 || element == Element::bfloat16 ? DType::float32
                                                                       : DType::float64;
}

constexpr Element element_of(DType dtype) {
  return dtype == DType::float16   ? Element::float16
         : dtype == DType::float32 ? Element::float32
                                   : Element::float64;
}

// A caller's matrix in device memory; strides in bytes, of any sign. Pointer and strides are multiples
// of the element's size.
struct Matrix {
  const unsigned char* data;
  Element element;
  std::int64_t n, d;
  std::int64_t row_stride, column_stride;
};

// First rows that cannot be used; -1 for none.
struct BadRows {
  std::int64_t not_finite = -1, too_large = -1;
};

// All work is enqueued on the stream, in whose device's memory the rows are. Copies share memory of our
// own; memory of the caller's has to be kept alive by the caller.
class Rows {
 public:
  // In place where the kernels can read it, else converted.
  Rows(const Matrix& matrix, const Stream& stream);
  // Memory of our own that somebody fills: rows side by side, not set yet.
  Rows(std::int64_t n, std::int64_t d, DType dtype, const Stream& stream);

  const RowView& view() const { return view_; }
  const Stream& stream() const { return stream_; }
  bool in_place() const { return memory_ == nullptr; }
  // Device memory held here.
  std::int64_t nbytes() const { return memory_ == nullptr ? 0 : memory_->bytes(); }
  unsigned char* data() const { return static_cast<unsigned char*>(memory_->data()); }

  // Rows [begin, end), without a copy.
  Rows part(std::int64_t begin, std::int64_t end) const;
  // The rows of these indices (on the host), in their order.
  Rows picked(const std::int64_t* indices, std::int64_t count) const;
  // In another dtype, the wider one: every number is kept.
  Rows widened(DType dtype) const;
  // The same memory for work on another stream of the device, which waits for this one's work so far.
  Rows on(const Stream& stream) const;
  // A copy on the device of another stream, which waits for what this one has been given so far.
  Rows copied(const Stream& stream) const;

  // The first row with a number that is not finite, and the first with one above `limit` in magnitude.
  BadRows first_bad(double limit) const;
  // Copies rows [begin, end) to host memory, side by side.
  void to_host(std::int64_t begin, std::int64_t end, void* host) const;

 private:
  Rows(const RowView& view, const Stream& stream, std::shared_ptr<DeviceMemory> memory);
  Matrix matrix() const;
  bool side_by_side() const;

  RowView view_;
  Stream stream_;
  std::shared_ptr<DeviceMemory> memory_;
};

// The device whose memory this address lies in; -1 if it is no device's.
int device_of(const void* pointer);

// Why the machine has no device that the kernels can run on; empty where there is one.
std::string why_no_device();

}  // namespace fastgen::cuda
