// Aligned buffers of plain values.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace fastgen {

template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable<T>::value, "plain values only");

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::int64_t size) { reset(size); }
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() { std::free(data_); }

  void reset(std::int64_t size) {
    reset_unset(size);
    std::memset(static_cast<void*>(data_), 0, rounded(size_));
  }

  // Without zeros: the pages are touched first by the thread that fills them.
  void reset_unset(std::int64_t size) {
    std::free(data_);
    data_ = nullptr;
    size_ = 0;
    data_ = static_cast<T*>(std::aligned_alloc(64, rounded(size)));
    if (!data_) throw std::bad_alloc();
    size_ = size;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return size_; }
  std::int64_t bytes() const { return size_ * static_cast<std::int64_t>(sizeof(T)); }

 private:
  static std::size_t rounded(std::int64_t size) {
    return (static_cast<std::size_t>(size > 0 ? size : 1) * sizeof(T) + 63) / 64 * 64;
  }
  void swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace fastgen
