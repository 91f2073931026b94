#include "tinytrain/trainer/check.h"

#include "tinytrain/backward/operators.h"
#include "tinytrain/trainer/check_gradients.h"
#include "tinytrain_delta.h"
#include "tinytrain/numerics/math.h"
#include "tinytrain/memory/memory.h"
#include "tinytrain/trainer/optimizer.h"
#include "tinytrain/trainer/selection.h"

namespace tinytrain {
namespace {

constexpr std::int32_t kMaxSide = 32767;        // height, width
constexpr std::int32_t kMaxChannels = 65535;    // channel lists are uint16
constexpr std::int32_t kMaxElements = 1 << 24;  // of a tensor or a kernel: 32-bit indices never overflow
constexpr std::int32_t kMaxSamples = 65535;
constexpr std::int32_t kMaxViews = 255;
constexpr std::int32_t kMaxCount = 32767;  // tensors, layers
constexpr std::uint64_t kMaxArena = 1u << 30;

bool InRange(std::int32_t value, std::int32_t lowest, std::int32_t highest) { return value >= lowest && value <= highest; }

bool IsPositive(float value) { return value > 0.0f && IsFinite(value); }

bool ShapeIsValid(std::int32_t height, std::int32_t width, std::int32_t channels) {
  if (!InRange(height, 1, kMaxSide) || !InRange(width, 1, kMaxSide) || !InRange(channels, 1, kMaxChannels)) return false;
  return static_cast<std::int64_t>(height) * width * channels <= kMaxElements;
}

bool TensorIsValid(const Tables& tables, std::int32_t index) {
  const Tensor& tensor = tables.tensors[index];
  if (!ShapeIsValid(tensor.height, tensor.width, tensor.channels)) return false;
  if (!IsPositive(tensor.scale) || !InRange(tensor.zero_point, -128, 127)) return false;
  if (tensor.kept == kStoredSample ? index == tables.num_tensors - 1 : !InRange(tensor.kept, kNone, tables.num_outputs - 1))
    return false;
  if (!InRange(tensor.num_planes, 0, kMaxPlanes) || tensor.num_planes > tensor.channels) return false;
  if (tensor.gradient_offset == kNone) return tensor.num_planes == 0;
  if (tensor.gradient_offset < 0 || tensor.gradient_offset % 4 != 0) return false;
  return static_cast<std::uint64_t>(GradientEnd(tensor)) <= tables.gradient_bytes;
}

// No layer reads or writes the maps of a stored sample, and its values can be counted.
bool StoredIsValid(const Tables& tables) {
  std::int64_t num_stored = 0;
  for (std::int32_t t = 0; t < tables.num_tensors; ++t) {
    const Tensor& tensor = tables.tensors[t];
    if (t > 0 && tensor.kept != kStoredSample) continue;
    num_stored += NumElements(tensor);
    for (std::int32_t l = 0; t > 0 && l < tables.num_layers; ++l) {
      const Layer& layer = tables.layers[l];
      if (layer.input == t || layer.input2 == t || layer.output == t) return false;
    }
  }
  return num_stored <= kMaxElements;
}

bool KernelIsValid(const Tables& tables, const Layer& layer) {
  if (layer.kernel == nullptr || layer.kernel_scales == nullptr) return false;
  const std::int32_t output_channels = tables.tensors[layer.output].channels;
  const std::int64_t row = RowOf(layer.op).weights_per_channel(layer, tables.tensors[layer.input]);
  if (row > kMaxElements || row * output_channels > kMaxElements) return false;
  for (std::int32_t c = 0; c < output_channels; ++c) {
    if (!IsPositive(layer.kernel_scales[c])) return false;
  }
  return true;
}

bool LayerIsValid(const Tables& tables, std::int32_t index) {
  const Layer& layer = tables.layers[index];
  const std::int32_t last = tables.num_tensors - 1;
  const OperatorRow& row = RowOf(layer.op);
  if (row.is_valid == nullptr || layer.activation > Activation::kRelu6) return false;
  if (!InRange(layer.input, 0, last) || !InRange(layer.output, 1, last)) return false;
  const bool two_inputs = row.Has(kTwoInputs);
  if (two_inputs ? !InRange(layer.input2, 0, last) : layer.input2 != kNone) return false;
  const Tensor& output = tables.tensors[layer.output];
  if (!row.is_valid(layer, tables.tensors[layer.input], output)) return false;
  if (two_inputs && !row.is_valid(layer, tables.tensors[layer.input2], output)) return false;
  return !HasKernel(layer.op) || KernelIsValid(tables, layer);
}

bool IsReserved(const char* name) { return SameName(name, kPrototypesName) || SameName(name, kOriginalPrototypesName); }

bool NameIsValid(const char* name) {
  if (name == nullptr || name[0] == '\0' || IsReserved(name)) return false;
  for (std::int32_t n = 0; n <= kMaxNameBytes; ++n) {
    if (name[n] == '\0') return true;
  }
  return false;
}

// A split layer: some channels are trained, some are not, and both have a bias or neither has.
bool SplitIsValid(const TrainedLayer& trained, const Layer& layer, std::int32_t output_channels) {
  if (trained.kernel == nullptr) return trained.bias == nullptr;
  if (RowOf(layer.op).Has(kColumnChannels) || trained.num_channels >= output_channels) return false;
  return (trained.bias == nullptr) == (layer.bias == nullptr);
}

// A candidate has all channels, unlisted and in one piece, and its output, by which they are scored, is kept.
bool CandidateIsValid(const Tables& tables, const TrainedLayer& trained) {
  const std::int32_t output = tables.layers[trained.layer].output;
  if (trained.channels != nullptr || trained.kernel != nullptr || trained.bias != nullptr) return false;
  return trained.num_channels == tables.tensors[output].channels && tables.tensors[output].kept != kNone;
}

bool ChannelsAreValid(const Tables& tables, const TrainedLayer& trained) {
  const Layer& layer = tables.layers[trained.layer];
  const std::int32_t output_channels = tables.tensors[layer.output].channels;
  if (!InRange(trained.num_channels, 1, output_channels) || trained.channels == nullptr) return false;
  if (!SplitIsValid(trained, layer, output_channels)) return false;
  for (std::int32_t n = 0; n < trained.num_channels; ++n) {
    if (trained.channels[n] >= output_channels) return false;
    if (n > 0 && trained.channels[n] <= trained.channels[n - 1]) return false;
  }
  return true;
}

bool TrainedIsValid(const Tables& tables, std::int32_t index) {
  const TrainedLayer& trained = tables.trained[index];
  const std::int32_t previous = index > 0 ? tables.trained[index - 1].layer : -1;
  if (!InRange(trained.layer, previous + 1, tables.num_layers - 1) || !NameIsValid(trained.name)) return false;
  const Layer& layer = tables.layers[trained.layer];
  if (!HasKernel(layer.op) || trained.kernel_tensor < 0) return false;
  if (layer.bias == nullptr ? trained.bias_tensor != kNone : trained.bias_tensor < 0) return false;
  if (!HasGradient(tables, layer.output) || tables.tensors[layer.input].kept == kNone) return false;
  const bool is_candidate = tables.candidates.num_layers > 0;
  if (!(is_candidate ? CandidateIsValid(tables, trained) : ChannelsAreValid(tables, trained))) return false;
  for (std::int32_t t = 0; t < index; ++t) {
    if (SameName(tables.trained[t].name, trained.name)) return false;
  }
  return true;
}

// Whether twice the multiply-accumulates of all layers fit 32 bits. No backward pass needs more.
bool MacsAreCountable(const Tables& tables) {
  std::uint64_t macs = 0;
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    const Layer& layer = tables.layers[l];
    if (!HasKernel(layer.op)) continue;
    const auto row = static_cast<std::uint64_t>(LayoutOf(tables, layer).weights_per_channel);
    macs += 2 * row * static_cast<std::uint64_t>(NumElements(tables.tensors[layer.output]));
  }
  return macs < 0xffffffffu;
}

bool CandidatesAreValid(const Tables& tables) {
  const Candidates& candidates = tables.candidates;
  if (candidates.num_layers == 0) return true;
  if (candidates.num_layers != tables.num_trained || !InRange(candidates.num_layers, 1, kMaxCandidates)) return false;
  if (!MacsAreCountable(tables)) return false;
  std::int64_t num_channels = 0;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) num_channels += tables.trained[t].num_channels;
  return candidates.num_channels == num_channels && candidates.criterion <= Criterion::kPerWeightAndMac;
}

