// Declarations that the parts of keras_tinytrain._runtime share.
#ifndef TINYTRAIN_PYTHON_BINDING_H_
#define TINYTRAIN_PYTHON_BINDING_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "tinytrain.h"
#include "tinytrain_closed_form.h"

namespace py = pybind11;
namespace tt = tinytrain;

using Int8Array = py::array_t<std::int8_t, py::array::c_style>;
using Uint16Array = py::array_t<std::uint16_t, py::array::c_style | py::array::forcecast>;
using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

// Throws the exception of the status, with its text and `detail`, unless it is kOk.
void Check(tt::Status status, const std::string& detail = "");
const tt::Tables& TablesAt(std::uintptr_t address);
// The tables' own settings with some replaced.
tt::TrainingSettings SettingsFrom(const tt::Tables& tables, const py::object& overrides);
py::dict SettingsDict(const tt::TrainingSettings& settings);
tt::MemoryParts RequiredParts(const tt::Tables& tables, const tt::TrainingSettings& settings, bool samples_in_flash);
py::dict PartsDict(const tt::MemoryParts& parts);
const tt::Maps* MapsAt(std::uintptr_t address);
// ValueError where the maps are not outputs of the trainable part.
tt::ClosedFormBytes ClosedBytes(const tt::Tables& tables, const tt::Maps& maps, const tt::TrainingSettings& settings,
                                bool samples_in_flash);
py::dict ClosedBytesDict(const tt::ClosedFormBytes& bytes);

// The parts of the module: tables and settings, the trainer, bytes of a closed-form head, functions of deltas, and each kernel
// as a function of its own, for comparison with float64.
void AddTables(py::module_* module);
void AddTrainer(py::module_* module);
void AddClosedForm(py::module_* module);
void AddDeltas(py::module_* module);
void AddKernels(py::module_* module);

#endif  // TINYTRAIN_PYTHON_BINDING_H_
