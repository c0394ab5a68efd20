// While the device copies from one buffer the host fills the other; each is filled again only when its
// copy is over. A copy of 8 MB takes 0.3 ms at 25 GB/s, far longer than it takes to start. One thread fills
// 8 to 15 GB/s, so several do (estimates all).
#include "cuda/upload.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.hpp"

namespace fastgen::cuda {
namespace {

// Rows [begin, end), or those that `picked` has there.
void gather(const RowView& rows, const std::int32_t* picked, std::int64_t begin, std::int64_t end,
            unsigned char* to) {
  const auto size = static_cast<std::size_t>(rows.row_bytes());
  if (picked) {
    for (std::int64_t i = begin; i < end; ++i, to += size) {
      std::memcpy(to, rows.row(picked[i]), size);
    }
    return;
  }
  if (rows.row_stride == rows.row_bytes()) {
    std::memcpy(to, rows.row(begin), size * static_cast<std::size_t>(end - begin));
    return;
  }
  for (std::int64_t i = begin; i < end; ++i, to += size) std::memcpy(to, rows.row(i), size);
}

constexpr std::int64_t kMostThreads = 4;
constexpr std::int64_t kThreadBytes = std::int64_t{1}
                                      << 20;  // below that a thread takes longer to start

// Those of FASTGEN_NUM_THREADS, or else of the CPUs that this process may run on.
std::int64_t most_threads() {
  const char* const asked = std::getenv("FASTGEN_NUM_THREADS");
  const long given = asked ? std::strtol(asked, nullptr, 10) : 0;
  const long there = given > 0 ? given : static_cast<long>(std::thread::hardware_concurrency());
  return std::min(std::max<std::int64_t>(there, 1), kMostThreads);
}

// `gather` by several threads, which have ended on return.
void gather_together(const RowView& rows, const std::int32_t* picked, std::int64_t begin,
                     std::int64_t end, unsigned char* to) {
  const std::int64_t count = end - begin,
                     parts = std::max<std::int64_t>(
                         1, std::min(
                                {most_threads(), count, count * rows.row_bytes() / kThreadBytes}));
  const auto part = [&](std::int64_t index) {
    const std::int64_t first = count * index / parts, last = count * (index + 1) / parts;
    gather(rows, picked, begin + first, begin + last, to + first * rows.row_bytes());
  };
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(parts));
  std::int64_t left = 1;  // first part that this thread has to do
  try {
    for (; left < parts; ++left) others.emplace_back(part, left);
  } catch (const std::system_error&) {  // no more threads to be had
  }
  part(0);
  for (; left < parts; ++left) part(left);
  for (std::thread& other : others) other.join();
}

}  // namespace

Upload::Upload(const RowView& host, const Stream& stream, const Stream& copies)
    : host_(host), copies_(copies), rows_(host.n, host.d, host.dtype, stream), count_(host.n) {
  begin(stream);
}

Upload::Upload(const RowView& host, std::vector<std::int32_t> picked, const Stream& stream,
               const Stream& copies)
    : host_(host),
      picked_(std::move(picked)),
      copies_(copies),
      rows_(static_cast<std::int64_t>(picked_.size()), host.d, host.dtype, stream),
      count_(static_cast<std::int64_t>(picked_.size())) {
  begin(stream);
}

void Upload::begin(const Stream& stream) {
  FASTGEN_CHECK(count_ > 0 && host_.d > 0 && stream.device() == copies_.device());
  step_ = std::min(count_, std::max<std::int64_t>(1, kPinnedBytes / host_.row_bytes()));
  const int pieces = count_ > step_ ? 2 : 1;
  for (int i = 0; i < pieces; ++i) {
    buffers_[i] = std::make_unique<Buffer>(step_ * host_.row_bytes(), stream.device());
  }
  wait_for(copies_, stream);  // which the memory belongs to from here on
}

Upload::~Upload() {
  if (done_) return;
  try {  // dropped half-way: the memory must not be freed under a copy
    copies_.synchronize();
  } catch (const std::exception&) {
  }
}

double Upload::advance(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  while (next_ < count_) {
    Buffer& buffer = *buffers_[turn_];
    buffer.copied.synchronize();
    const std::int64_t end = std::min(count_, next_ + step_);
    gather_together(host_, picked_.empty() ? nullptr : picked_.data(), next_, end,
                    buffer.memory.data());
    {
      const CurrentDevice current(copies_.device());
      check(cudaMemcpyAsync(rows_.data() + next_ * host_.row_bytes(), buffer.memory.data(),
                            static_cast<std::size_t>((end - next_) * host_.row_bytes()),
                            cudaMemcpyHostToDevice, copies_.handle()),
            "cudaMemcpyAsync");
    }
    buffer.copied.record(copies_);
    next_ = end;
    if (buffers_[1]) turn_ = 1 - turn_;
    if (next_ < count_ && Clock::now() >= deadline) {
      return static_cast<double>(next_) / static_cast<double>(count_);
    }
  }
  if (!done_) {
    for (auto& buffer : buffers_) {
      if (buffer) buffer->copied.synchronize();  // so that no stream has to wait for the copies
      buffer.reset();
    }
    done_ = true;
  }
  return 1.0;
}

const Rows& Upload::rows() const {
  FASTGEN_CHECK(done_);
  return rows_;
}

}  // namespace fastgen::cuda
