// What the parts of keras_tinytrain._runtime have in common.
#ifndef TINYTRAIN_PYTHON_BINDING_H_
#define TINYTRAIN_PYTHON_BINDING_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

#include "../src/tinytrain.h"

namespace py = pybind11;
namespace tt = tinytrain;

using Int8Array = py::array_t<std::int8_t, py::array::c_style>;
using Uint16Array = py::array_t<std::uint16_t, py::array::c_style | py::array::forcecast>;
using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

// Adds each kernel as a function of its own, for comparison with float64.
void AddKernels(py::module_* module);

#endif  // TINYTRAIN_PYTHON_BINDING_H_
