// Devices, streams, and rows on a device: from a pointer, or uploaded from a NumPy array.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/cuda/rows.hpp"
#include "bindings/dlpack.hpp"
#include "cuda/events.hpp"
#include "cuda/runtime.hpp"
#include "cuda/upload.hpp"

namespace fastgen::bindings {

namespace {

constexpr std::pair<const char*, cuda::Element> kElements[] = {
    {"float16", cuda::Element::float16}, {"float32", cuda::Element::float32},
    {"float64", cuda::Element::float64}, {"bfloat16", cuda::Element::bfloat16},
    {"int8", cuda::Element::int8},       {"int16", cuda::Element::int16},
    {"int32", cuda::Element::int32},     {"int64", cuda::Element::int64},
    {"uint8", cuda::Element::uint8},     {"uint16", cuda::Element::uint16},
    {"uint32", cuda::Element::uint32},   {"uint64", cuda::Element::uint64}};

cuda::Element parse_element(const std::string& name) {
  for (const auto& [known, element] : kElements) {
    if (name == known) return element;
  }
  FASTGEN_CHECK(!"a dtype that rows may have");
  return cuda::Element::float64;
}

const char* name_of(DType dtype) {
  return dtype == DType::float16 ? "float16" : dtype == DType::float32 ? "float32" : "float64";
}

py::list devices() {
  py::list found;
  for (const cuda::DeviceInfo& device : cuda::devices()) {
    py::dict one;
    one["index"] = device.index;
    one["name"] = device.name;
    one["major"] = device.major;
    one["minor"] = device.minor;
    one["memory"] = device.memory;
    one["multiprocessors"] = device.multiprocessors;
    found.append(one);
  }
  return found;
}

std::string dtype_name(const DLDataType& dtype) {
  const std::string bits = std::to_string(dtype.bits);
  if (dtype.lanes != 1) return "vectors";
  switch (dtype.code) {
    case kDLInt:
      return "int" + bits;
    case kDLUInt:
      return "uint" + bits;
    case kDLFloat:
      return "float" + bits;
    case kDLBfloat:
      return "bfloat" + bits;
    case kDLComplex:
      return "complex" + bits;
    case kDLBool:
      return "bool";
    default:
      return "DLPack type " + std::to_string(dtype.code);
  }
}

// What Python checks before rows are made of it; strides in bytes.
py::dict read_capsule(const py::capsule& capsule) {
  const DLTensor& tensor = tensor_of(capsule);
  const std::int64_t size = (tensor.dtype.bits + 7) / 8;
  py::tuple shape(tensor.ndim), strides(tensor.ndim);
  std::int64_t step = size;
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    shape[static_cast<std::size_t>(axis)] = tensor.shape[axis];
    const std::int64_t stride = tensor.strides ? tensor.strides[axis] * size : step;
    strides[static_cast<std::size_t>(axis)] = stride;
    step *= tensor.shape[axis];
  }
  py::dict found;
  found["pointer"] = reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset;
  found["shape"] = shape;
  found["strides"] = strides;
  found["dtype"] = dtype_name(tensor.dtype);
  found["device"] = py::make_tuple(tensor.device.device_type, tensor.device.device_id);
  return found;
}

using Pair = std::array<std::int64_t, 2>;

DeviceRows rows_at(const cuda::Stream& stream, std::uintptr_t pointer, const Pair& shape,
                   const Pair& strides, const std::string& dtype, py::object owner) {
  const cuda::Element element = parse_element(dtype);
  const auto size = static_cast<std::int64_t>(cuda::element_size(element));
  FASTGEN_CHECK(pointer != 0 && shape[0] > 0 && shape[1] > 0);
  FASTGEN_CHECK(static_cast<std::int64_t>(pointer % static_cast<std::uintptr_t>(size)) == 0);
  FASTGEN_CHECK(strides[0] % size == 0 && strides[1] % size == 0);
  const cuda::Matrix matrix{reinterpret_cast<const unsigned char*>(pointer),
                            element,
                            shape[0],
                            shape[1],
                            strides[0],
                            strides[1]};
  return {cuda::Rows(matrix, stream), std::move(owner)};
}

// Keeps the NumPy array while its rows are copied.
class UploadEngine {
 public:
  UploadEngine(py::array array, const cuda::Stream& stream, const cuda::Stream& copies)
      : array_(std::move(array)), upload_(row_view(array_), stream, copies) {}

  double advance(double seconds) { return upload_.advance(seconds); }
  DeviceRows rows() const { return {upload_.rows(), py::none()}; }

 private:
  py::array array_;
  cuda::Upload upload_;
};

DeviceRows from_host(const py::array& array, const cuda::Stream& stream) {
  UploadEngine engine(array, stream, stream);
  {
    const py::gil_scoped_release release;  // `engine` keeps the array
    engine.advance(std::numeric_limits<double>::infinity());
  }
  return engine.rows();
}

py::array to_host(const DeviceRows& self, std::int64_t start, std::optional<std::int64_t> stop) {
  const RowView& view = self.view();
  const std::int64_t end = stop.value_or(view.n);
  FASTGEN_CHECK(0 <= start && start <= end && end <= view.n);
  py::array out(py::dtype(name_of(view.dtype)), {end - start, view.d});
  void* values = out.mutable_data();
  const py::gil_scoped_release release;  // `out` is ours, the caller holds the rows
  self.rows().to_host(start, end, values);
  return out;
}

// A Python object that C++ lets go, from whatever thread.
std::shared_ptr<void> kept(py::object object) {
  if (object.is_none()) return nullptr;
  return {object.release().ptr(), [](void* pointer) {
            if (!Py_IsInitialized()) return;
            const py::gil_scoped_acquire acquired;
            Py_DECREF(static_cast<PyObject*>(pointer));
          }};
}

// For `with`: makes a device current.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : device_(device) {}
  void enter() { current_ = std::make_unique<cuda::CurrentDevice>(device_); }
  void exit(const py::args&) { current_.reset(); }

