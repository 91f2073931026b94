// Tables and training settings, from and to Python's values.
#include <stdexcept>
#include <string>

#include "tinytrain/backward/operators.h"
#include "tinytrain/trainer/check.h"
#include "tinytrain/memory/weights.h"
#include "binding.h"

void Check(tt::Status status, const std::string& detail) {
  if (status == tt::Status::kOk) return;
  const std::string text = tt::StatusText(status) + detail;
  switch (status) {
    case tt::Status::kFull:
    case tt::Status::kNotEnoughSamples:
    case tt::Status::kModelFailed:
    case tt::Status::kFlashFailed:
    case tt::Status::kNotSelected:
    case tt::Status::kScoresNotFinite:
    case tt::Status::kNothingOlder:
    case tt::Status::kNotTrained: throw std::runtime_error(text);
    default: throw py::value_error(text);
  }
}

const tt::Tables& TablesAt(std::uintptr_t address) {
  if (address == 0) throw py::value_error("the address of the tables is 0");
  return *reinterpret_cast<const tt::Tables*>(address);
}

namespace {

// An enumeration of tinytrain_tables.h: {name in Python: enumerator} and {enumerator: number}. The header is their only source.
struct Names {
  explicit Names(const char* name) {
    const py::module_ headers = py::module_::import("keras_tinytrain.tflm_runtime.headers");
    names = headers.attr("names")("tinytrain_tables.h", name);
    numbers = headers.attr("enum")("tinytrain_tables.h", name);
  }
  py::dict names, numbers;
};

template <typename Enum>
void Assign(Enum* target, const py::handle& value, const std::string& setting, const char* enumeration) {
  const Names known(enumeration);
  const py::str text(value);
  if (!known.names.contains(text)) {
    const std::string all = py::str(", ").attr("join")(known.names).cast<std::string>();
    throw py::value_error(setting + " must be one of " + all + ", received " + std::string(text));
  }
  const py::object enumerator = known.names[text];
  *target = static_cast<Enum>(known.numbers[enumerator].cast<int>());
}

template <typename Enum>
py::object NameOf(Enum value, const char* enumeration) {
  const Names known(enumeration);
  for (const auto& item : known.names) {
    if (known.numbers[item.second].cast<int>() == static_cast<int>(value))
      return py::reinterpret_borrow<py::object>(item.first);
  }
  throw py::index_error(std::string("the tables hold a number that is no ") + enumeration);
}

}  // namespace

tt::TrainingSettings SettingsFrom(const tt::Tables& tables, const py::object& overrides) {
  tt::TrainingSettings settings = tables.training;
  if (overrides.is_none()) return settings;
  for (const auto& item : overrides.cast<py::dict>()) {
    const std::string key = py::str(item.first);
    if (key == "optimizer")
      Assign(&settings.optimizer, item.second, key, "Optimizer");
    else if (key == "weights")
      Assign(&settings.weights, item.second, key, "WeightStorage");
    else if (key == "updates")
      Assign(&settings.updates, item.second, key, "Updates");
    else if (key == "leave_one_out")
      settings.leave_one_out = item.second.cast<bool>();
    else if (key == "learning_rate")
      settings.learning_rate = item.second.cast<float>();
    else if (key == "momentum")
      settings.momentum = item.second.cast<float>();
    else if (key == "beta_2")
      settings.beta_2 = item.second.cast<float>();
    else if (key == "epsilon")
      settings.epsilon = item.second.cast<float>();
    else if (key == "logit_scale")
      settings.logit_scale = item.second.cast<float>();
    else if (key == "average")
      settings.average = item.second.cast<float>();
    else if (key == "iterations")
      settings.iterations = item.second.cast<std::int32_t>();
    else if (key == "num_classes")
      settings.num_classes = item.second.cast<std::int32_t>();
    else if (key == "max_samples")
      settings.max_samples = item.second.cast<std::int32_t>();
    else if (key == "seed")
      settings.seed = item.second.cast<std::uint32_t>();
    else if (key == "stop_loss")
      settings.stop_loss = item.second.cast<float>();
    else if (key == "skip_loss")
      settings.skip_loss = item.second.cast<float>();
    else if (key == "late_prototypes")
      settings.late_prototypes = item.second.cast<bool>();
    else if (key == "only_if_needed")
      settings.only_if_needed = item.second.cast<bool>();
    else
      throw py::value_error("unknown setting '" + key +
                            "'; known are optimizer, weights, updates, leave_one_out, "
                            "learning_rate, momentum, beta_2, epsilon, logit_scale, average, iterations, num_classes, "
                            "max_samples, seed, stop_loss, skip_loss, late_prototypes, only_if_needed");
  }
  return settings;
}