bool HeaderIsValid(const Tables& tables) {
  if (tables.head > Head::kSoftmax) return false;
  if (!ShapeIsValid(tables.image_height, tables.image_width, tables.image_channels)) return false;
  if (!InRange(tables.num_tensors, 2, kMaxCount) || tables.tensors == nullptr) return false;
  if (!InRange(tables.num_layers, 1, kMaxCount) || tables.layers == nullptr) return false;
  if (!InRange(tables.num_trained, 1, tables.num_layers) || tables.trained == nullptr) return false;
  if (!InRange(tables.num_outputs, 1, kMaxOutputs) || !InRange(tables.head_output, 0, tables.num_outputs - 1)) return false;
  if (!InRange(tables.num_views, 0, kMaxViews) || (tables.num_views > 0 && tables.views == nullptr)) return false;
  return tables.gradient_bytes <= kMaxArena;
}

// Whether the rounded parts fit 32 bits, which MeasureParts relies on.
bool ArenaIsAddressable(const Tables& tables, const TrainingSettings& settings) {
  const auto product = [](std::int32_t a, std::int32_t b) {
    return static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b);
  };
  const std::int32_t dimension = NumElements(tables.tensors[tables.num_tensors - 1]);
  std::uint64_t bytes = tables.gradient_bytes + 28 * product(settings.num_classes, dimension);
  bytes += product(settings.max_samples, dimension);
  bytes += product(settings.max_samples, 1 + tables.num_views) * product(NumStored(tables) + 256, 1);  // in flash
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    const KernelLayout layout = LayoutOf(tables, tables.layers[tables.trained[t].layer]);
    bytes += 21 * product(layout.output_channels, layout.weights_per_channel + 1);  // int8, and five floats at most
  }
  return bytes <= kMaxArena;
}

}  // namespace

