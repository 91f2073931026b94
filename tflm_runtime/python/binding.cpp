// keras_tinytrain._runtime: the C++ runtime from Python, for running a training on the host and for testing every part of it.
//
// Tables are passed as an address, as ctypes finds it in a compiled tables.cpp. Forward passes are Python callables. What goes
// wrong raises: ValueError for what was passed in, RuntimeError for the order of calls; an exception in a callable comes out.
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
  AddDeltas(&m);
  AddKernels(&m);
}
