// What a DLPack capsule holds. The capsule keeps its name, so that its own destructor lets the tensor
// go: whoever reads the tensor holds the capsule, and nothing is ever deleted twice or by us.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "common/check.hpp"
#include "common/dlpack.hpp"

namespace fastgen::bindings {

namespace py = pybind11;

inline const DLTensor& tensor_of(const py::capsule& capsule) {
  const std::string name = capsule.name() == nullptr ? "" : capsule.name();
  if (name == "dltensor") return capsule.get_pointer<DLManagedTensor>()->tensor;
  FASTGEN_CHECK(name == "dltensor_versioned");
  const auto* managed = capsule.get_pointer<DLManagedTensorVersioned>();
  if (managed->version.major != 1) {
    throw py::buffer_error("a DLPack tensor of version " + std::to_string(managed->version.major));
  }
  return managed->tensor;
}

}  // namespace fastgen::bindings