Status CheckTables(const Tables& tables) {
  if (tables.version != kTablesVersion) return Status::kVersionMismatch;
  if (!HeaderIsValid(tables)) return Status::kInvalidTables;
  for (std::int32_t t = 0; t < tables.num_tensors; ++t) {
    if (!TensorIsValid(tables, t)) return Status::kInvalidTables;
  }
  for (std::int32_t l = 0; l < tables.num_layers; ++l) {
    if (!LayerIsValid(tables, l)) return Status::kInvalidTables;
  }
  if (!StoredIsValid(tables) || !OrderIsValid(tables) || !GradientsAreValid(tables)) return Status::kInvalidTables;
  for (std::int32_t t = 0; t < tables.num_trained; ++t) {
    if (!TrainedIsValid(tables, t)) return Status::kInvalidTables;
  }
  if (!CandidatesAreValid(tables)) return Status::kInvalidTables;
  return Status::kOk;
}

Status CheckSettings(const Tables& tables, const TrainingSettings& settings) {
  if (!OptimizerIsValid(settings)) return Status::kInvalidSettings;
  if (settings.weights > WeightStorage::kInt8 || settings.updates > Updates::kImmediate) return Status::kInvalidSettings;
  if (!(settings.learning_rate >= 0.0f) || !IsFinite(settings.learning_rate)) return Status::kInvalidSettings;
  if (settings.iterations < 0 || !InRange(settings.max_samples, 1, kMaxSamples)) return Status::kInvalidSettings;
  if (!InRange(settings.num_classes, 1, 255)) return Status::kInvalidSettings;
  if (tables.head == Head::kPrototypes && !IsPositive(settings.logit_scale)) return Status::kInvalidSettings;
  if (!(settings.average >= 0.0f && settings.average <= 1.0f)) return Status::kInvalidSettings;
  const bool leaves_out =
      settings.stop_loss > 0.0f || settings.skip_loss > 0.0f || settings.late_prototypes || settings.only_if_needed;
  if (!kMayLeaveOut && leaves_out) return Status::kInvalidSettings;
  if (tables.head == Head::kSoftmax && settings.num_classes != NumElements(tables.tensors[tables.num_tensors - 1])) {
    return Status::kInvalidSettings;
  }
  return ArenaIsAddressable(tables, settings) ? Status::kOk : Status::kInvalidSettings;
}

}  // namespace tinytrain