py::dict SettingsDict(const tt::TrainingSettings& s) {
  py::dict d;
  d["optimizer"] = NameOf(s.optimizer, "Optimizer");
  d["weights"] = NameOf(s.weights, "WeightStorage");
  d["updates"] = NameOf(s.updates, "Updates");
  d["leave_one_out"] = s.leave_one_out;
  d["learning_rate"] = s.learning_rate;
  d["momentum"] = s.momentum;
  d["beta_2"] = s.beta_2;
  d["epsilon"] = s.epsilon;
  d["logit_scale"] = s.logit_scale;
  d["average"] = s.average;
  d["iterations"] = s.iterations;
  d["num_classes"] = s.num_classes;
  d["max_samples"] = s.max_samples;
  d["seed"] = s.seed;
  d["stop_loss"] = s.stop_loss;
  d["skip_loss"] = s.skip_loss;
  d["late_prototypes"] = s.late_prototypes;
  d["only_if_needed"] = s.only_if_needed;
  return d;
}

py::dict PartsDict(const tt::MemoryParts& p) {
  py::dict d;
  d["samples"] = p.samples;
  d["plan"] = p.plan;
  d["weights"] = p.weights;
  d["masters"] = p.masters;
  d["optimizer"] = p.optimizer;
  d["prototypes"] = p.prototypes;
  d["state"] = p.state;
  d["features"] = p.features;
  d["image"] = p.image;
  d["weight_gradients"] = p.weight_gradients;
  d["activation_gradients"] = p.activation_gradients;
  d["head"] = p.head;
  d["scratch"] = p.scratch;
  d["total"] = p.total;
  return d;
}

tt::MemoryParts RequiredParts(const tt::Tables& tables, const tt::TrainingSettings& settings, bool samples_in_flash) {
  Check(tt::CheckTables(tables));
  Check(tt::CheckSettings(tables, settings));
  tt::MemoryParts parts;
  tt::Trainer::RequiredBytes(tables, settings, &parts, samples_in_flash);
  return parts;
}

