// Bytes of a closed-form head.
#include "tinytrain_closed_form.h"

#include "binding.h"

const tt::Maps* MapsAt(std::uintptr_t address) { return reinterpret_cast<const tt::Maps*>(address); }

tt::ClosedFormBytes ClosedBytes(const tt::Tables& tables, const tt::Maps& maps, const tt::TrainingSettings& settings,
                                bool samples_in_flash) {
  const tt::ClosedFormBytes bytes = tt::ClosedForm::RequiredBytes(tables, settings, maps, samples_in_flash);
  if (bytes.state == 0) throw py::value_error("the maps of the closed-form head are not outputs of the trainable part");
  return bytes;
}

py::dict ClosedBytesDict(const tt::ClosedFormBytes& bytes) {
  py::dict d;
  d["state"] = bytes.state;
  d["scratch"] = bytes.scratch;
  d["scratch_rows"] = bytes.scratch_rows;
  d["flash_weights"] = bytes.flash_weights;
  d["flash_rows"] = bytes.flash_rows;
  return d;
}

void AddClosedForm(py::module_* module) {
  module->def(
      "closed_form_bytes",
      [](std::uintptr_t tables, std::uintptr_t maps, const py::object& settings, bool samples_in_flash) {
        const tt::Tables& found = TablesAt(tables);
        return ClosedBytesDict(ClosedBytes(found, *MapsAt(maps), SettingsFrom(found, settings), samples_in_flash));
      },
      py::arg("tables"), py::arg("maps"), py::arg("settings") = py::none(), py::arg("samples_in_flash") = false,
      "Bytes of a closed-form head: 'state', 'scratch' with its rows in flash, 'scratch_rows' with them there; "
      "'flash_weights' of each solution and 'flash_rows'.");
}
