// The memory layout of DLPack's exchange structs (specification version 0.8, unversioned capsule
// "dltensor"), declared from its documentation; only what a CPU import reads.
#pragma once

#include <cstdint>

namespace fastgen {

constexpr std::int32_t kDLCPU = 1;
constexpr std::uint8_t kDLBfloat = 4;

struct DLDevice {
  std::int32_t device_type;
  std::int32_t device_id;
};

struct DLDataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: C-contiguous
  std::uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};

}  // namespace fastgen