 private:
  int device_;
  std::unique_ptr<cuda::CurrentDevice> current_;
};

void register_streams(py::module_& m) {
  py::class_<CurrentDevice>(m, "CurrentDevice", py::module_local())
      .def(py::init<int>(), py::arg("device"))
      .def("__enter__", &CurrentDevice::enter)
      .def("__exit__", &CurrentDevice::exit);
  py::class_<cuda::Stream>(m, "Stream", py::module_local())
      .def(py::init([](int device, std::optional<std::uintptr_t> handle, py::object owner) {
             return handle ? cuda::Stream(device, *handle, kept(std::move(owner)))
                           : cuda::Stream::make(device);
           }),
           py::arg("device"), py::arg("handle") = py::none(), py::arg("owner") = py::none())
      .def_property_readonly("device", &cuda::Stream::device)
      .def_property_readonly(
          "handle",
          [](const cuda::Stream& self) { return reinterpret_cast<std::uintptr_t>(self.handle()); })
      .def("synchronize", &cuda::Stream::synchronize, py::call_guard<py::gil_scoped_release>())
      .def("wait_for", &cuda::wait_for, py::arg("earlier"));
}

}  // namespace

void register_rows(py::module_& m) {
  m.def("devices", &devices);
  m.def("why_no_device", &cuda::why_no_device);
  m.def("free_memory", &cuda::free_memory, py::arg("device"));
  m.def("device_of", [](std::uintptr_t pointer) {
    return cuda::device_of(reinterpret_cast<const void*>(pointer));
  });
  m.def("current_device", &cuda::current_device);
  m.def(
      "synchronize_device",
      [](int device) {
        const cuda::CurrentDevice current(device);
        cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      },
      py::arg("device"), py::call_guard<py::gil_scoped_release>());
  m.def("read_capsule", &read_capsule, py::arg("capsule"));
  register_streams(m);

  py::class_<DeviceRows>(m, "Rows", py::module_local())
      .def(py::init(&rows_at), py::arg("stream"), py::arg("pointer"), py::arg("shape"),
           py::arg("strides"), py::arg("dtype"), py::arg("owner"))
      .def_static("from_host", &from_host, py::arg("array").noconvert(), py::arg("stream"))
      .def_property_readonly(
          "shape",
          [](const DeviceRows& self) { return py::make_tuple(self.view().n, self.view().d); })
      .def_property_readonly(
          "dtype", [](const DeviceRows& self) { return std::string(name_of(self.view().dtype)); })
      .def_property_readonly("device",
                             [](const DeviceRows& self) { return self.stream().device(); })
      .def_property_readonly("stream", [](const DeviceRows& self) { return self.stream(); })
      .def_property_readonly(
          "pointer",
          [](const DeviceRows& self) { return reinterpret_cast<std::uintptr_t>(self.view().data); })
      .def_property_readonly("row_stride",
                             [](const DeviceRows& self) { return self.view().row_stride; })
      .def_property_readonly("nbytes", [](const DeviceRows& self) { return self.rows().nbytes(); })
      .def("to_host", &to_host, py::arg("start") = 0, py::arg("stop") = py::none())
      .def(
          "first_bad",
          [](const DeviceRows& self, double limit) {
            cuda::BadRows bad;
            {
              const py::gil_scoped_release release;  // the caller holds the rows
              bad = self.rows().first_bad(limit);
            }
            return py::make_tuple(bad.not_finite, bad.too_large);
          },
          py::arg("limit"))
      .def(
          "part",
          [](const py::object& self, std::int64_t start, std::int64_t stop) {
            return DeviceRows(self.cast<DeviceRows&>().rows().part(start, stop), self);
          },
          py::arg("start"), py::arg("stop"))
      .def(
          "picked",
          [](const DeviceRows& self, const py::array& indices) {
            const std::int64_t count = indices.size();
            const std::int64_t* places = contiguous<std::int64_t>(indices, count);
            return DeviceRows(self.rows().picked(places, count), py::none());
          },
          py::arg("indices").noconvert())
      .def(
          "widened",
          [](const py::object& self, const std::string& dtype) {
            const cuda::Rows& rows = self.cast<DeviceRows&>().rows();
            return DeviceRows(rows.widened(cuda::dtype_of(parse_element(dtype))), self);
          },
          py::arg("dtype"))
      .def(
          "on",
          [](const py::object& self, const cuda::Stream& stream) {
            return DeviceRows(self.cast<DeviceRows&>().rows().on(stream), self);
          },
          py::arg("stream"))
      .def(
          "copied",
          [](const py::object& self, const cuda::Stream& stream) {
            return DeviceRows(self.cast<DeviceRows&>().rows().copied(stream), self);
          },
          py::arg("stream"));
  py::class_<UploadEngine>(m, "Upload", py::module_local())
      .def(py::init<py::array, const cuda::Stream&, const cuda::Stream&>(),
           py::arg("array").noconvert(), py::arg("stream"), py::arg("copies"))
      .def("advance", &UploadEngine::advance, py::arg("seconds"),
           py::call_guard<py::gil_scoped_release>())  // the array is held, not touched
      .def("rows", &UploadEngine::rows);
}

}  // namespace fastgen::bindings
