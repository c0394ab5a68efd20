// A prepared set that keeps its NumPy array alive.
#pragma once

#include <string>

#include "bindings/arrays.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/prepared.hpp"

namespace fastgen::bindings {

inline cpu::Path parse_path(const std::string& name) {
  if (name == "auto") return cpu::Path::automatic;
  if (name == "int8") return cpu::Path::int8;
  if (name == "float32") return cpu::Path::float32;
  FASTGEN_CHECK(name == "scan");
  return cpu::Path::scan;
}

class PreparedRows {
 public:
  PreparedRows(const py::array& x, const std::string& path, const std::string& isa, int threads)
      : array_(x), rows_(row_view(x), parse_path(path), cpu::select_kernels(isa), threads) {}

  cpu::Prepared& rows() { return rows_; }
  const cpu::Prepared& rows() const { return rows_; }
  std::string path() const {
    switch (rows_.path()) {
      case cpu::Path::automatic:
        return "auto";
      case cpu::Path::int8:
        return "int8";
      case cpu::Path::float32:
        return "float32";
      case cpu::Path::scan:
        return "scan";
    }
    return "";
  }

 private:
  py::array array_;
  cpu::Prepared rows_;
};

}  // namespace fastgen::bindings
