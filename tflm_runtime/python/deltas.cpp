// Functions of saved deltas.
#include <stdexcept>
#include <string>
#include <vector>

#include "tinytrain_delta.h"
#include "tinytrain/delta/format.h"
#include "tinytrain_merge.h"
#include "binding.h"

namespace {

using Combine = tt::Status (*)(const std::uint8_t*, std::size_t, const std::uint8_t*, std::size_t, std::uint8_t*, std::size_t,
                               std::size_t*);

// Measures first, then writes into exactly as many bytes.
template <Combine kFunction>
py::bytes CallCombine(const py::bytes& earlier, const py::bytes& later) {
  const std::string a = earlier, b = later;
  const auto* a_data = reinterpret_cast<const std::uint8_t*>(a.data());
  const auto* b_data = reinterpret_cast<const std::uint8_t*>(b.data());
  std::size_t needed = 0, written = 0;
  Check(kFunction(a_data, a.size(), b_data, b.size(), nullptr, 0, &needed));
  std::vector<std::uint8_t> data(needed);
  if (kFunction(a_data, a.size(), b_data, b.size(), data.data(), needed - 1, nullptr) != tt::Status::kBufferTooSmall) {
    throw std::logic_error("a buffer that is too small was not refused");
  }
  Check(kFunction(a_data, a.size(), b_data, b.size(), data.data(), needed, &written));
  return py::bytes(reinterpret_cast<const char*>(data.data()), written);
}

std::uint32_t CallCrc32(const py::bytes& data, std::uint32_t crc) {
  const std::string text = data;
  return tt::Crc32(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), crc);
}

py::object CallNewestDelta(const py::bytes& slot_0, const py::bytes& slot_1) {
  const std::string a = slot_0, b = slot_1;
  if (a.size() != b.size()) throw py::value_error("both slots must have the same size");
  const std::int32_t slot = tt::NewestDelta(reinterpret_cast<const std::uint8_t*>(a.data()),
                                            reinterpret_cast<const std::uint8_t*>(b.data()), a.size());
  if (slot == tt::kNone) return py::none();
  return py::int_(slot);
}

}  // namespace

void AddDeltas(py::module_* module) {
  py::module_& m = *module;
  m.def("crc32", &CallCrc32, py::arg("data"), py::arg("crc") = 0);
  const char* combine_doc = "(earlier, later) -> the delta of both, as bytes";
  m.def("merge_deltas", &CallCombine<&tt::MergeDeltas>, combine_doc);
  m.def("diff_deltas", &CallCombine<&tt::DiffDeltas>, combine_doc);
  m.def("newest_delta", &CallNewestDelta, py::arg("slot_0"), py::arg("slot_1"), "0, 1 or None.");
}