namespace {

py::dict TensorDict(const tt::Tensor& t) {
  py::dict d;
  d["shape"] = py::make_tuple(1, t.height, t.width, t.channels);
  d["scale"] = t.scale;
  d["zero_point"] = t.zero_point;
  d["kept"] = t.kept;
  d["gradient_offset"] = t.gradient_offset;
  return d;
}

py::dict TrainedDict(const tt::Tables& tables, const tt::TrainedLayer& t) {
  const tt::KernelLayout layout = tt::LayoutOf(tables, tables.layers[t.layer]);
  py::dict d;
  d["name"] = t.name;
  d["layer"] = t.layer;
  d["kernel_tensor"] = t.kernel_tensor;
  d["bias_tensor"] = t.bias_tensor;
  d["channels"] = t.channels == nullptr ? py::object(py::none()) : Uint16Array(t.num_channels, t.channels);
  d["output_channels"] = layout.output_channels;
  d["weights_per_channel"] = layout.weights_per_channel;
  return d;
}

// (output channels, weights of each); (0, 0): the operator has no kernel.
py::tuple KernelShape(const tt::Tables& tables, const tt::Layer& layer) {
  if (!tt::HasKernel(layer.op)) return py::make_tuple(0, 0);
  const tt::KernelLayout layout = tt::LayoutOf(tables, layer);
  return py::make_tuple(layout.output_channels, layout.weights_per_channel);
}

// A dict an operator, by its number.
py::list OperatorRows() {
  py::list rows;
  for (int number = 0; number < 256; ++number) {
    const tt::OperatorRow& row = tt::RowOf(static_cast<tt::Operator>(number));
    if (row.is_valid == nullptr) break;
    py::dict d;
    d["two_inputs"] = row.Has(tt::kTwoInputs);
    d["in_place"] = row.Has(tt::kInPlace);
    d["reads_input"] = row.Has(tt::kReadsInput);
    d["reads_output"] = row.Has(tt::kReadsOutput);
    d["has_kernel"] = row.weights_per_channel != nullptr;
    rows.append(d);
  }
  return rows;
}

py::dict TablesInfo(std::uintptr_t address) {
  const tt::Tables& tables = TablesAt(address);
  Check(tt::CheckTables(tables));
  py::list tensors, kernels, trained;
  for (std::int32_t i = 0; i < tables.num_tensors; ++i) tensors.append(TensorDict(tables.tensors[i]));
  for (std::int32_t i = 0; i < tables.num_layers; ++i) kernels.append(KernelShape(tables, tables.layers[i]));
  for (std::int32_t i = 0; i < tables.num_trained; ++i) trained.append(TrainedDict(tables, tables.trained[i]));
  py::dict d;
  d["version"] = tables.version;
  d["base_hash"] = py::bytes(reinterpret_cast<const char*>(tables.base_hash), sizeof(tables.base_hash));
  d["head"] = tables.head == tt::Head::kPrototypes ? "prototypes" : "softmax";
  d["image_shape"] = py::make_tuple(1, tables.image_height, tables.image_width, tables.image_channels);
  d["image_scale"] = tables.image_scale;
  d["image_zero_point"] = tables.image_zero_point;
  d["tensors"] = tensors;
  d["num_layers"] = tables.num_layers;
  d["kernels"] = kernels;
  d["trained"] = trained;
  d["num_outputs"] = tables.num_outputs;
  d["head_output"] = tables.head_output;
  d["num_views"] = tables.num_views;
  d["gradient_bytes"] = tables.gradient_bytes;
  d["training"] = SettingsDict(tables.training);
  d["num_candidates"] = tables.candidates.num_layers;
  return d;
}

}  // namespace

void AddTables(py::module_* module) {
  py::module_& m = *module;
  m.def(
      "required_bytes",
      [](std::uintptr_t tables, const py::object& settings, bool samples_in_flash) {
        return PartsDict(RequiredParts(TablesAt(tables), SettingsFrom(TablesAt(tables), settings), samples_in_flash));
      },
      py::arg("tables"), py::arg("settings") = py::none(), py::arg("samples_in_flash") = false,
      "Bytes of each part, of 'state' and 'scratch', and 'total'.");
  m.def(
      "flash_samples_bytes",
      [](std::uintptr_t tables, const py::object& settings) {
        return tt::FlashSamplesBytes(TablesAt(tables), SettingsFrom(TablesAt(tables), settings));
      },
      py::arg("tables"), py::arg("settings") = py::none(), "Flash that stored samples take, if it keeps them.");
  m.def("operator_rows", &OperatorRows, "The properties of each operator that the runtime knows, by its number.");
  m.def("tables_info", &TablesInfo, py::arg("tables"), "The tables at an address as a dict; checks them.");
  m.def(
      "check_tables", [](std::uintptr_t tables) { return std::string(tt::StatusText(tt::CheckTables(TablesAt(tables)))); },
      py::arg("tables"), "'ok', or the error's text.");
}
