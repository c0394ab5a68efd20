// Host rows copied to a device through two page-locked buffers, a piece at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/rows.hpp"
#include "cuda/events.hpp"
#include "cuda/rows.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

class Upload {
 public:
  // `host` rows have any stride and must outlive this object. The rows are made for `stream`; the copies
  // run on `copies`, which may be the same.
  Upload(const RowView& host, const Stream& stream, const Stream& copies);
  // Of some rows, in the order of these indices.
  Upload(const RowView& host, std::vector<std::int32_t> picked, const Stream& stream,
         const Stream& copies);
  ~Upload();

  // Works for about `seconds`; the fraction done, 1 when the host's rows are not needed any more.
  double advance(double seconds);
  const Rows& rows() const;

 private:
  struct Buffer {
    PinnedMemory memory;
    Event copied;  // on the device, so that the memory may be overwritten
    Buffer(std::int64_t bytes, int device) : memory(bytes, device), copied(device) {}
  };

  void begin(const Stream& stream);

  RowView host_;
  std::vector<std::int32_t> picked_;  // empty: all rows
  Stream copies_;
  Rows rows_;
  std::int64_t count_;     // rows to be copied
  std::int64_t step_ = 0;  // of a piece
  std::int64_t next_ = 0;
  int turn_ = 0;
  bool done_ = false;
  std::unique_ptr<Buffer> buffers_[2];
};

}  // namespace fastgen::cuda
