// keras_tinytrain._runtime: the C++ runtime from Python, for running a training on the host and for testing every part of it.
//
// Tables are passed as an address, which ctypes finds in a compiled tables.cpp. Forward passes are Python callables. Wrong
// arguments raise ValueError, calls in a wrong order RuntimeError. An exception in a callable is raised again.
#include "binding.h"

#include "tinytrain_delta.h"

PYBIND11_MODULE(_runtime, m) {
  m.doc() = "The C++ runtime: a trainer over exported tables, and its kernels one by one.";
  m.attr("TABLES_VERSION") = tt::kTablesVersion;
  m.attr("DELTA_VERSION") = tt::kDeltaVersion;
  m.attr("MAX_OUTPUTS") = tt::kMaxOutputs;
  m.attr("FLASH_BLOCK_BYTES") = tt::kFlashBlockBytes;

  m.def("status_text", [](int status) { return std::string(tt::StatusText(static_cast<tt::Status>(status))); });
  AddTables(&m);
  AddTrainer(&m);
  AddClosedForm(&m);
  AddDeltas(&m);
  AddKernels(&m);
}
